//! Real data sets and odd files, where they are at hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use distillery::job::Part;
use distillery::train::data::decode::{decode, header};
use distillery::train::data::{self, Location};

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
        let location = Location::folder(&folder);
        assert_eq!(location, Location::Parquet(folder.clone()));
        let set = data::load(&location).unwrap();
        assert_eq!((set.train.labels.len(), set.test.labels.len(), set.classes), (train, test, 10), "{name}");
        assert_eq!(set.train.channels, 3);
        let about = data::identify(&location, &set);
        assert_eq!((about.name.as_str(), about.train_images, about.test_images), (name, train as u32, test as u32));
        let (alone, classes, names) = data::load_part(&location, Part::Test).unwrap();
        assert!(alone == set.test && classes == 10 && names == set.names);
        // Colours are where they belong: the first test image of CIFAR-10 is a cat on brown, lossless.
        if name == "cifar10" {
            let first = set.test.get(0);
            assert_eq!((first.height, first.width, &first.pixels[..3]), (32, 32, &[158u8, 112, 49][..]));
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
                assert_eq!(((height, width), header(&bytes).unwrap().colour), (size, colour), "{name}");
            }
            let grey = decode(&bytes, 1).unwrap();
            assert_eq!(grey.2.len(), height * width);
            assert!(pixels.iter().collect::<BTreeSet<_>>().len() > 10, "{name} has a picture");
            // Of a JPEG that is cut off, the decoder makes what there is.
            let jpeg = bytes.starts_with(&[0xff, 0xd8]);
            assert!(jpeg || decode(&bytes[..bytes.len() / 3], 3).is_err(), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 18);
    assert!(decode(b"no image at all", 3).unwrap_err().to_string().contains("no image: neither JPEG"));
}
