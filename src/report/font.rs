//! The embedded font: what it measures, and its bytes for the two places that draw with it.
//!
//! Inter in two weights, cut to the letters that figures use (`assets/font/README.md` has the recipe). System fonts are
//! never asked: a figure must look the same on every machine.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub const FAMILY: &str = "Inter";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Regular,
    Semibold,
}

pub const OPENTYPE: [&[u8]; 2] =
    [include_bytes!("../../assets/font/Inter-Regular.otf"), include_bytes!("../../assets/font/Inter-SemiBold.otf")];

/// The same glyphs, compressed for browsers, with the CSS weight they answer to. Semibold answers to `bold`, the one
/// heavier weight that the drawing library can name.
pub const WOFF2: [(u32, &[u8]); 2] = [
    (400, include_bytes!("../../assets/font/Inter-Regular.woff2")),
    (700, include_bytes!("../../assets/font/Inter-SemiBold.woff2")),
];

/// The fonts as style rules that carry them.
pub fn faces() -> String {
    WOFF2
        .iter()
        .map(|(weight, bytes)| {
            let font = STANDARD.encode(bytes);
            format!(
                "@font-face{{font-family:{FAMILY};font-weight:{weight};src:url(data:font/woff2;base64,{font}) \
                 format(\"woff2\")}}\n"
            )
        })
        .collect()
}

static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(OPENTYPE[0]));
static SEMIBOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(OPENTYPE[1]));

/// Width of `text` in points at `size`. Without kerning, which in this font takes width away more often than it adds.
pub fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let font = match weight {
        Weight::Regular => &*REGULAR,
        Weight::Semibold => &*SEMIBOLD,
    };
    let em = f64::from(font.units_per_em().unwrap_or(1000.0));
    let units: f64 = text.chars().map(|letter| f64::from(font.h_advance_unscaled(font.glyph_id(letter)))).sum();
    units / em * size
}

/// Breaks `text` into lines no wider than `limit`: at spaces and behind `/ - , = . _`, inside a word only where the word
/// alone is too wide.
pub fn wrap(text: &str, size: f64, weight: Weight, limit: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for piece in text.split_inclusive([' ', '/', '-', ',', '=', '.', '_']) {
        if !line.is_empty() && width(format!("{line}{piece}").trim_end(), size, weight) > limit {
            lines.push(std::mem::take(&mut line));
        }
        for letter in piece.chars() {
            if !line.is_empty() && width(format!("{line}{letter}").trim_end(), size, weight) > limit {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn parse(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is part of the binary and parsed in every test")
}
