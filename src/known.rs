//! What the paper's data sets are, and a few small ones: their sizes, how they are divided, at which resolution, and where
//! they come from.
//!
//! The facts about the paper's are those of Table 5 of the paper and of the released configurations. Nothing is read or fetched here.

/// A data set that has a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// As an experiment names it.
    pub name: &'static str,
    pub title: &'static str,
    pub classes: u32,
    /// The official parts, `train`, `validation` or `test`, and how many images each has.
    pub parts: &'static [(&'static str, u32)],
    pub split: KnownSplit,
    /// Of the views that students and teachers see, height and width in pixels.
    pub resolution: u32,
    /// For evaluation the shorter side becomes so long, in pixels, and the centre of `resolution` is cut out.
    pub resize_to: u32,
    /// Where it is to be had, and on what terms. A sentence a line.
    pub where_to_get: &'static str,
}

/// Slices of the parts, as an experiment writes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownSplit {
    pub train: &'static str,
    pub validation: &'static str,
    pub test: &'static str,
}

/// The data set of this name.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The paper's, in its order, and small ones for studies that are over in minutes.
pub const KNOWN: [Known; 8] = [
    Known {
        name: "flowers102",
        title: "Oxford Flowers-102",
        classes: 102,
        parts: &[("train", 1020), ("validation", 1020), ("test", 6149)],
        split: KnownSplit { train: "train", validation: "validation", test: "test" },
        resolution: 128,
        resize_to: 160,
        where_to_get: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/: `102flowers.tgz` unpacked, with `imagelabels.mat` and `setid.mat` beside `jpg`.\n\
            On the hub: hf:dpdl-benchmark/oxford_flowers102.",
    },
    Known {
        name: "pet37",
        title: "Oxford-IIIT Pet",
        classes: 37,
        parts: &[("train", 3680), ("test", 3669)],
        split: KnownSplit { train: "train[:90%]", validation: "train[90%:]", test: "test" },
        resolution: 128,
        resize_to: 160,
        where_to_get: "https://www.robots.ox.ac.uk/~vgg/data/pets/: `images.tar.gz` and `annotations.tar.gz`, unpacked side by side (CC BY-SA 4.0).\n\
            On the hub: hf:timm/oxford-iiit-pet.",
    },
    Known {
        name: "food101",
        title: "Food-101",
        classes: 101,
        parts: &[("train", 75_750), ("test", 25_250)],
        // TFDS, and so the released configuration, calls the official test part `validation`.
        split: KnownSplit { train: "train[:90%]", validation: "train[90%:]", test: "test" },
        resolution: 128,
        resize_to: 160,
        where_to_get: "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/: `food-101.tar.gz`, unpacked.\n\
            On the hub: hf:ethz/food101, which calls the test part `validation`.",
    },
    Known {
        name: "sun397",
        title: "SUN397",
        classes: 397,
        // The random parts of TFDS (70, 10 and 20 %), not one of the ten official partitions.
        parts: &[("train", 76_128), ("validation", 10_875), ("test", 21_750)],
        split: KnownSplit { train: "train", validation: "validation", test: "test" },
        resolution: 128,
        resize_to: 160,
        where_to_get: "https://vision.princeton.edu/projects/2010/SUN/: `SUN397.tar.gz`, unpacked, with `sun397_tfds_tr.txt`, `sun397_tfds_va.txt` and `sun397_tfds_te.txt` of TensorFlow Datasets in its folder.\n\
            TensorFlow Datasets shrinks the images to 120,000 pixels; these are whole.\n\
            On the hub: hf:dpdl-benchmark/sun397, in the parts of TensorFlow Datasets.",
    },
    Known {
        name: "imagenet",
        title: "ImageNet (ILSVRC-2012)",
        classes: 1000,
        parts: &[("train", 1_281_167), ("test", 50_000)],
        // The official validation part is what is tested on, and called so here. The paper selects on `train[98%:]`, the released configuration on `train[99%:]`.
        split: KnownSplit { train: "train[:98%]", validation: "train[98%:]", test: "test" },
        resolution: 224,
        resize_to: 256,
        where_to_get: "https://www.image-net.org/download.php, for those who agree to its terms (research and teaching only): `train` and `val` with a folder for every synset.\n\
            On the hub: hf:ILSVRC/imagenet-1k, gated by the same terms.",
    },
    Known {
        name: "cifar10",
        title: "CIFAR-10",
        classes: 10,
        parts: &[("train", 50_000), ("test", 10_000)],
        split: KnownSplit { train: "train[:90%]", validation: "train[90%:]", test: "test" },
        resolution: 32,
        resize_to: 32,
        where_to_get: "https://www.cs.toronto.edu/~kriz/cifar.html: the binary version, unpacked.\n\
            On the hub: hf:uoft-cs/cifar10, whose parquet files may lie in the folder as they are.",
    },
    Known {
        name: "imagenette",
        title: "Imagenette",
        classes: 10,
        parts: &[("train", 9469), ("test", 3925)],
        split: KnownSplit { train: "train[:90%]", validation: "train[90%:]", test: "test" },
        resolution: 64,
        resize_to: 72,
        where_to_get: "https://github.com/fastai/imagenette: any of its sizes, unpacked, with `val` called `test`.",
    },
    Known {
        name: "flowers17",
        title: "Oxford Flowers-17",
        classes: 17,
        parts: &[("train", 1088), ("test", 272)],
        // 64 and 16 images of each class of 80, not one of the three official partitions.
        split: KnownSplit { train: "train[:90%]", validation: "train[90%:]", test: "test" },
        resolution: 64,
        resize_to: 80,
        where_to_get: "https://www.robots.ox.ac.uk/~vgg/data/flowers/17/: `17flowers.tgz`, whose images are in the order of their classes, 80 of each: in folders of their class, below `train` and `test`.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The images that are left of a part.
    fn images(known: &Known, slice: &str) -> (u32, u32) {
        let (part, bounds) = slice.strip_suffix(']').and_then(|slice| slice.split_once('[')).unwrap_or((slice, ":"));
        let (_, all) = known.parts.iter().find(|(name, _)| *name == part).unwrap();
        let (start, end) = bounds.split_once(':').unwrap();
        let at = |bound: &str, open: u32| match bound.strip_suffix('%') {
            Some(percent) => ((u64::from(*all) * percent.parse::<u64>().unwrap() + 50) / 100) as u32,
            None => open,
        };
        (at(start, 0), at(end, *all))
    }

    /// The figures of Table 5, where they can be worked out.
    #[test]
    fn splits_have_the_papers_sizes() {
        for (name, train, validation, test) in [
            ("flowers102", 1020, 1020, 6149),
            ("pet37", 3312, 368, 3669),
            ("food101", 68_175, 7575, 25_250),
            ("sun397", 76_128, 10_875, 21_750),
            ("imagenet", 1_255_544, 25_623, 50_000),
        ] {
            let known = find(name).unwrap();
            let size = |slice| {
                let (start, end) = images(known, slice);
                end - start
            };
            let sizes = (size(known.split.train), size(known.split.validation), size(known.split.test));
            assert_eq!(sizes, (train, validation, test), "{name}");
            assert!(known.resize_to > known.resolution && known.where_to_get.starts_with("https://"));
        }
        assert_eq!((find("imagenet").unwrap().resolution, find("sun397").unwrap().resize_to), (224, 160));
        assert!(find("mnist").is_none());
    }
}
