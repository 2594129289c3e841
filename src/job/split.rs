//! Which images a job trains, selects and reports on, in the notation of TFDS: `train[:90%]`, `train[7000:]`,
//! `validation`, `test`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The three disjoint uses of a data set's images.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Split {
    /// Empty, and not written, where a job is trained on other data.
    #[serde(default, skip_serializing_if = "Slice::is_empty")]
    pub train: Slice,
    /// All of `train` where it is none, which is not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_class: Option<PerClass>,
    /// Selection looks at this one only.
    pub validation: Slice,
    /// Reported, never selected on.
    pub test: Slice,
}

/// The first images of every class in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PerClass {
    /// At most so many.
    pub each: u32,
    /// What that makes in all.
    pub images: u32,
}

/// The images `start..end` of one part, in the data set's own order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slice {
    pub part: Part,
    pub start: u32,
    pub end: u32,
}

/// The files a data set comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    #[default]
    Train,
    Validation,
    Test,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// A slice as it is written, before the size of the part is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceText {
    pub part: Part,
    start: Bound,
    end: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Open,
    Image(u32),
    Percent(u32),
}

impl Slice {
    pub fn len(&self) -> u64 {
        u64::from(self.end - self.start)
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn overlaps(&self, other: &Slice) -> bool {
        self.part == other.part && self.start < other.end && other.start < self.end
    }
}

impl SliceText {
    /// Percentages round to the nearest image, as TFDS does by default.
    ///
    /// # Errors
    /// When a bound lies beyond the `images` of the part, or nothing is left between the bounds.
    pub fn resolve(&self, images: u32) -> Result<Slice, String> {
        let place = |bound: Bound, open: u32| match bound {
            Bound::Open => open,
            Bound::Image(image) => image,
            Bound::Percent(percent) => {
                ((u64::from(images) * u64::from(percent) + 50) / 100).try_into().unwrap_or(u32::MAX)
            }
        };
        let slice = Slice { part: self.part, start: place(self.start, 0), end: place(self.end, images) };
        if slice.end > images {
            return Err(format!("`{self}` ends at image {}, but this part has {images}", slice.end));
        }
        if slice.start >= slice.end {
            return Err(format!("`{self}` holds no image of the {images} there are"));
        }
        Ok(slice)
    }
}

impl FromStr for SliceText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a slice");
        let (part, range) = match text.split_once('[') {
            None => (text, ":"),
            Some((part, range)) => (part, range.strip_suffix(']').ok_or_else(wrong)?),
        };
        let part = match part {
            "train" => Part::Train,
            "validation" => Part::Validation,
            "test" => Part::Test,
            _ => return Err(wrong()),
        };
        let (start, end) = range.split_once(':').ok_or_else(wrong)?;
        let bound = |text: &str| -> Result<Bound, String> {
            if text.is_empty() {
                return Ok(Bound::Open);
            }
            match text.strip_suffix('%') {
                Some(percent) => match percent.parse() {
                    Ok(percent @ 0..=100) => Ok(Bound::Percent(percent)),
                    _ => Err(wrong()),
                },
                None => text.parse().map(Bound::Image).map_err(|_| wrong()),
            }
        };
        Ok(SliceText { part, start: bound(start)?, end: bound(end)? })
    }
}

impl fmt::Display for SliceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.name();
        if self.start == Bound::Open && self.end == Bound::Open {
            return f.write_str(part);
        }
        write!(f, "{part}[{}:{}]", self.start, self.end)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Open => Ok(()),
            Bound::Image(image) => write!(f, "{image}"),
            Bound::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}
