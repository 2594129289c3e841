//! Words, signs and brackets of a selector.

use std::ops::Range;

use crate::diagnostic::Report;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// Bytes of the text.
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// In quotes, and so no word of the language.
    Quoted(String),
    Sign(Sign),
    Open,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Equal,
    Different,
    Less,
    AtMost,
    More,
    AtLeast,
    Contains,
}

impl Sign {
    /// Longer ones first.
    const ALL: [(&'static str, Sign); 8] = [
        ("!=", Sign::Different),
        ("<=", Sign::AtMost),
        (">=", Sign::AtLeast),
        ("==", Sign::Equal),
        ("=", Sign::Equal),
        ("<", Sign::Less),
        (">", Sign::More),
        ("~", Sign::Contains),
    ];

    pub fn text(self) -> &'static str {
        match self {
            Sign::Equal => "=",
            Sign::Different => "!=",
            Sign::Less => "<",
            Sign::AtMost => "<=",
            Sign::More => ">",
            Sign::AtLeast => ">=",
            Sign::Contains => "~",
        }
    }

    pub fn is_order(self) -> bool {
        matches!(self, Sign::Less | Sign::AtMost | Sign::More | Sign::AtLeast)
    }
}

/// # Errors
/// When a quote is not closed.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Report> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '(' => (Kind::Open, 1),
            ')' => (Kind::Close, 1),
            '"' | '\'' => {
                let Some(length) = rest[1..].find(first) else {
                    let report = Report::new("the quote is not closed").at("selector", text, at..text.len());
                    return Err(report.hint(format!("for instance {first}a value{first}")));
                };
                (Kind::Quoted(rest[1..=length].to_owned()), length + 2)
            }
            _ => match sign(rest) {
                Some((length, sign)) => (Kind::Sign(sign), length),
                None => {
                    let ends = |(place, c): (usize, char)| {
                        c.is_whitespace() || "()\"'".contains(c) || sign(&rest[place..]).is_some()
                    };
                    let length = rest.char_indices().find(|one| ends(*one)).map_or(rest.len(), |(place, _)| place);
                    (Kind::Word(rest[..length].to_owned()), length.max(first.len_utf8()))
                }
            },
        };
        tokens.push(Token { kind, span: at..at + length });
        at += length;
    }
    Ok(tokens)
}

fn sign(text: &str) -> Option<(usize, Sign)> {
    Sign::ALL.into_iter().find(|(sign, _)| text.starts_with(sign)).map(|(text, sign)| (text.len(), sign))
}
