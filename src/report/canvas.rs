//! The page: shapes and text in points become SVG, and that SVG becomes PNG.
//!
//! The drawing library counts in whole units, so the page is ten times as large as it says and the `<svg>` is told its
//! true size at the end. What that library knows of charts (meshes, legends, tick choice) is not used: it clamps what
//! is out of range, and its legend cannot keep clear of the data.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use super::Error;
use super::font::{self, Weight};
use super::theme::{Colour, Mark};

const UNITS: f64 = 10.0;
/// The library divides every font size by this.
const SIZE_FACTOR: f64 = 1.24;
/// Its `VPos::Top` puts the baseline this share of the size lower; the other anchors depend on what `ex` is taken for.
const TOP_TO_BASELINE: f64 = 0.76;
const PIXELS_PER_POINT: f32 = 2.0;

/// Points from the page's top left corner.
pub type Place = (f64, f64);

#[derive(Clone, Copy, Debug)]
pub struct Stroke<'a> {
    pub colour: Colour,
    pub opacity: f64,
    pub width: f64,
    pub dash: &'a [f64],
}

#[derive(Clone, Copy, Debug)]
pub struct Lettering {
    pub size: f64,
    pub weight: Weight,
    pub colour: Colour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Middle,
    Right,
}

pub struct Canvas<'a> {
    svg: SVGBackend<'a>,
    paper: Colour,
    spots: Vec<Spot>,
}

/// A place on the page and what a reader who points at it is told; only where figures can answer, on a page of HTML.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    pub place: Place,
    pub text: String,
}

/// A drawn page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub svg: String,
    pub spots: Vec<Spot>,
}

/// A page of `width` x `height` points with what `paint` leaves on it. `title` is for readers who hear the figure.
pub fn page(width: f64, height: f64, paper: Colour, title: &str, paint: impl FnOnce(&mut Canvas)) -> Page {
    let mut body = String::new();
    let size = (unit(width) as u32, unit(height) as u32);
    let spots = {
        let mut canvas = Canvas { svg: SVGBackend::with_string(&mut body, size), paper, spots: Vec::new() };
        canvas.rectangle((0.0, 0.0), (width, height), paper);
        paint(&mut canvas);
        drawn(canvas.svg.present());
        canvas.spots
    };
    let shapes = of_one_paint(body.split_once('\n').map_or("", |(_, shapes)| shapes));
    let faces = font::faces();
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" role=\"img\" \
         stroke-linejoin=\"round\">\n<title>{}</title>\n<style>\n{faces}</style>\n{shapes}",
        size.0,
        size.1,
        escaped(title),
    );
    Page { svg, spots }
}

/// The library says `opacity`, which asks for a layer of its own for each shape: thousands of them take a minute to draw.
/// A shape with one paint looks the same with that paint's opacity.
fn of_one_paint(shapes: &str) -> String {
    let mut text = String::with_capacity(shapes.len() + shapes.len() / 16);
    for line in shapes.split_inclusive('\n') {
        let paint = if line.starts_with("<line ") || line.contains("fill=\"none\"") { "stroke" } else { "fill" };
        match line.split_once(" opacity=\"1\"") {
            Some((before, after)) => text.extend([before, after]),
            None => match line.split_once(" opacity=") {
                Some((before, after)) => text.extend([before, " ", paint, "-opacity=", after]),
                None => text.push_str(line),
            },
        }
    }
    text
}

/// The same picture in pixels, with the same font.
pub fn png(svg: &str) -> Result<Vec<u8>, Error> {
    let failed = |what: String| Error::Pixels(what);
    let mut options = usvg::Options { font_family: font::FAMILY.to_owned(), ..usvg::Options::default() };
    for bytes in font::OPENTYPE {
        options.fontdb_mut().load_font_data(bytes.to_vec());
    }
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let [width, height] =
        [tree.size().width(), tree.size().height()].map(|points| (points * PIXELS_PER_POINT).ceil() as u32);
    let mut pixels =
        tiny_skia::Pixmap::new(width, height).ok_or_else(|| failed(format!("{width} x {height} pixels")))?;
    let scale = tiny_skia::Transform::from_scale(PIXELS_PER_POINT, PIXELS_PER_POINT);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

impl Canvas<'_> {
    pub fn rectangle(&mut self, top_left: Place, bottom_right: Place, colour: Colour) {
        drawn(self.svg.draw_rect(units(top_left), units(bottom_right), &fill(colour, 1.0), true));
    }

    pub fn line(&mut self, from: Place, to: Place, stroke: Stroke) {
        self.path(&[from, to], stroke);
    }

    pub fn path(&mut self, places: &[Place], stroke: Stroke) {
        let style =
            ShapeStyle { stroke_width: unit(stroke.width).max(1) as u32, ..fill(stroke.colour, stroke.opacity) };
        for piece in dashes(places, stroke.dash) {
            match piece.as_slice() {
                &[from, to] => drawn(self.svg.draw_line(units(from), units(to), &style)),
                _ => drawn(self.svg.draw_path(piece.into_iter().map(units), &style)),
            }
        }
    }

    pub fn area(&mut self, places: &[Place], colour: Colour, opacity: f64) {
        drawn(self.svg.fill_polygon(places.iter().copied().map(units), &fill(colour, opacity)));
    }

    pub fn disc(&mut self, centre: Place, radius: f64, colour: Colour, opacity: f64) {
        drawn(self.svg.draw_circle(units(centre), unit(radius) as u32, &fill(colour, opacity), true));
    }

    /// A mark on a collar of paper, so that it stands off from lines that pass behind it.
    pub fn mark(&mut self, (x, y): Place, mark: Mark, radius: f64, colour: Colour) {
        let collar = radius + 1.0;
        let paper = self.paper;
        let diamond = |reach: f64| [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)];
        let square = |reach: f64| {
            [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)]
        };
        match mark {
            Mark::Disc | Mark::Ring => {
                self.disc((x, y), collar, paper, 1.0);
                self.disc((x, y), radius, colour, 1.0);
                if mark == Mark::Ring {
                    self.disc((x, y), radius - 1.5, paper, 1.0);
                }
            }
            Mark::Diamond => {
                self.area(&diamond(1.3 * collar), paper, 1.0);
                self.area(&diamond(1.3 * radius), colour, 1.0);
            }
            Mark::Square => {
                self.area(&square(0.9 * collar), paper, 1.0);
                self.area(&square(0.9 * radius), colour, 1.0);
            }
        }
    }

    /// A place that answers.
    pub fn spot(&mut self, place: Place, text: impl FnOnce() -> String) {
        self.spots.push(Spot { place, text: text() });
    }

    /// One line of text with its baseline at `y`.
    pub fn text(&mut self, (x, y): Place, align: Align, lettering: Lettering, text: &str) {
        let style = match lettering.weight {
            Weight::Regular => FontStyle::Normal,
            Weight::Semibold => FontStyle::Bold,
        };
        let font = FontDesc::new(FontFamily::Name(font::FAMILY), library_size(lettering.size), style);
        let Colour(red, green, blue) = lettering.colour;
        let h_pos = match align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let colour = RGBColor(red, green, blue);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(h_pos, VPos::Top));
        drawn(self.svg.draw_text(text, &style, units((x, y - TOP_TO_BASELINE * lettering.size))));
    }
}

fn fill(Colour(red, green, blue): Colour, opacity: f64) -> ShapeStyle {
    RGBColor(red, green, blue).mix(opacity).filled()
}

/// The size to ask for so that the SVG says `points`, to the last digit.
fn library_size(points: f64) -> f64 {
    let wanted = points * UNITS;
    let asked = wanted * SIZE_FACTOR;
    [asked, asked.next_up(), asked.next_down()].into_iter().find(|size| size / SIZE_FACTOR == wanted).unwrap_or(asked)
}

fn unit(points: f64) -> i32 {
    (points * UNITS).round() as i32
}

fn units((x, y): Place) -> (i32, i32) {
    (unit(x), unit(y))
}

fn drawn<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("drawing into a string cannot fail")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Cuts a path into its dashes, measured along it. The library has no dash pattern of its own.
fn dashes(places: &[Place], pattern: &[f64]) -> Vec<Vec<Place>> {
    if pattern.is_empty() {
        return vec![places.to_vec()];
    }
    let mut pieces = Vec::new();
    let (mut part, mut left) = (0, pattern[0]);
    let mut piece: Vec<Place> = places.first().copied().into_iter().collect();
    for ends in places.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (ends[0], ends[1]);
        loop {
            let rest = (to_x - x).hypot(to_y - y);
            let inked = part % 2 == 0;
            if rest <= left {
                left -= rest;
                if inked {
                    piece.push((to_x, to_y));
                }
                break;
            }
            x += (to_x - x) * left / rest;
            y += (to_y - y) * left / rest;
            if inked {
                piece.push((x, y));
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![(x, y)];
            }
            part = (part + 1) % pattern.len();
            left = pattern[part];
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}
