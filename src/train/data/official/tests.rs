//! Small sets in the layouts of the large ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A folder of these files; an image holds its path.
fn folder(files: &[(&str, &str)], images: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files.iter().copied().chain(images.iter().map(|path| (*path, *path))) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// Paths and labels in alphabetical order.
fn told(entries: &[Entry]) -> Vec<(String, u32)> {
    let text = |entry: &Entry| String::from_utf8(entry.bytes().unwrap().into_owned()).unwrap();
    let mut told: Vec<_> = entries.iter().map(|entry| (text(entry), entry.label.unwrap())).collect();
    told.sort();
    told
}

fn owned(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(path, label)| ((*path).to_owned(), *label)).collect()
}

fn complaint(name: &str, folder: &Path) -> String {
    format!("{:#}", listing(name, folder).unwrap().unwrap_err())
}

const FOOD: [(&str, &str); 3] = [
    ("meta/classes.txt", "apple_pie\nbeignets\nwaffles\n"),
    ("meta/train.txt", "apple_pie/1\nwaffles/2\nwaffles/3\n"),
    ("meta/test.txt", "beignets/4\n"),
];

#[test]
fn food() {
    let images = ["images/apple_pie/1.jpg", "images/waffles/2.jpg", "images/waffles/3.jpg", "images/beignets/4.jpg"];
    let set = folder(&FOOD, &images);
    let found = listing("food101", set.path()).unwrap().unwrap();
    assert_eq!(told(&found.train), owned(&[(images[0], 0), (images[1], 2), (images[2], 2)]));
    assert_eq!(told(&found.test), owned(&[(images[3], 1)]));
    assert!(found.validation.is_empty());
    assert_eq!(found.names.unwrap(), ["apple_pie", "beignets", "waffles"]);
    // It is no other set, and nothing is where nothing is.
    assert!(
        ["flowers102", "pet37", "sun397", "imagenet", "other"].iter().all(|name| listing(name, set.path()).is_none())
    );
    assert!(listing("food101", set.path().parent().unwrap()).is_none());
    // With the archive's own folder around it.
    let outer = tempfile::tempdir().unwrap();
    fs::rename(set.path(), outer.path().join("food-101")).unwrap();
    assert_eq!(listing("food101", outer.path()).unwrap().unwrap().train.len(), 3);

    let broken = folder(&FOOD, &images);
    fs::write(broken.path().join("meta/train.txt"), "pizza/1\n").unwrap();
    assert!(complaint("food101", broken.path()).contains("`pizza/1` in `"));
}

/// As in an image folder, whatever the order of the list: a slice holds every class.
#[test]
fn the_order_is_that_of_an_image_folder() {
    let names: Vec<String> = (0..200).map(|index| format!("{}/{index}", if index < 100 { "a" } else { "b" })).collect();
    let images: Vec<String> = names.iter().map(|name| format!("images/{name}.jpg")).collect();
    let lists = [("meta/classes.txt", "a\nb\n"), ("meta/train.txt", &names.join("\n")), ("meta/test.txt", "a/0")];
    let set = folder(&lists, &images.iter().map(String::as_str).collect::<Vec<_>>());
    let train = listing("food101", set.path()).unwrap().unwrap().train;
    let late = train[180..].iter().filter(|entry| entry.label == Some(1)).count();
    assert!((4..=16).contains(&late), "{late} of 20");
    let hashes: Vec<_> = train
        .iter()
        .map(|entry| {
            crate::job::short_hash("distillery image 1\n", &told(std::slice::from_ref(entry))[0].0["images/".len()..])
        })
        .collect();
    assert!(hashes.is_sorted());
}

#[test]
fn pets() {
    let train = "Abyssinian_100 1 1 1\nBritish_Shorthair_7 2 1 2\n";
    let lists = [("annotations/trainval.txt", train), ("annotations/test.txt", "# a comment\nAbyssinian_2 1 1 1\n")];
    let images = ["images/Abyssinian_100.jpg", "images/British_Shorthair_7.jpg", "images/Abyssinian_2.jpg"];
    let set = folder(&lists, &images);
    let found = listing("pet37", set.path()).unwrap().unwrap();
    assert_eq!(told(&found.train), owned(&[(images[0], 0), (images[1], 1)]));
    assert_eq!(told(&found.test), owned(&[(images[2], 0)]));
    assert_eq!(found.names.unwrap(), ["Abyssinian", "British_Shorthair"]);
    for (list, said) in [
        ("Abyssinian_100 0 1 1\n", "`Abyssinian_100 0 1 1` in `"),
        ("Abyssinian_100\n", "is no name and class"),
        ("Abyssinian_100 1 1 1\nBritish_Shorthair_7 3 1 2\n", "leaves a class without an image"),
    ] {
        fs::write(set.path().join("annotations/trainval.txt"), list).unwrap();
        assert!(complaint("pet37", set.path()).contains(said), "{list}");
    }
}

/// As scipy's `savemat` writes `labels = [1, 3, 2, 2, 1, 3]`: bytes, compressed; doubles, not compressed.
const LABELS: [&str; 2] = [
    "AAAAAAAAAAAAAUlNDwAAADAAAAB4nONjYGBwAGI2IOYAYk4GCGCF8hmhcjA6JzEpNaeYgYEJJs7MxMTIzMAAAFPVAwg=",
    "AAAAAAAAAAAAAUlNDgAAAGgAAAAGAAAACAAAAAYAAAAAAAAABQAAAAgAAAABAAAABgAAAAEAAAAGAAAAbGFiZWxzAAAJAAAAMAAAAAAAAAAA\
     APA/AAAAAAAACEAAAAAAAAAAQAAAAAAAAABAAAAAAAAA8D8AAAAAAAAIQA==",
];
/// And `trnid = [4, 2]`, `valid = [1]`, `tstid = [3, 6, 5]` of two bytes each.
const PARTS: &str = "AAAAAAAAAAAAAUlNDwAAACwAAAB4nONjYGCwAGI2IOYAYm4GCGCF8hmBmAlKg8RKivIyU4A0CxgyMQAANt8CpQ8AAAApAAAAeJzj\
                     Y2BgsABiNiDmAGJuBghghfIZkTBIrCwxJzMFSLMwMIHFADWsAowPAAAALwAAAHic42NgYHAAYjYg5gBibgYIYIXyGYGYGUqDxEqKSzJTgDQL\
                     VA8zkASJAwBPAgK/";

/// With the text that such a file starts with.
fn matlab(encoded: &str) -> Vec<u8> {
    let mut bytes = format!("{:<116}", "MATLAB 5.0 MAT-file Platform: posix").into_bytes();
    bytes.extend(STANDARD.decode(encoded).unwrap());
    bytes
}

#[test]
fn flowers() {
    let images: Vec<String> = (1..=6).map(|image| format!("jpg/image_0000{image}.jpg")).collect();
    let set = folder(&[], &images.iter().map(String::as_str).collect::<Vec<_>>());
    let write = |name: &str, bytes: &[u8]| fs::write(set.path().join(name), bytes).unwrap();
    write("setid.mat", &matlab(PARTS));
    for labels in LABELS {
        write("imagelabels.mat", &matlab(labels));
        let found = listing("flowers102", set.path()).unwrap().unwrap();
        assert_eq!(told(&found.train), owned(&[(&images[1], 2), (&images[3], 1)]));
        assert_eq!(told(&found.validation), owned(&[(&images[0], 0)]));
        assert_eq!(told(&found.test), owned(&[(&images[2], 1), (&images[4], 0), (&images[5], 2)]));
        assert_eq!(found.names, None);
    }
    write("imagelabels.mat", &matlab(PARTS));
    assert!(complaint("flowers102", set.path()).contains("imagelabels.mat` has no array of numbers `labels`"));
    let whole = matlab(LABELS[1]);
    for broken in [&whole[..whole.len() - 20], b"no such file", b""] {
        write("imagelabels.mat", broken);
        let error = complaint("flowers102", set.path());
        assert!(
            error.contains("imagelabels.mat` is no whole MATLAB file: ") || error.contains("has no array"),
            "{error}"
        );
    }
}

#[test]
fn scenes() {
    let images = ["a/abbey/sun_1.jpg", "c/car_interior/backseat/sun_2.jpg", "y/yard/sun_3.jpg", "a/abbey/sun_4.jpg"];
    let set = folder(&[], &images);
    let error = complaint("sun397", set.path());
    assert!(
        error.contains("has the images of SUN397, but not `sun397_tfds_tr.txt`\nhint: the paper's parts"),
        "{error}"
    );
    let write = |name: &str, text: &str| fs::write(set.path().join(name), text).unwrap();
    write("sun397_tfds_tr.txt", "/y/yard/sun_3.jpg\n/c/car_interior/backseat/sun_2.jpg\n");
    write("val.txt", "a/abbey/sun_1.jpg");
    write("test.txt", "/a/abbey/sun_4.jpg\n");
    let found = listing("sun397", set.path()).unwrap().unwrap();
    assert_eq!(told(&found.train), owned(&[(images[1], 1), (images[2], 2)]));
    assert_eq!((told(&found.validation), told(&found.test)), (owned(&[(images[0], 0)]), owned(&[(images[3], 0)])));
    assert_eq!(found.names.unwrap(), ["a/abbey", "c/car_interior/backseat", "y/yard"]);
    write("test.txt", "sun_4.jpg\n");
    assert!(complaint("sun397", set.path()).contains("`sun_4.jpg` in `"));
}

#[test]
fn synsets() {
    let images = ["train/n02/x.JPEG", "train/n01/y.JPEG", "val/n02/z.JPEG"].map(|path| path.replace("n0", "n0144000"));
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let set = folder(&[("train/.DS_Store", ""), ("LOC_synset_mapping.txt", "")], &images);
    let found = listing("imagenet", set.path()).unwrap().unwrap();
    assert_eq!(told(&found.train), owned(&[(images[1], 0), (images[0], 1)]));
    assert_eq!(told(&found.validation), owned(&[(images[2], 1)]));
    assert!(found.test.is_empty());
    assert_eq!(found.names.unwrap(), ["n01440001", "n01440002"]);
    fs::write(set.path().join("val/ILSVRC2012_val_00000001.JPEG"), "").unwrap();
    let error = complaint("imagenet", set.path());
    assert!(error.contains("val` holds 1 images that lie in no folder of a class\nhint: move each"), "{error}");
    fs::create_dir(set.path().join("val/n01440003")).unwrap();
    assert!(complaint("imagenet", set.path()).contains("n01440003` is no class of `train`"));
    assert!(listing("imagenet", folder(&[], &["train/cat/1.jpg"]).path()).is_none());
}
