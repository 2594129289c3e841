//! Real data sets and odd files, where they are at hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use distillery::job::{Data, Decode};
use distillery::source::{Keep, Kind, Orientation, Source};
use distillery::train::data::decode::{self, header};
use distillery::train::data::{self, DataSet, Images};

fn open(folder: &Path) -> DataSet {
    data::open(&source(folder)).unwrap()
}

fn source(folder: &Path) -> Source {
    Source::files(data::kind(folder).unwrap(), folder)
}

fn identity(folder: &Path) -> Data {
    data::identify(&source(folder), &open(folder))
}

fn pixels(images: &Images, index: usize) -> Vec<u8> {
    images.see(index, |image| image.pixels.to_vec()).unwrap()
}

fn decode(bytes: &[u8], channels: usize) -> anyhow::Result<(usize, usize, Vec<u8>)> {
    decode::decode(bytes, channels, Orientation::Stored)
}

/// Data too large for the repository: beside it, or where the variable says.
pub fn large(part: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("DISTILLERY_TEST_DATA").map_or(beside, PathBuf::from);
    let found = Some(folder.join(part)).filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: there is no `{}` (DISTILLERY_TEST_DATA names another folder)", folder.join(part).display());
    }
    found
}

#[test]
fn parquet_of_one_size_and_of_many() {
    for (name, train, test) in [("cifar10", 20_000, 1000), ("imagenette-64", 9469, 3925)] {
        let Some(folder) = large(name) else { return };
        assert_eq!(data::kind(&folder), Some(Kind::Parquet));
        let set = open(&folder);
        assert_eq!(
            (set.train.len(), set.validation.len(), set.test.len(), set.classes),
            (train, 0, test, 10),
            "{name}"
        );
        assert_eq!(set.train.channels, 3);
        let about = data::identify(&source(&folder), &set);
        assert_eq!((about.name.as_str(), about.train_images, about.test_images), (name, train as u32, test as u32));
        // Colours are where they belong: the first test image of CIFAR-10 is a cat on brown, lossless.
        if name == "cifar10" {
            assert_eq!((set.test.size(), &pixels(&set.test, 0)[..3]), (Some((32, 32)), &[158u8, 112, 49][..]));
            assert_eq!((set.test.labels[0], set.names.unwrap()[3].as_str()), (3, "cat"));
        }
    }
}

/// Names lie, images are grey, palettes, transparent: all are what their bytes say.
#[test]
fn odd_files_are_what_their_bytes_say() {
    let Some(folder) = large("messy") else { return };
    let mut seen = 0;
    for class in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(class.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (height, width, pixels) = decode(&bytes, 3).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(pixels.len(), height * width * 3, "{name}");
            // As PIL has them.
            let expected = match name.as_str() {
                "sun_bvnknudhvijnrlew.jpg" => Some(((300, 220), true)),
                "sun_bjvrlaeatjufekft.jpg" => Some(((202, 312), true)),
                "sun_afcwsapxpihedtku.jpg" => Some(((225, 300), true)),
                "banded_0044.jpg" => Some(((300, 300), false)),
                "n02692877_airship.JPEG" => Some(((156, 350), false)),
                _ => None,
            };
            if let Some((size, colour)) = expected {
                assert_eq!(
                    ((height, width), header(&bytes, Orientation::Stored).unwrap().colour),
                    (size, colour),
                    "{name}"
                );
            }
            let grey = decode(&bytes, 1).unwrap();
            assert_eq!(grey.2.len(), height * width);
            assert!(pixels.iter().collect::<BTreeSet<_>>().len() > 10, "{name} has a picture");
            for length in [20, bytes.len() / 3, bytes.len() - 40] {
                assert!(decode(&bytes[..length], 3).is_err(), "{name}, {length} of {} bytes", bytes.len());
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 18);
    assert!(decode(b"no image at all", 3).unwrap_err().to_string().contains("no image: neither JPEG"));
}

/// Flowers: a directory for every class, JPEGs of many sizes, in an order that mixes classes and is always the same.
#[test]
fn folders_have_their_classes_in_every_slice() {
    let Some(folder) = large("flowers17-160") else { return };
    assert_eq!(data::kind(&folder), Some(Kind::Folder));
    let set = open(&folder);
    assert_eq!((set.train.len(), set.test.len(), set.classes), (1088, 272, 17));
    assert_eq!(set.names.as_ref().unwrap()[7], "08_tulip");
    assert_eq!((set.train.size(), set.train.channels), (None, 3));
    let (width, height) = set.train.size_of(0);
    assert_eq!(width.min(height), 160);
    let last_tenth: BTreeSet<u32> = set.train.labels[980..].iter().copied().collect();
    assert!(last_tenth.len() > 12, "a slice holds {} classes", last_tenth.len());
}

/// The binary files hold what the lossless parquet holds.
#[test]
fn binary_cifar_is_the_same_cifar() {
    let (Some(binary), Some(parquet)) = (large("cifar10-bin"), large("cifar10")) else { return };
    assert_eq!(data::kind(&binary), Some(Kind::Cifar));
    let (found, expected) = (open(&binary), open(&parquet));
    assert_eq!((found.train.len(), found.test.len(), found.classes), (0, 1000, 10));
    assert_eq!((&found.names, &found.test.labels), (&expected.names, &expected.test.labels));
    for index in 0..1000 {
        assert_eq!(pixels(&found.test, index), pixels(&expected.test, index), "image {index}");
    }
}

fn picture(path: &Path, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_fn(6, 5, |x, y| image::Luma([shade.wrapping_add((7 * x + y) as u8)])).save(path).unwrap();
}

#[test]
fn one_tree_is_split_by_its_slices_and_broken_files_are_listed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("shades");
    for class in ["dark", "light"] {
        for index in 0..20 {
            let shade = if class == "dark" { 10 + index } else { 180 + index };
            picture(&root.join(class).join(format!("{index}.png")), shade);
        }
    }
    fs::write(root.join("dark/.DS_Store"), "hidden").unwrap();
    assert_eq!(data::kind(&root), Some(Kind::Folder));
    let set = open(&root);
    assert_eq!((set.train.len(), set.test.len(), set.train.channels), (40, 0, 1));
    assert_eq!(set.names.as_deref(), Some(&["dark".to_owned(), "light".to_owned()][..]));
    for (index, label) in set.train.labels.iter().enumerate() {
        assert_eq!(pixels(&set.train, index)[0] > 100, *label == 1);
    }
    // Elsewhere under another name it is the same data.
    let before = identity(&root);
    let moved = place.path().join("moved");
    fs::rename(&root, &moved).unwrap();
    assert_eq!(identity(&moved).sha256, before.sha256);
    picture(&moved.join("light/0.png"), 3);
    assert_ne!(identity(&moved).sha256, before.sha256);

    let experiment = r#"
        [base]
        data = { folder = "../moved" }
        split = { train = "train[:60%]", validation = "train[60%:80%]", test = "train[80%:]" }
        objective = "labels"
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 6
        learning-rate = 1e-2
        batch = 8
        epochs = 2
    "#;
    fs::create_dir(place.path().join("experiments")).unwrap();
    fs::write(place.path().join("experiments/shades.toml"), experiment).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(place.path()).args(["run", "shades", "--no-report", "--quiet", "--device", "cpu"]);
        command.output().unwrap()
    };
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    fs::write(moved.join("dark/3.png"), "no picture").unwrap();
    let whole = fs::read(moved.join("light/4.png")).unwrap();
    fs::write(moved.join("light/4.png"), &whole[..whole.len() / 2]).unwrap();
    let output = run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    // All of them at once, before anything trains.
    for part in ["2 images of `moved` cannot be read", "dark/3.png", "light/4.png", "hint: "] {
        assert!(said.contains(part), "{said}");
    }
    // By choice they are left out, named and counted.
    let skipping = experiment.replace(r#"{ folder = "../moved" }"#, r#"{ folder = "../moved", broken = "skip" }"#);
    fs::write(place.path().join("experiments/shades.toml"), skipping).unwrap();
    let output = run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: 2 images of `moved`") && said.contains("light/4.png"), "{said}");
}

/// Decoded in memory or encoded: the same pixels, labels and identity.
#[test]
fn images_are_the_same_however_they_are_held() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("shades");
    for index in 0..9u8 {
        picture(&root.join(["a", "b"][usize::from(index % 2)]).join(format!("{index}.png")), 20 * index);
    }
    let before = identity(&root);
    let held = |keep| open(&root).hold(keep, Decode::Full).unwrap();
    let all = |set: &DataSet| (0..9).map(|index| pixels(&set.train, index)).collect::<Vec<_>>();
    let encoded = held(Keep::Encoded);
    for keep in [Keep::Auto, Keep::Memory] {
        let set = held(keep);
        assert_eq!((all(&set), &set.train.labels), (all(&encoded), &encoded.train.labels), "{keep:?}");
        assert_eq!(data::identify(&source(&root), &set), before);
    }
    let colour = held(Keep::Memory).with_channels(3);
    assert_eq!(pixels(&colour.train, 0)[..3], [pixels(&encoded.train, 0)[0]; 3]);
    assert_eq!(all(&colour), all(&held(Keep::Encoded).with_channels(3)));
    // What changes under somebody's feet is noticed.
    picture(&root.join("a/0.png"), 77);
    let errors: Vec<String> =
        (0..9).filter_map(|index| encoded.train.see(index, |_| ()).err()).map(|error| format!("{error:#}")).collect();
    assert!(errors.len() == 1 && errors[0].contains("changed while it was used"), "{errors:?}");
}

/// One cache for all: turned images are others than stored ones, and what was damaged in it is made again.
#[test]
fn decoded_files_are_those_of_their_images() {
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    for index in 0..12u8 {
        let class = place.path().join("photos").join(["a", "b"][usize::from(index % 2)]);
        fs::create_dir_all(&class).unwrap();
        let mut bytes = include_bytes!("../golden/on_its_side.jpg").to_vec();
        // A comment, so that files differ.
        bytes.splice(2..2, [0xff, 0xfe, 0, 3, index]);
        fs::write(class.join(format!("{index}.jpg")), bytes).unwrap();
    }
    let losses = |orientation: &str, images: &str| -> String {
        let text = format!(
            r#"
            [run]
            images = "{images}"
            [base]
            data = {{ folder = "../photos", orientation = "{orientation}" }}
            split = {{ train = "train[:8]", validation = "train[8:10]", test = "train[10:]" }}
            objective = "labels"
            student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
            resolution = 8
            learning-rate = 1e-2
            batch = 4
            epochs = 2
            "#
        );
        let folder = tempfile::tempdir_in(place.path()).unwrap();
        fs::create_dir(folder.path().join("experiments")).unwrap();
        fs::write(folder.path().join("experiments/turned.toml"), text.replace("../photos", "../../photos")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(folder.path()).env("DISTILLERY_CACHE", &cache);
        let output =
            command.args(["run", "turned", "--no-report", "--quiet", "--device", "cpu", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told["jobs"][0]["last"]["training-loss"].to_string()
    };
    let (stored, turned) = (losses("stored", "disk"), losses("exif", "disk"));
    assert_ne!(stored, turned);
    assert_eq!((losses("exif", "memory"), losses("exif", "encoded")), (turned.clone(), turned.clone()));
    assert_eq!(losses("stored", "encoded"), stored);
    let files: Vec<PathBuf> = fs::read_dir(cache.join("decoded")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let mut bytes = fs::read(&file).unwrap();
        bytes.iter_mut().take(200).for_each(|byte| *byte = !*byte);
        fs::write(file, bytes).unwrap();
    }
    assert_eq!(losses("exif", "disk"), turned);
}

/// An image that claims more pixels than there can be is broken like any other, and named.
#[test]
fn claims_of_huge_images_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("shades");
    (0..4).for_each(|index| picture(&root.join("a").join(format!("{index}.png")), 20 * index));
    let mut bitmap = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(40, 28).write_to(&mut bitmap, image::ImageFormat::Bmp).unwrap();
    let mut bytes = bitmap.into_inner();
    bytes[21] = 0x7f;
    bytes[25] = 0x7f;
    fs::write(root.join("a/huge.bmp"), bytes).unwrap();
    let error = data::open(&source(&root)).unwrap_err().to_string();
    assert!(error.starts_with("1 image of `shades` cannot be read") && error.contains("huge.bmp"), "{error}");
    let skipping = Source { broken: distillery::source::Broken::Skip, ..source(&root) };
    let set = data::open(&skipping).unwrap();
    assert_eq!((set.train.len(), set.skipped.len()), (4, 1));
}

/// The counts of every set at hand, through the program, with a sheet to look at.
#[test]
fn every_set_is_inspected() {
    let place = tempfile::tempdir().unwrap();
    let inspect = |path: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(place.path()).args(["data", "inspect"]).arg(path).args(more).output().unwrap()
    };
    for (name, kind, train, test, classes, channels) in [
        ("mnist", "idx", 60_000, 3000, 10, 1),
        ("cifar10-bin", "cifar", 0, 1000, 10, 3),
        ("cifar10-jpeg", "parquet", 50_000, 10_000, 10, 3),
        ("flowers17-160", "folder", 1088, 272, 17, 3),
        ("messy", "folder", 18, 0, 13, 3),
    ] {
        let Some(folder) = large(name) else { continue };
        let output = inspect(&folder, &["--json", "--sheet", "sheet.png"]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let counts = (found["train"]["images"].as_u64(), found["test"]["images"].as_u64(), found["channels"].as_u64());
        assert_eq!(counts, (Some(train), Some(test), Some(channels)), "{name}");
        assert_eq!(
            (found["kind"].as_str(), found["classes"].as_array().unwrap().len()),
            (Some(kind), classes),
            "{name}"
        );
        let sheet = image::open(place.path().join("sheet.png")).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (12 * 66 + 2, classes as u32 * 66 + 2), "{name}");
    }
    // Twins within a part, and across.
    let root = place.path().join("twins");
    for (index, part) in ["train", "train", "train", "test", "test"].iter().enumerate() {
        picture(&root.join(part).join("one").join(format!("{index}.png")), if index == 4 { 99 } else { 7 });
    }
    let output = inspect(&root, &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 images of the test part are in the training part"), "{told}");
    let row = told.lines().find(|line| line.starts_with("train")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["train", "3", "5", "6", "2"]);
    assert!(!inspect(Path::new("nowhere"), &[]).status.success());
}
