//! Colours, dashes and marks. Colour carries the hypothesis, so an arm looks the same in every figure.

/// What a figure is drawn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    #[default]
    Light,
    Dark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

/// What everything but the data is drawn with.
#[derive(Clone, Copy, Debug)]
pub struct Inks {
    pub paper: Colour,
    pub ink: Colour,
    /// Subtitles, ticks, footers.
    pub quiet: Colour,
    pub axis: Colour,
    pub hairline: Colour,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub line: Colour,
    /// The line's colour, darkened (on dark paper: lightened) until it can be read as text.
    pub text: Colour,
    /// Lengths on and off, in points; empty is solid.
    pub dash: &'static [f64],
    pub mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Disc,
    Ring,
    Diamond,
    Square,
}

const SOLID: &[f64] = &[];
const DASHED: &[f64] = &[6.0, 3.5];
const DOTTED: &[f64] = &[1.8, 2.6];
const DASH_DOT: &[f64] = &[6.5, 2.8, 1.6, 2.8];
pub const TEACHER_DASH: &[f64] = &[5.0, 3.5];
/// The paper's numbers among ours.
pub const PAPER_DASH: &[f64] = DOTTED;

/// Views shared: blue. Not shared: warm. Variants inside a group by dash and mark, not by a fifth hue.
const TEACHING: [(&str, Colour, &[f64], Mark); 10] = [
    ("labels", Colour(0x80, 0x86, 0x8E), DASH_DOT, Mark::Square),
    ("fixed/rs", Colour(0xD5, 0x5E, 0x00), DASHED, Mark::Ring),
    ("fixed/cc", Colour(0xD5, 0x5E, 0x00), SOLID, Mark::Disc),
    ("fixed/ic-ens", Colour(0xD5, 0x5E, 0x00), DOTTED, Mark::Diamond),
    ("independent/rc", Colour(0xCC, 0x79, 0xA7), DASHED, Mark::Ring),
    ("independent/ic", Colour(0xCC, 0x79, 0xA7), SOLID, Mark::Disc),
    ("independent-mixup", Colour(0xCC, 0x79, 0xA7), DOTTED, Mark::Diamond),
    ("consistent/rc", Colour(0x56, 0xB4, 0xE9), DASHED, Mark::Ring),
    ("consistent/ic", Colour(0x56, 0xB4, 0xE9), SOLID, Mark::Disc),
    ("function-matching", Colour(0x00, 0x72, 0xB2), SOLID, Mark::Disc),
];

/// For every other axis: hues that stay apart for colour-blind eyes, then the same with another dash and mark.
const HUES: [Colour; 6] = [
    Colour(0x00, 0x72, 0xB2),
    Colour(0xE6, 0x9F, 0x00),
    Colour(0x00, 0x9E, 0x73),
    Colour(0xCC, 0x79, 0xA7),
    Colour(0x56, 0xB4, 0xE9),
    Colour(0xD5, 0x5E, 0x00),
];
const VARIANTS: [(&[f64], Mark); 4] =
    [(SOLID, Mark::Disc), (DASHED, Mark::Ring), (DOTTED, Mark::Diamond), (DASH_DOT, Mark::Square)];

impl Theme {
    pub(super) fn inks(self) -> Inks {
        match self {
            Theme::Light => Inks {
                paper: Colour(0xFF, 0xFF, 0xFF),
                ink: Colour(0x1B, 0x1F, 0x24),
                quiet: Colour(0x5C, 0x64, 0x6E),
                axis: Colour(0xA9, 0xB0, 0xB8),
                hairline: Colour(0xE6, 0xE8, 0xEB),
            },
            Theme::Dark => Inks {
                paper: Colour(0x12, 0x15, 0x1A),
                ink: Colour(0xEC, 0xEE, 0xF1),
                quiet: Colour(0x9D, 0xA5, 0xAF),
                axis: Colour(0x5A, 0x62, 0x6C),
                hairline: Colour(0x2A, 0x2F, 0x36),
            },
        }
    }

    /// The look of a teaching mode, else of the `place`-th of several lines.
    pub(super) fn look(self, teaching: Option<&str>, place: usize) -> Look {
        let teaching = TEACHING.iter().find(|(name, ..)| teaching == Some(*name));
        let (line, dash, mark) = match teaching {
            Some(&(_, line, dash, mark)) => (line, dash, mark),
            None => {
                let (dash, mark) = VARIANTS[place / HUES.len() % VARIANTS.len()];
                (HUES[place % HUES.len()], dash, mark)
            }
        };
        let inks = self.inks();
        // #0072B2 is dim on dark paper; a line needs 3:1 there, a text 4.5:1 everywhere.
        let line = if self == Theme::Dark { readable(line, inks, 4.0) } else { line };
        Look { line, text: readable(line, inks, 5.0), dash, mark }
    }
}

/// Names of the looks there are.
pub fn looks() -> impl Iterator<Item = &'static str> {
    TEACHING.iter().map(|(name, ..)| *name)
}

/// Places of the teaching modes from least to most alike views, so that the tables of all reports agree.
pub fn teaching_rank(name: &str) -> usize {
    TEACHING.iter().position(|(known, ..)| *known == name).unwrap_or(TEACHING.len())
}

/// `colour` moved towards the ink until it stands out from the paper by `contrast` (as WCAG 2 counts).
fn readable(colour: Colour, inks: Inks, contrast: f64) -> Colour {
    let paper = luminance(inks.paper);
    let steps = (0..=50).map(|step| mix(colour, inks.ink, f64::from(step) / 50.0));
    let stands_out = |colour: &Colour| {
        let (bright, dim) = (luminance(*colour).max(paper), luminance(*colour).min(paper));
        (bright + 0.05) / (dim + 0.05) >= contrast
    };
    steps.into_iter().find(stands_out).unwrap_or(inks.ink)
}

fn mix(from: Colour, to: Colour, share: f64) -> Colour {
    let channel = |from: u8, to: u8| (f64::from(from) + share * (f64::from(to) - f64::from(from))).round() as u8;
    Colour(channel(from.0, to.0), channel(from.1, to.1), channel(from.2, to.2))
}

fn luminance(Colour(red, green, blue): Colour) -> f64 {
    let linear = |channel: u8| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
}
