//! The grammar of selectors, by descent: `or` of `and` of `not` of brackets, comparisons, states and ids.

use std::ops::Range;

use super::token::{Kind, Sign, Token, tokens};
use super::{STATES, Subject};
use crate::diagnostic::{Report, nearest};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    All,
    State(&'static str),
    Id(Id),
    Compare(Comparison),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Id {
    pub prefix: String,
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub key: String,
    /// Of the key.
    pub span: Range<usize>,
    pub sign: Sign,
    pub value: String,
    /// Of the value.
    pub place: Range<usize>,
}

impl Expression {
    pub fn matches(&self, subject: &impl Subject) -> bool {
        match self {
            Expression::All => true,
            Expression::State(name) => subject.values("state").iter().any(|state| state == name),
            Expression::Id(id) => subject.id().starts_with(&id.prefix),
            Expression::Compare(comparison) => comparison.holds(&subject.values(&comparison.key)),
            Expression::Not(inner) => !inner.matches(subject),
            Expression::And(left, right) => left.matches(subject) && right.matches(subject),
            Expression::Or(left, right) => left.matches(subject) || right.matches(subject),
        }
    }
}

impl Comparison {
    fn holds(&self, values: &[String]) -> bool {
        let equal = |value: &String| match (number(value), number(&self.value)) {
            (Some(left), Some(right)) => left == right,
            // Ids of cohorts are long; their beginning is enough.
            _ if self.key == "cohort" || self.key == "id" => value.starts_with(&self.value),
            _ => *value == self.value,
        };
        let ordered = |holds: fn(&f64, &f64) -> bool| {
            values.iter().any(|value| number(value).zip(number(&self.value)).is_some_and(|(l, r)| holds(&l, &r)))
        };
        match self.sign {
            Sign::Equal => values.iter().any(equal),
            Sign::Different => !values.iter().any(equal),
            Sign::Less => ordered(f64::lt),
            Sign::AtMost => ordered(f64::le),
            Sign::More => ordered(f64::gt),
            Sign::AtLeast => ordered(f64::ge),
            Sign::Contains => {
                let part = self.value.to_lowercase();
                values.iter().any(|value| value.to_lowercase().contains(&part))
            }
        }
    }
}

/// `1_000` and `1e3` are numbers; `inf` and `nan` are words.
fn number(text: &str) -> Option<f64> {
    let digits = text.replace('_', "");
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

/// # Errors
/// With a caret under what is wrong.
pub(super) fn parse(text: &str) -> Result<Expression, Report> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
    if parser.tokens.is_empty() {
        return Err(Report::new("nothing is selected").hint(HOW));
    }
    let expression = parser.any()?;
    match parser.peek() {
        None => Ok(expression),
        Some(Token { kind: Kind::Close, span }) => {
            let report = Report::new("nothing was opened that `)` closes");
            Err(report.at("selector", text, span.clone()).hint("put a value with brackets in quotes"))
        }
        Some(Token { span, .. }) => {
            let report = Report::new("`and` or `or` is missing").at("selector", text, span.clone());
            Err(report.hint("for instance `mode=function-matching and epochs>=1000`"))
        }
    }
}

const HOW: &str =
    "an id's beginning, `all`, a state as `failed`, or for instance `mode=function-matching and epochs>=1000`";

/// Brackets and `not`s inside one another.
const DEEPEST: usize = 100;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression, Report> {
        let mut left = self.all()?;
        loop {
            // Several ids or states in a row are several jobs.
            let listed = self.peek().is_some_and(|token| matches!(&token.kind, Kind::Word(word) if is_bare(word)))
                && is_list(&left)
                && !self.peek_at(1).is_some_and(|token| matches!(token.kind, Kind::Sign(_)));
            if !listed && !self.took("or") {
                return Ok(left);
            }
            let right = self.all()?;
            left = Expression::Or(Box::new(left), Box::new(right));
        }
    }

    fn all(&mut self) -> Result<Expression, Report> {
        let mut left = self.one()?;
        while self.took("and") {
            let right = self.one()?;
            left = Expression::And(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression, Report> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Report::new("this is too deep").hint(HOW));
        }
        let expression = self.innermost()?;
        self.depth -= 1;
        Ok(expression)
    }

    fn innermost(&mut self) -> Result<Expression, Report> {
        if self.took("not") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        let before = self.at.checked_sub(1).map(|at| self.tokens[at].span.clone());
        let Some(token) = self.peek().cloned() else {
            let span = before.unwrap_or(0..0);
            let report = Report::new(format!("something is missing after `{}`", &self.text[span.clone()]));
            return Err(self.at(report, span).hint(HOW));
        };
        self.at += 1;
        match token.kind {
            Kind::Open => {
                let inner = self.any()?;
                match self.peek() {
                    Some(Token { kind: Kind::Close, .. }) => self.at += 1,
                    _ => {
                        let report = self.at(Report::new("the bracket is not closed"), token.span);
                        return Err(report.hint("`)` or a word as `and` is missing behind it"));
                    }
                }
                Ok(inner)
            }
            Kind::Close => {
                let report = self.at(Report::new("something is missing before `)`"), token.span);
                Err(report.hint(HOW))
            }
            Kind::Sign(sign) => {
                let report = Report::new(format!("a key is missing before `{}`", sign.text()));
                Err(self.at(report, token.span).hint("`key=value`; keys are those of `status` and the grid's axes"))
            }
            Kind::Word(ref word) | Kind::Quoted(ref word) => match self.peek().cloned() {
                Some(Token { kind: Kind::Sign(sign), span }) => {
                    self.at += 1;
                    self.comparison(word, token.span.clone(), sign, span)
                }
                _ => self.bare(word, token.span.clone()),
            },
        }
    }

    fn comparison(
        &mut self,
        key: &str,
        span: Range<usize>,
        sign: Sign,
        at: Range<usize>,
    ) -> Result<Expression, Report> {
        let value = match self.peek().cloned() {
            Some(Token { kind: Kind::Word(value) | Kind::Quoted(value), span }) => (value, span),
            _ => {
                let report = Report::new(format!("a value is missing after `{}`", &self.text[span.start..at.end]));
                return Err(self.at(report, at).hint("a value with blanks or signs wants quotes: `student=\"a b\"`"));
            }
        };
        self.at += 1;
        let (value, place) = value;
        if sign.is_order() && number(&value).is_none() {
            let report = Report::new(format!("`{}` compares numbers, and `{value}` is none", sign.text()));
            return Err(self.at(report, place).hint("words have `=`, `!=` and `~` (contains)"));
        }
        // As people and tables call it.
        let key = match key {
            "teaching" => "mode",
            "lr" => "learning-rate",
            key => key,
        };
        Ok(Expression::Compare(Comparison { key: key.to_owned(), span, sign, value, place }))
    }

    fn bare(&self, word: &str, span: Range<usize>) -> Result<Expression, Report> {
        if word == "all" {
            return Ok(Expression::All);
        }
        if let Some(state) = STATES.into_iter().find(|state| *state == word) {
            return Ok(Expression::State(state));
        }
        if is_id(word) {
            return Ok(Expression::Id(Id { prefix: word.to_owned(), span }));
        }
        let known = STATES.into_iter().chain(["all", "and", "or", "not"]);
        let hint = match nearest(word, known) {
            _ if super::KEYS.contains(&word) => format!("`{word}=VALUE` compares"),
            Some(near) => format!("did you mean `{near}`?"),
            None => HOW.to_owned(),
        };
        Err(self.at(Report::new(format!("unknown word `{word}`")), span).hint(hint))
    }

    fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    fn took(&mut self, wanted: &str) -> bool {
        let there = self.peek().is_some_and(|token| matches!(&token.kind, Kind::Word(word) if word == wanted));
        self.at += usize::from(there);
        there
    }

    fn at(&self, report: Report, span: Range<usize>) -> Report {
        report.at("selector", self.text, span)
    }
}

/// The digits of an id.
fn is_id(word: &str) -> bool {
    word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_bare(word: &str) -> bool {
    word == "all" || STATES.contains(&word) || is_id(word)
}

fn is_list(expression: &Expression) -> bool {
    match expression {
        Expression::All | Expression::State(_) | Expression::Id(_) => true,
        Expression::Or(left, right) => is_list(left) && is_list(right),
        _ => false,
    }
}
