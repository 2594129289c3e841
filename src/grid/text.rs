//! Where every word of an experiment comes from: the file, the command line, or the built-in defaults.
//!
//! The texts lie one after the other in a single range of positions, so that a span alone says which of them it is in
//! and keeps saying so while tables are merged. The alternative, a span type with a source in it, would need a TOML
//! parser and a deserialiser of our own.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::diagnostic::Report;

pub(super) const DEFAULTS: &str = include_str!("../defaults.toml");

/// A problem at a place, before it is known which text the place is in.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// What an experiment is read from. Texts are kept with spaces before them up to their first position.
pub(super) struct Texts {
    file: Text,
    defaults: Text,
    command_line: Vec<Text>,
}

struct Text {
    name: String,
    start: usize,
    padded: String,
}

impl Fault {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { span, message: message.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }

    /// For where nothing better is known.
    pub fn or_hint(self, hint: impl Into<String>) -> Fault {
        match self.hint {
            Some(_) => self,
            None => self.hint(hint),
        }
    }

    pub fn from_toml(error: &toml::de::Error) -> Fault {
        let report = Report::from_toml(error);
        Fault {
            span: error.span().unwrap_or(0..0),
            message: report.message().to_owned(),
            hint: report.advice().map(str::to_owned),
        }
    }
}

impl Texts {
    pub fn new(name: &str, file: &str, overrides: &[String]) -> Texts {
        // One free position after each text: an error at its end is still its own.
        let file = Text::new(name, file, 0);
        let defaults = Text::new("the built-in defaults", DEFAULTS, file.end() + 1);
        let mut start = defaults.end() + 1;
        let mut command_line = Vec::new();
        for text in overrides {
            let text = Text::new("command line", text, start);
            start = text.end() + 1;
            command_line.push(text);
        }
        Texts { file, defaults, command_line }
    }

    pub fn file(&self) -> Result<Spanned<DeTable<'_>>, Fault> {
        self.file.parse()
    }

    pub fn defaults(&self) -> Result<Spanned<DeTable<'_>>, Fault> {
        self.defaults.parse()
    }

    /// The `key=value` of the command line, each as the table it stands for.
    pub fn overrides(&self) -> impl Iterator<Item = Result<DeTable<'_>, Fault>> {
        self.command_line.iter().map(Text::parse_override)
    }

    pub fn is_command_line(&self, span: &Range<usize>) -> bool {
        self.command_line.first().is_some_and(|first| span.start >= first.start)
    }

    /// Whether nobody wrote it.
    pub fn is_default(&self, span: &Range<usize>) -> bool {
        (self.defaults.start..self.defaults.end()).contains(&span.start)
    }

    /// What is written at `span`.
    pub fn written(&self, span: Range<usize>) -> &str {
        self.of(span.start).padded.get(span).unwrap_or_default()
    }

    pub fn report(&self, fault: Fault) -> Report {
        let text = self.of(fault.span.start);
        let span = fault.span.start - text.start..fault.span.end.max(fault.span.start) - text.start;
        let report = Report::new(fault.message).at(&text.name, &text.padded[text.start..], span);
        match fault.hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }

    fn of(&self, position: usize) -> &Text {
        let texts = [&self.file, &self.defaults].into_iter().chain(&self.command_line);
        texts.rev().find(|text| text.start <= position).unwrap_or(&self.file)
    }
}

impl Text {
    fn new(name: &str, text: &str, start: usize) -> Text {
        Text { name: name.to_owned(), start, padded: format!("{}{text}", " ".repeat(start)) }
    }

    fn end(&self) -> usize {
        self.padded.len()
    }

    fn parse(&self) -> Result<Spanned<DeTable<'_>>, Fault> {
        DeTable::parse(&self.padded).map_err(|error| {
            let fault = Fault::from_toml(&error)
                .or_hint("strings stand in quotes, lists in `[ ]`, tables in `{ }`, and a key stands alone");
            Fault { span: fault.span.start.max(self.start)..fault.span.end.max(self.start), ..fault }
        })
    }

    /// What is no TOML value is a string, so that `teaching=function-matching` needs no quotes inside the shell's.
    fn parse_override(&self) -> Result<DeTable<'_>, Fault> {
        let whole = self.start..self.end();
        let Some(equals) = self.padded[self.start..].find('=').map(|at| self.start + at) else {
            let fault = Fault::new(whole, "an override is written `key=value`");
            return Err(fault.hint("for instance `epochs=10` or `distance.kl.temperature=2`"));
        };
        let value = self.padded[equals + 1..].trim();
        let error = match self.parse() {
            Ok(table) => return Ok(table.into_inner()),
            Err(fault) => fault,
        };
        if value.is_empty() {
            return Err(Fault::new(whole, "there is no value after the `=`")
                .hint("for instance `epochs=10`; an empty string is `key=''`"));
        }
        if value.starts_with(['"', '\'', '[', '{']) || value.contains('\n') {
            return Err(error);
        }
        // The key alone is parsed, with a stand-in value that is then replaced.
        let key = self.padded[self.start..equals].trim();
        let path = self.parse_key(self.start..equals, key)?;
        let at = equals + 1 + (self.padded[equals + 1..].len() - self.padded[equals + 1..].trim_start().len());
        let value = Spanned::new(at..at + value.len(), DeValue::String(DeString::Borrowed(value)));
        Ok(super::merge::nested(&path, value))
    }

    fn parse_key(&self, span: Range<usize>, key: &str) -> Result<Vec<Spanned<DeString<'static>>>, Fault> {
        let mut path = Vec::new();
        let mut at = span.start;
        for part in key.split('.') {
            let name = part.trim();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
                return Err(Fault::new(span, format!("`{key}` is not a key"))
                    .hint("keys are words of letters, digits and `-`, joined by dots"));
            }
            path.push(Spanned::new(at..at + part.len(), DeString::Owned(name.to_owned())));
            at += part.len() + 1;
        }
        Ok(path)
    }
}
