//! RandAugment and TrivialAugment: random operations on a view's pixels, byte for byte those of torchvision's transforms
//! of PIL images (nearest pixel, black beyond the edge).
//!
//! What is drawn knows no resolution: a teacher of 384 pixels and a student of 224 that share a view share its
//! operations. So translations are shares of the side. RandAugment's are in torchvision too; TrivialAugment's are there
//! up to 32 pixels of any image, here up to 32 / 224 of the side.

mod geometry;
mod tone;

use super::random::Stream;
use crate::job::Augment;

/// What is done to a view, drawn once for all who share it: operations in their order, with strength and sign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn(Vec<(Operation, f64)>);

/// As torchvision names them. Each is equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash, serde::Deserialize))]
enum Operation {
    Identity,
    /// Strength: tangent of the angle.
    ShearX,
    ShearY,
    /// Strength: share of the side.
    TranslateX,
    TranslateY,
    /// Strength: degrees.
    Rotate,
    /// Strength, here and in the next three: what is added to a factor of 1.
    Brightness,
    Color,
    Contrast,
    Sharpness,
    /// Strength: bits that stay.
    Posterize,
    /// Strength: the least value that is inverted.
    Solarize,
    AutoContrast,
    Equalize,
}

const OPERATIONS: [Operation; 14] = [
    Operation::Identity,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
    Operation::Rotate,
    Operation::Brightness,
    Operation::Color,
    Operation::Contrast,
    Operation::Sharpness,
    Operation::Posterize,
    Operation::Solarize,
    Operation::AutoContrast,
    Operation::Equalize,
];

/// The strongest operations of a choice.
struct Space {
    shear: f64,
    /// Of the side.
    translation: f64,
    degrees: f64,
    factor: f64,
    /// That posterizing removes.
    bits: f64,
}

const RAND_AUGMENT: Space = Space { shear: 0.3, translation: 150.0 / 331.0, degrees: 30.0, factor: 0.9, bits: 4.0 };
const TRIVIAL_AUGMENT: Space =
    Space { shear: 0.99, translation: 32.0 / 224.0, degrees: 135.0, factor: 0.99, bits: 6.0 };

/// What a view of one position is to go through.
pub fn draw(augment: &Augment, stream: &mut Stream) -> Drawn {
    let one = |space: &Space, magnitude, stream: &mut Stream| {
        let operation = OPERATIONS[stream.below(OPERATIONS.len() as u32) as usize];
        let strength = space.strength(operation, magnitude);
        (operation, if operation.has_sign() && stream.coin() { -strength } else { strength })
    };
    Drawn(match *augment {
        Augment::Off => Vec::new(),
        Augment::RandAugment { operations, magnitude } => {
            (0..operations).map(|_| one(&RAND_AUGMENT, magnitude, stream)).collect()
        }
        Augment::TrivialAugment => {
            let magnitude = stream.below(Augment::STRONGEST + 1);
            vec![one(&TRIVIAL_AUGMENT, magnitude, stream)]
        }
    })
}

/// Does to `pixels` `[side, side, channels]`, grey or RGB, what was drawn. `scratch` is used again from image to image.
pub fn apply(drawn: &Drawn, side: usize, channels: usize, pixels: &mut [u8], scratch: &mut Vec<u8>) {
    for (operation, strength) in &drawn.0 {
        match channels {
            1 => operation.apply(*strength, side, pixels.as_chunks_mut::<1>().0, scratch),
            3 => operation.apply(*strength, side, pixels.as_chunks_mut::<3>().0, scratch),
            _ => unreachable!("images are grey or RGB"),
        }
    }
}

impl Space {
    fn strength(&self, operation: Operation, magnitude: u32) -> f64 {
        let share = f64::from(magnitude) / f64::from(Augment::STRONGEST);
        match operation {
            Operation::Identity | Operation::AutoContrast | Operation::Equalize => 0.0,
            Operation::ShearX | Operation::ShearY => share * self.shear,
            Operation::TranslateX | Operation::TranslateY => share * self.translation,
            Operation::Rotate => share * self.degrees,
            Operation::Brightness | Operation::Color | Operation::Contrast | Operation::Sharpness => {
                share * self.factor
            }
            Operation::Posterize => 8.0 - (share * self.bits).round(),
            Operation::Solarize => 255.0 - 8.5 * f64::from(magnitude),
        }
    }
}

impl Operation {
    fn has_sign(self) -> bool {
        use Operation::*;
        !matches!(self, Identity | Posterize | Solarize | AutoContrast | Equalize)
    }

    fn apply<const C: usize>(self, strength: f64, side: usize, pixels: &mut [[u8; C]], scratch: &mut Vec<u8>) {
        let factor = (1.0 + strength) as f32;
        let map = match self {
            Operation::Identity => return,
            Operation::ShearX => geometry::shear_x(strength),
            Operation::ShearY => geometry::shear_y(strength),
            Operation::TranslateX => geometry::translate(geometry::whole_pixels(strength, side), 0.0),
            Operation::TranslateY => geometry::translate(0.0, geometry::whole_pixels(strength, side)),
            Operation::Rotate => geometry::rotate(strength, side),
            Operation::Brightness => return tone::brightness(factor, pixels),
            Operation::Color => return tone::color(factor, pixels),
            Operation::Contrast => return tone::contrast(factor, pixels),
            Operation::Sharpness => return tone::sharpness(factor, side, pixels, scratch),
            Operation::Posterize => return tone::posterize(strength as u32, pixels),
            Operation::Solarize => return tone::solarize(strength, pixels),
            Operation::AutoContrast => return tone::auto_contrast(pixels),
            Operation::Equalize => return tone::equalize(pixels),
        };
        geometry::warp(map, side, pixels, scratch);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;
    use crate::digest::hex;
    use crate::train::random::Purpose;

    /// `tests/golden/augment.py`.
    #[derive(Deserialize)]
    struct Golden {
        tables: Vec<Table>,
        shifts: Vec<Shifts>,
        applied: Vec<Applied>,
    }

    #[derive(Deserialize)]
    struct Table {
        space: String,
        operation: Operation,
        signed: bool,
        strengths: Vec<f64>,
    }

    #[derive(Deserialize)]
    struct Shifts {
        side: usize,
        pixels: Vec<f64>,
    }

    #[derive(Deserialize)]
    struct Applied {
        operation: Operation,
        strength: f64,
        picture: String,
        side: usize,
        channels: usize,
        pixels: String,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../tests/golden/augment.json")).unwrap()
    }

    #[test]
    fn strengths_are_torchvisions() {
        let golden = golden();
        assert_eq!(golden.tables.len(), 2 * OPERATIONS.len());
        for (i, Table { space, operation, signed, strengths }) in golden.tables.into_iter().enumerate() {
            assert_eq!((operation, operation.has_sign()), (OPERATIONS[i % OPERATIONS.len()], signed));
            let own = if space == "rand-augment" { &RAND_AUGMENT } else { &TRIVIAL_AUGMENT };
            for (magnitude, expected) in strengths.iter().enumerate() {
                let found = own.strength(operation, magnitude as u32);
                // Translations in pixels of 224; torch rounds to f32, differently on different CPUs.
                let moves = matches!(operation, Operation::TranslateX | Operation::TranslateY);
                let found = if moves { 224.0 * found } else { found };
                assert!((found - expected).abs() <= 2e-7 * expected, "{space} {operation:?} {magnitude}: {found}");
            }
        }
        assert_eq!(golden.shifts.len(), 5);
        for Shifts { side, pixels } in golden.shifts {
            for (magnitude, expected) in pixels.iter().enumerate() {
                let share = RAND_AUGMENT.strength(Operation::TranslateX, magnitude as u32);
                assert_eq!(geometry::whole_pixels(share, side), *expected, "{magnitude} of {side}");
                assert_eq!(geometry::whole_pixels(-share, side), -expected, "{magnitude} of {side}");
            }
        }
    }

    /// Every byte, those of blends too.
    #[test]
    fn pixels_are_torchvisions() {
        let applied = golden().applied;
        assert!(applied.len() > 300);
        let mut scratch = Vec::new();
        for Applied { operation, strength, picture, side, channels, pixels } in applied {
            let value = |i: usize| match picture.as_str() {
                "full" => i * i * 31 % 256,
                "dim" => 60 + i * i * 31 % 97,
                _ => 77,
            };
            let mut found: Vec<u8> = (0..side * side * channels).map(|i| value(i) as u8).collect();
            let drawn = Drawn(vec![(operation, strength)]);
            apply(&drawn, side, channels, &mut found, &mut scratch);
            assert_eq!(hex(&found), pixels, "{operation:?} {strength}: {picture}, {side} x {side} x {channels}");
        }
    }

    /// Every operation, both signs and every strength are equally likely, and each position has its own.
    #[test]
    fn draws_are_uniform() {
        const DRAWS: u64 = 70_000;
        let drawn = |augment, index| draw(augment, &mut Stream::new(5, Purpose::TeacherView, index));
        let trivial = Augment::TrivialAugment;
        let (mut counts, mut negative, mut shears) = (HashMap::new(), HashMap::new(), HashMap::new());
        for index in 0..DRAWS {
            let Drawn(drawn) = drawn(&trivial, index);
            let [(operation, strength)] = drawn[..] else { panic!("{drawn:?}") };
            *counts.entry(operation).or_insert(0) += 1;
            *negative.entry(operation).or_insert(0) += i32::from(strength.is_sign_negative());
            if operation == Operation::ShearX {
                *shears.entry((strength.abs() / 0.033).round() as u32).or_insert(0) += 1;
            }
        }
        // 5,000 each, standard deviation 68; of these half negative, 35; 161 of each of 31 strengths, 12.5.
        assert!(OPERATIONS.iter().all(|of| (4_700..5_300).contains(&counts[of])), "{counts:?}");
        for (of, count) in &negative {
            let expected = if of.has_sign() { 2_300..2_700 } else { 0..1 };
            assert!(expected.contains(count), "{negative:?}");
        }
        assert!(shears.len() == 31 && shears.values().all(|count| (105..220).contains(count)), "{shears:?}");

        let several = Augment::RandAugment { operations: 3, magnitude: 9 };
        assert_eq!(drawn(&several, 4), drawn(&several, 4));
        assert_ne!(drawn(&several, 4), drawn(&several, 5));
        let mut counts = HashMap::new();
        for index in 0..DRAWS / 3 {
            let Drawn(drawn) = drawn(&several, index);
            assert_eq!(drawn.len(), 3);
            for (operation, strength) in drawn {
                assert_eq!(strength.abs(), RAND_AUGMENT.strength(operation, 9));
                *counts.entry(operation).or_insert(0) += 1;
            }
        }
        assert!(OPERATIONS.iter().all(|of| (4_700..5_300).contains(&counts[of])), "{counts:?}");
        assert_eq!(drawn(&Augment::Off, 4), Drawn::default());
    }

    /// A view shared at two resolutions is moved by the same share of it.
    #[test]
    fn what_is_drawn_scales_with_the_resolution() {
        let mut scratch = Vec::new();
        for operation in [Operation::TranslateX, Operation::ShearY, Operation::Rotate] {
            let drawn = Drawn(vec![(operation, TRIVIAL_AUGMENT.strength(operation, 15))]);
            let mut shown = |side: usize| {
                let mut pixels: Vec<u8> =
                    (0..side * side).map(|i| if i % side * 2 < side { 200 } else { 50 }).collect();
                apply(&drawn, side, 1, &mut pixels, &mut scratch);
                pixels
            };
            let (small, large) = (shown(56), shown(224));
            let other = (0..56 * 56).filter(|i| small[*i] != large[(i / 56 * 4 + 2) * 224 + i % 56 * 4 + 2]).count();
            assert!(other < 56 * 56 / 40, "{operation:?}: {other} pixels differ");
        }
    }
}
