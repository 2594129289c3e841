//! What a person is told about a text that cannot be used: the message, the place with a caret, and a way out.
//!
//! Input: a message, the text it is about and a byte range in it. Output: a [`Report`], which prints like a compiler's
//! error. It knows nothing of experiments; whatever reads TOML can use it. It does not decide where a report goes.

mod wording;

use std::error::Error;
use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

pub use wording::{nearest, one_of};

/// One problem, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    message: String,
    place: Option<Place>,
    hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// As it is shown: a path, or what else the text is called.
    name: String,
    text: String,
    span: Range<usize>,
}

impl Report {
    /// `message` is a lower-case fragment without a full stop.
    pub fn new(message: impl Into<String>) -> Report {
        Report { message: message.into(), place: None, hint: None }
    }

    /// The caret goes under the bytes `span` of `text`, or under the first line of them.
    #[must_use]
    pub fn at(mut self, name: impl Into<String>, text: impl Into<String>, span: Range<usize>) -> Report {
        let text = text.into();
        let span = within_a_line(&text, span);
        self.place = Some(Place { name: name.into(), text, span });
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }

    /// An error of the TOML parser or of serde in plain words. Its place must still be given.
    pub fn from_toml(error: &toml::de::Error) -> Report {
        let (message, hint) = wording::reword(error.message());
        Report { message, place: None, hint }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// With the terminal's colours. [`fmt::Display`] gives the same without.
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(&self.message);
        let mut groups = vec![match &self.place {
            None => Group::with_title(title),
            Some(place) => title.element(
                Snippet::source(&place.text)
                    .path(&place.name)
                    .annotation(AnnotationKind::Primary.span(place.span.clone())),
            ),
        }];
        if let Some(hint) = &self.hint {
            groups.push(Group::with_title(Level::HELP.with_name("hint").secondary_title(hint)));
        }
        renderer.clone().decor_style(DecorStyle::Ascii).render(&groups)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl Error for Report {}

/// A caret under many lines hides what it points at, so it stays on the first.
fn within_a_line(text: &str, span: Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let mut end = span.end.clamp(start, line_end);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}
