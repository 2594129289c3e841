//! Which jobs are meant: the beginning of an id, or what is true of them. Pure.
//!
//! ```text
//! 3fa2c1de                                            one job, by the beginning of its id
//! failed                                              all in a state; `all` is every job
//! mode=function-matching and epochs>=1000
//! not (seed=0 or optimizer=shampoo) and student~resnet
//! ```
//!
//! Input: what was typed, and [`Subject`]s. Output: those that match. `and` binds closer than `or`; several ids without
//! a word between them are several jobs. Values are compared as numbers where both are numbers; `~` asks whether the
//! value contains the text, in capitals or not. A key is what every job has ([`KEYS`]) or an axis of its experiment; what a
//! job does not have is different from everything.

mod expression;
mod token;

use crate::diagnostic::{Report, nearest, one_of};

use expression::{Comparison, Expression, parse};
use token::Sign;

/// Keys that every job has.
pub const KEYS: [&str; 16] = [
    "id",
    "mode",
    "student",
    "data",
    "seed",
    "epochs",
    "resolution",
    "batch",
    "learning-rate",
    "weight-decay",
    "temperature",
    "state",
    "experiment",
    "cohort",
    "priority",
    "message",
];

/// Words that stand for a state.
pub const STATES: [&str; 8] = ["open", "running", "interrupted", "done", "failed", "blocked", "held", "cancelled"];

/// Something that is chosen or not.
pub trait Subject {
    fn id(&self) -> &str;

    /// The values of a key: none where it has no such key, several where it has it in several experiments.
    fn values(&self, key: &str) -> Vec<String>;

    /// What it is called in a list of candidates.
    fn label(&self) -> String;
}

/// What was typed, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    text: String,
    expression: Expression,
}

impl Selection {
    /// Words are joined, as a shell took them apart.
    ///
    /// # Errors
    /// With a caret under what is wrong.
    pub fn parse(words: &[String]) -> Result<Selection, Report> {
        let text = words.join(" ");
        let expression = parse(&text)?;
        Ok(Selection { text, expression })
    }

    /// Those that match, in their order; perhaps none.
    ///
    /// # Errors
    /// When a key is neither in [`KEYS`] nor in `axes`, or an id's beginning is that of none or of several.
    pub fn choose<'a, S: Subject>(&self, all: &'a [S], axes: &[&str]) -> Result<Vec<&'a S>, Report> {
        self.check(&self.expression, all, axes)?;
        Ok(all.iter().filter(|subject| self.expression.matches(*subject)).collect())
    }

    fn check<S: Subject>(&self, expression: &Expression, all: &[S], axes: &[&str]) -> Result<(), Report> {
        match expression {
            Expression::All | Expression::State(_) => Ok(()),
            Expression::Not(inner) => self.check(inner, all, axes),
            Expression::And(left, right) | Expression::Or(left, right) => {
                self.check(left, all, axes)?;
                self.check(right, all, axes)
            }
            Expression::Compare(comparison) => {
                let key = comparison.key.as_str();
                let known = || KEYS.into_iter().chain(axes.iter().copied());
                if key == "state" && comparison.sign != Sign::Contains {
                    return self.check_state(comparison);
                }
                if known().any(|one| one == key) {
                    return Ok(());
                }
                let hint = match nearest(key, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => one_of(key, known().collect::<Vec<_>>()),
                };
                let message = format!("unknown key `{key}`");
                Err(Report::new(message).at("selector", &self.text, comparison.span.clone()).hint(hint))
            }
            Expression::Id(id) => {
                let found: Vec<&S> = all.iter().filter(|one| one.id().starts_with(&id.prefix)).collect();
                let hint = match found.as_slice() {
                    [_] => return Ok(()),
                    [] => "`distillery status NAME` lists the jobs of an experiment".to_owned(),
                    several => candidates(several),
                };
                let what = if found.is_empty() { "is the beginning of no job" } else { "begins several jobs" };
                let message = format!("`{}` {what}", id.prefix);
                Err(Report::new(message).at("selector", &self.text, id.span.clone()).hint(hint))
            }
        }
    }

    /// A state that there is not would be that of no job, without a word.
    fn check_state(&self, comparison: &Comparison) -> Result<(), Report> {
        let value = comparison.value.as_str();
        if STATES.contains(&value) {
            return Ok(());
        }
        let hint = one_of(value, STATES);
        let report = Report::new(format!("unknown state `{value}`"));
        Err(report.at("selector", &self.text, comparison.place.clone()).hint(hint))
    }
}

/// Candidates that are named.
const MOST_NAMED: usize = 8;

fn candidates<S: Subject>(found: &[&S]) -> String {
    let mut lines: Vec<String> =
        found.iter().take(MOST_NAMED).map(|one| format!("{} {}", one.id(), one.label())).collect();
    if found.len() > MOST_NAMED {
        lines.push(format!("and {} more", found.len() - MOST_NAMED));
    }
    format!("say more of one of\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, Vec<(&'static str, &'static str)>);

    impl Subject for Thing {
        fn id(&self) -> &str {
            self.0
        }

        fn values(&self, key: &str) -> Vec<String> {
            self.1.iter().filter(|(one, _)| *one == key).map(|(_, value)| (*value).to_owned()).collect()
        }

        fn label(&self) -> String {
            format!("thing of {}", self.values("mode").join(", "))
        }
    }

    fn things() -> Vec<Thing> {
        let thing = |id, mode, epochs, state, optimizer: Option<&'static str>| {
            let mut all = vec![("mode", mode), ("epochs", epochs), ("state", state), ("student", "BiT-R50x1")];
            all.extend(optimizer.map(|name| ("optimizer", name)));
            Thing(id, all)
        };
        vec![
            thing("aa10", "function-matching", "1000", "open", Some("adam")),
            thing("aa22", "function-matching", "300", "failed", Some("shampoo")),
            thing("b333", "fixed/cc", "1000", "done", None),
        ]
    }

    fn chosen(text: &str) -> Result<String, Report> {
        let selection = Selection::parse(&[text.to_owned()])?;
        let things = things();
        let found = selection.choose(&things, &["optimizer", "distance.kl.temperature"])?;
        Ok(found.iter().map(|thing| thing.0).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn expressions_choose() {
        for (text, expected) in [
            ("all", "aa10 aa22 b333"),
            ("b", "b333"),
            ("aa1 b333", "aa10 b333"),
            ("failed", "aa22"),
            ("not failed", "aa10 b333"),
            ("mode=function-matching and epochs>=1000", "aa10"),
            ("mode = function-matching and epochs >= 1e3", "aa10"),
            ("mode=\"fixed/cc\" or state='failed'", "aa22 b333"),
            ("epochs<1_000", "aa22"),
            ("epochs=1000.0", "aa10 b333"),
            ("epochs!=1000", "aa22"),
            ("state~don", "b333"),
            ("student~r50", "aa10 aa22 b333"),
            ("optimizer=shampoo", "aa22"),
            // What it does not have is different from everything.
            ("optimizer!=shampoo", "aa10 b333"),
            ("optimizer<1", ""),
            // `and` binds closer, `not` closest.
            ("done or open and mode~fixed", "b333"),
            ("(done or open) and not mode~fixed", "aa10"),
            ("not not (done)", "b333"),
            ("epochs>300 and epochs<=1000 and state!=done", "aa10"),
        ] {
            assert_eq!(chosen(text).unwrap_or_else(|report| panic!("{text}: {report}")), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_caret_and_a_way_out() {
        for (text, message, hint) in [
            ("", "nothing is selected", "an id"),
            ("mod=x", "unknown key `mod`", "did you mean `mode`?"),
            ("state=donee", "unknown state `donee`", "did you mean `done`?"),
            ("not state!=7", "unknown state `7`", "held"),
            ("optimiser=x", "unknown key `optimiser`", "did you mean `optimizer`?"),
            ("aa", "`aa` begins several jobs", "aa10 thing of function-matching"),
            ("cc", "`cc` is the beginning of no job", "distillery status"),
            ("faild", "unknown word `faild`", "did you mean `failed`?"),
            ("epochs>many", "`>` compares numbers, and `many` is none", "~"),
            ("mode=", "a value is missing after `mode=`", "quotes"),
            ("mode", "unknown word `mode`", "mode=VALUE"),
            ("(done", "the bracket is not closed", ")"),
            ("done)", "nothing was opened that `)` closes", "quotes"),
            ("done failed and", "something is missing after `and`", "an id"),
            ("epochs=1 epochs=2", "`and` or `or` is missing", "and"),
            ("mode='x", "the quote is not closed", "'"),
            ("=3", "a key is missing before `=`", "key"),
        ] {
            let report = chosen(text).expect_err(text);
            assert_eq!(report.message(), message, "{text}");
            assert!(report.advice().is_some_and(|advice| advice.contains(hint)), "{text}: {:?}", report.advice());
            // A caret can be drawn wherever it is.
            assert!(report.to_string().contains(message), "{report}");
        }
    }

    /// Whatever is typed, it is understood or refused, and negation is negation.
    #[test]
    fn no_text_breaks_it() {
        let words =
            ["aa10", "and", "or", "not", "(", ")", "epochs", "=", "<", ">=", "~", "1000", "'x", "\"", "é", "failed"];
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(state >> 60) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text += words[(state >> 33) as usize % words.len()];
                text += if state >> 32 & 1 == 0 { " " } else { "" };
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(3);
            if let Ok(found) = chosen(&text) {
                let rest = chosen(&format!("not ({text})")).unwrap();
                assert_eq!(found.split_whitespace().count() + rest.split_whitespace().count(), 3, "{text}");
            }
        }
    }
}
