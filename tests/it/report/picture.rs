//! A rendered figure, as a reader's eye has it: where ink is, and what it says. Text is laid out by the same library that
//! makes the PNG, kerning included, so its boxes are not those the report measured with.

use resvg::usvg::{self, Node};

pub struct Picture {
    width: f64,
    height: f64,
    texts: Vec<Text>,
    /// Centres, in points.
    pub circles: Vec<(f64, f64)>,
    /// Everything else, as (left, top, right, bottom).
    shapes: Vec<[f64; 4]>,
}

struct Text {
    words: String,
    /// Of its ink: left, top, right, bottom.
    ink: [f64; 4],
}

impl Picture {
    pub fn of(svg: &str) -> Picture {
        let mut options = usvg::Options { font_family: "Inter".to_owned(), ..usvg::Options::default() };
        let fonts: [&[u8]; 2] = [
            include_bytes!("../../../assets/font/Inter-Regular.otf"),
            include_bytes!("../../../assets/font/Inter-SemiBold.otf"),
        ];
        fonts.iter().for_each(|font| options.fontdb_mut().load_font_data(font.to_vec()));
        let tree = usvg::Tree::from_str(svg, &options).unwrap();
        let mut picture = Picture {
            width: f64::from(tree.size().width()),
            height: f64::from(tree.size().height()),
            texts: Vec::new(),
            circles: Vec::new(),
            shapes: Vec::new(),
        };
        picture.look_at(tree.root());
        for tag in svg.lines().filter(|line| line.starts_with("<circle")) {
            // The collar of paper below a mark is not ink.
            if !tag.contains("#FFFFFF") {
                picture.circles.push((attribute(tag, "cx") / 10.0, attribute(tag, "cy") / 10.0));
            }
        }
        picture
    }

    fn look_at(&mut self, group: &usvg::Group) {
        for node in group.children() {
            let edges = |rect: usvg::Rect| [rect.left(), rect.top(), rect.right(), rect.bottom()].map(f64::from);
            match node {
                Node::Group(group) => self.look_at(group),
                Node::Text(text) => {
                    let words = text.chunks().iter().map(|chunk| chunk.text()).collect::<String>();
                    self.texts.push(Text { words, ink: edges(text.flattened().abs_bounding_box()) });
                }
                other => self.shapes.push(edges(other.abs_bounding_box())),
            }
        }
    }

    pub fn all_text(&self) -> String {
        self.texts.iter().map(|text| text.words.replace('\u{a0}', " ")).collect::<Vec<_>>().join(" ")
    }

    /// Nothing leaves the page, no text comes near another, and every text says something.
    pub fn assert_tidy(&self, case: &str) {
        for shape in self.shapes.iter().chain(self.texts.iter().map(|text| &text.ink)) {
            let [left, top, right, bottom] = *shape;
            let inside = left >= 0.0 && top >= 0.0 && right <= self.width && bottom <= self.height;
            assert!(inside, "{case}: {shape:?} leaves the page of {} x {}", self.width, self.height);
        }
        for (index, one) in self.texts.iter().enumerate() {
            assert!(!one.words.trim().is_empty(), "{case}: an empty text");
            let [left, top, right, bottom] = one.ink;
            assert!(left >= 20.0 && right <= self.width - 20.0, "{case}: `{}` is in the margin", one.words);
            for other in &self.texts[index + 1..] {
                let apart = other.ink[0] >= right + 2.0
                    || other.ink[2] + 2.0 <= left
                    || other.ink[1] >= bottom
                    || other.ink[3] <= top;
                assert!(apart, "{case}: `{}` {:?} meets `{}` {:?}", one.words, one.ink, other.words, other.ink);
            }
        }
    }

    /// From a height on the page to the share that the ticks of the first panel say lies there.
    pub fn share_at(&self) -> impl Fn(f64) -> f64 {
        let ticks: Vec<(f64, f64)> = self
            .texts
            .iter()
            .filter_map(|text| {
                let share: f64 = text.words.strip_suffix("\u{a0}%")?.parse().ok()?;
                // The hairline of a tick starts right of its text, in the middle of its height.
                let middle = (text.ink[1] + text.ink[3]) / 2.0;
                let hairline = self.shapes.iter().filter(|shape| shape[1] == shape[3] && shape[0] > text.ink[2]);
                let level =
                    hairline.map(|shape| shape[1]).min_by(|a, b| (a - middle).abs().total_cmp(&(b - middle).abs()));
                Some((level?, share / 100.0))
            })
            .collect();
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        move |height| first.1 + (height - first.0) / (last.0 - first.0) * (last.1 - first.1)
    }
}

fn attribute(tag: &str, name: &str) -> f64 {
    let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}
