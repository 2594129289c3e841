//! Claims and what becomes of them.

use base64::Engine as _;
use distillery::event::Which;
use distillery::report::{self, Ruling, Verdict};
use distillery::store::Outcome;

use super::made_up::{self, done, from_teacher, grid, modes, open};
use super::read;

/// Runs of function matching and of a fixed teacher, seed by seed.
fn two(left: &[f64], right: &[f64]) -> Vec<Outcome> {
    let side = |mode, values: &[f64]| -> Vec<Outcome> {
        let runs = values.iter().enumerate().map(|(seed, top1)| {
            let mut outcome = done(from_teacher(mode, 10, seed as u64), &[]);
            outcome.epochs.last_mut().unwrap().evaluations.iter_mut().for_each(|evaluation| evaluation.top1 = *top1);
            outcome
        });
        runs.collect()
    };
    [side(made_up::FUNCTION_MATCHING, left), side(modes()[1], right)].concat()
}

fn judge(head: &str, claims: &[&str], outcomes: &[Outcome]) -> Vec<Verdict> {
    let claims: String = claims
        .iter()
        .enumerate()
        .map(|(index, more)| {
            format!(
                "[[claim]]\nclaim = \"claim {index}\"\nleft = {{ teaching = \"function-matching\" }}\n\
                 right = {{ teaching = \"fixed/cc\" }}\n{more}\n"
            )
        })
        .collect();
    let text = format!(
        "experiment = \"made-up\"\ntitle = \"Made up\"\n{head}\n[[panel]]\ntitle = \"Accuracy\"\n\
         duration = {{ value = \"test.top1\", series = \"teaching\" }}\n{claims}"
    );
    report::verdicts(&read(&text).unwrap(), outcomes)
}

fn one(more: &str, left: &[f64], right: &[f64]) -> Ruling {
    judge("", &[more], &two(left, right)).remove(0).ruling
}

#[test]
fn a_claim_is_supported_contradicted_or_undecided() {
    let (high, low) = ([0.84, 0.85, 0.86], [0.80, 0.812, 0.818]);
    assert_eq!(one("", &high, &low), Ruling::Supported);
    assert_eq!(one("", &low, &high), Ruling::Contradicted);
    assert_eq!(one("expect = \"less\"", &low, &high), Ruling::Supported);
    assert_eq!(one("expect = \"less\"", &high, &low), Ruling::Contradicted);
    // Not above zero by enough to be of interest.
    assert_eq!(one("smallest = 0.1", &high, &low), Ruling::Contradicted);
    let near = [0.841, 0.8505, 0.8592];
    assert_eq!(one("expect = \"equal\"\nsmallest = 0.01", &high, &near), Ruling::Supported);
    assert_eq!(one("expect = \"equal\"\nsmallest = 0.01", &high, &low), Ruling::Contradicted);
    assert_eq!(one("expect = \"not-less\"\nsmallest = 0.01", &near, &high), Ruling::Supported);
    assert_eq!(one("expect = \"not-less\"\nsmallest = 0.01", &low, &high), Ruling::Contradicted);
    let Ruling::Undecided { more: Some(more) } = one("", &[0.84, 0.85, 0.86], &[0.81, 0.86, 0.82]) else { panic!() };
    assert!((1..30).contains(&more), "{more}");
    assert_eq!(one("", &[0.84, 0.86], &[0.86, 0.84]), Ruling::Undecided { more: None }, "no difference at all");
}

#[test]
fn the_numbers_of_a_verdict_are_those_of_a_paired_t_test() {
    // scipy 1.17: ttest_rel([.8412, .839, .8455], [.829, .8315, .8322]).
    let verdict = judge("", &[""], &two(&[0.8412, 0.839, 0.8455], &[0.829, 0.8315, 0.8322])).remove(0);
    assert_eq!(verdict.numbers().unwrap(), "+1.1 points, +0.3 to +1.9 (n = 3 pairs, 10 epochs)");
    let measured = verdict.measured.unwrap();
    assert!((measured.p.unwrap() - 0.02516076472306447).abs() < 1e-6, "{measured:?}");
    assert!(measured.paired && measured.left_jobs.len() == 3);
    // Seeds that do not meet are two groups.
    let mut outcomes = two(&[0.8412, 0.839, 0.8455], &[0.829, 0.8315, 0.8322]);
    for outcome in &mut outcomes[3..] {
        outcome.job.seed += 100;
    }
    let measured = judge("", &[""], &outcomes).remove(0).measured.unwrap();
    assert!(!measured.paired && measured.difference.freedom < 4.0, "{measured:?}");
}

fn reason(ruling: Ruling) -> String {
    match ruling {
        Ruling::Refused(reason) | Ruling::NoData(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_decided_is_not() {
    assert!(reason(one("", &[0.85], &[0.80])).contains("n = 1"));
    assert!(reason(one("", &[0.85, 0.86, 0.87], &[0.10, 0.11, 0.105])).contains("at chance"));
    assert!(reason(one("", &[0.998, 0.9985, 0.999], &[0.996, 0.997, 0.9965])).contains("at the ceiling"));
    assert!(reason(one("", &[0.85, 0.86], &[0.80, 0.81])).contains("same difference"));
    assert!(reason(one("", &[0.85, f64::NAN], &[0.80, 0.82])).contains("not a finite number"));
    let runs = two(&[0.85, 0.86, 0.88], &[0.80, 0.82, 0.81]);
    let gated = judge("teacher-gate = 0.9", &[""], &runs).remove(0).ruling;
    assert!(reason(gated).contains("a teacher has 87.1"), "on validation images");
    assert_eq!(judge("teacher-gate = 0.87", &[""], &runs).remove(0).ruling, Ruling::Supported);
    let mut missing = two(&[0.85, 0.86, 0.88], &[]);
    missing.extend([open(from_teacher(modes()[1], 10, 0)), open(from_teacher(modes()[1], 10, 1))]);
    assert!(reason(judge("", &[""], &missing).remove(0).ruling).contains("none of 2 jobs of one side"));
    let elsewhere = judge("", &["where = { epochs = 77 }"], &runs).remove(0).ruling;
    assert!(matches!(&elsewhere, Ruling::NoData(reason) if reason.contains("no job")), "{elsewhere:?}");
    // Two lengths on one side.
    assert!(reason(judge("", &[""], &grid(2)).remove(0).ruling).contains("differ in `epochs`"));
}

#[test]
fn a_student_is_compared_with_its_own_teacher() {
    let runs = two(&[0.855, 0.858, 0.852], &[0.80, 0.82, 0.81]);
    let text = |right: &str, more: &str| {
        format!(
            "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\n\
             duration = {{ value = \"test.top1\", series = \"teaching\" }}\n[[claim]]\nclaim = \"c\"\n\
             left = {{ teaching = \"function-matching\" }}\nright = {right}\n{more}\n"
        )
    };
    let own = "{ teacher = \"own\" }";
    // Made-up teachers have 86.15 % of the test images.
    let near = report::verdicts(&read(&text(own, "expect = \"not-less\"\nsmallest = 0.02")).unwrap(), &runs).remove(0);
    assert_eq!(near.ruling, Ruling::Supported);
    let measured = near.measured.unwrap();
    assert!(
        (measured.difference.mean - (0.855 - 0.8615)).abs() < 1e-12 && measured.right_jobs.is_empty(),
        "{measured:?}"
    );
    let above = report::verdicts(&read(&text(own, "")).unwrap(), &runs).remove(0);
    assert!(matches!(above.ruling, Ruling::Undecided { .. } | Ruling::Contradicted), "{above:?}");
    let both = read(&text("{ teacher = \"own\", epochs = 10 }", "")).unwrap_err().to_string();
    assert!(both.contains("stands alone, and on the right"), "{both}");
}

#[test]
fn lengths_may_be_told_by_their_place() {
    let epochs = |more: &str| {
        let verdict = judge("", &[more], &grid(3)).remove(0);
        let jobs = verdict.measured.unwrap().left_jobs;
        grid(3).iter().find(|outcome| outcome.id == jobs[0]).unwrap().job.epochs
    };
    assert_eq!(epochs("where = { epochs = \"longest\" }"), 100);
    assert_eq!(epochs("where = { epochs = \"next-to-longest\" }"), 30);
    assert_eq!(epochs("where = { epochs = \"shortest\" }"), 10);
}

/// Twenty claims that are not so: without a correction one of them is supported by luck.
#[test]
fn many_claims_are_corrected_together() {
    let runs = two(&[0.8412, 0.839, 0.8455], &[0.829, 0.8315, 0.8322]);
    assert_eq!(judge("", &[""], &runs)[0].ruling, Ruling::Supported);
    let twice = judge("", &["", ""], &runs);
    assert!(matches!(twice[0].ruling, Ruling::Undecided { .. }), "p of 0.025 twice is 0.05 and a bit: {twice:?}");
    assert_eq!(judge("correction = \"none\"", &["", ""], &runs)[1].ruling, Ruling::Supported);
}

/// Where there is no difference, none is found but by accident, and not more often than was said.
#[test]
fn no_difference_is_called_supported_in_at_most_a_twentieth() {
    let mut state = 7_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    // Sums of uniforms, as good as normal; each pair shares what its seed does to both.
    let mut normal = move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let (mut supported, mut contradicted) = (0, 0);
    for _ in 0..200 {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let seed = 0.02 * normal();
            left.push(0.8 + seed + 0.01 * normal());
            right.push(0.8 + seed + 0.01 * normal());
        }
        match one("", &left, &right) {
            Ruling::Supported => supported += 1,
            Ruling::Contradicted => contradicted += 1,
            _ => {}
        }
    }
    assert!(supported <= 10 && contradicted <= 10, "{supported} supported, {contradicted} contradicted of 200");
    assert!(supported + contradicted > 0, "a test that never decides is no test");
}

#[test]
fn images_are_compared_one_by_one() {
    let mut runs = two(&[0.75, 0.75], &[0.5, 0.5]);
    let bits = |bytes: &[u8]| Some(base64::engine::general_purpose::STANDARD.encode(bytes));
    for (index, outcome) in runs.iter_mut().enumerate() {
        let test = outcome.epochs.last_mut().unwrap().evaluations.iter_mut().find(|e| e.split == Which::Test).unwrap();
        test.images = 96;
        // Left has the first 72 of 96, right the last 48.
        test.correct = if index < 2 {
            bits(&[[0xFF; 9].as_slice(), &[0; 3]].concat())
        } else {
            bits(&[[0; 6], [0xFF; 6]].concat())
        };
        test.top1 = if index < 2 { 0.75 + 0.01 * index as f64 } else { 0.5 };
    }
    let images = judge("", &[""], &runs).remove(0).measured.unwrap().images.unwrap();
    assert_eq!((images.images, images.seeds, images.only_left, images.only_right), (96, 2, 48.0, 24.0));
    assert!(images.p.is_none(), "seeds are not images");
    let interval = images.interval.unwrap();
    assert!(interval.low < 0.25 && interval.high > 0.25 && interval.low > 0.0, "{interval:?}");
}

#[test]
fn malformed_claims_say_what_is_wrong() {
    let fault = |claim: &str| {
        let text = format!(
            "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\nduration = {{ value = \"test.top1\", series = \"x\" }}\n\
             [[claim]]\nclaim = \"c\"\n{claim}\n"
        );
        read(&text).unwrap_err().to_string()
    };
    assert!(fault("left = { a = 1 }\nright = { a = 1 }").contains("compares jobs with themselves"));
    assert!(fault("left = { a = 1 }\nright = { a = 2 }\nexpect = \"equal\"").contains("needs `smallest`"));
    assert!(fault("left = { a = 1 }\nright = { a = 2 }\nsmallest = -1.0").contains("0 or more"));
    assert!(fault("left = { seed = 1 }\nright = { seed = 2 }").contains("seeds are compared in pairs"));
    assert!(fault("left = { a = 1 }\nright = { a = 2 }\nexpect = \"more\"").contains("unknown variant `more`"));
}

#[test]
fn claims_that_cannot_be_judged_yet_count_all_the_same() {
    let runs = two(&[0.8412, 0.839, 0.8455], &[0.829, 0.8315, 0.8322]);
    let with_one_missing = judge("", &["", "where = { epochs = 77 }"], &runs);
    assert!(
        matches!(with_one_missing[0].ruling, Ruling::Undecided { .. }),
        "p of 0.025, of two claims: {with_one_missing:?}"
    );
}

#[test]
fn a_place_where_nobody_stands_is_named() {
    let runs = two(&[0.85, 0.86], &[0.80, 0.82]);
    let text = "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\n\
                duration = { value = \"test.top1\", series = \"teaching\" }\n[[claim]]\nclaim = \"c\"\n\
                left = { teaching = \"function-matching\" }\nright = { teaching = \"fixed/c\" }\n";
    let told = reason(report::verdicts(&read(text).unwrap(), &runs).remove(0).ruling);
    assert_eq!(told, "no job stands at `teaching = fixed/c`: there are `fixed/cc`, `function-matching`");
    let either = text.replace("fixed/c\"", "fixed/c | fixed/cc\"");
    assert!(report::verdicts(&read(&either).unwrap(), &runs).remove(0).measured.is_some(), "one of two names");
    let same = text.replace("fixed/c\"", "function-matching | x\"");
    assert_eq!(reason(report::verdicts(&read(&same).unwrap(), &runs).remove(0).ruling), "both sides are the same jobs");
}

/// A length that both have in common, and one that is a side's own.
#[test]
fn lengths_of_both_and_of_each() {
    let mut runs = grid(3);
    runs.retain(|outcome| outcome.job.teaching_name() != "fixed/cc" || outcome.job.epochs < 100);
    let found = |more: &str, left: &str, right: &str| {
        let text = format!(
            "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\n\
             duration = {{ value = \"test.top1\", series = \"teaching\" }}\n[[claim]]\nclaim = \"c\"\n{more}\n\
             left = {{ teaching = \"function-matching\"{left} }}\nright = {{ teaching = \"fixed/cc\"{right} }}\n"
        );
        report::verdicts(&read(&text).unwrap(), &runs).remove(0).measured.unwrap().epochs
    };
    assert_eq!(found("where = { epochs = \"longest\" }", "", ""), [Some(30), Some(30)]);
    let own = ", epochs = \"longest\"";
    assert_eq!(found("", own, own), [Some(100), Some(30)]);
    let best = ", epochs = \"best\"";
    assert_eq!(found("", best, best), [Some(100), Some(30)], "the longest are the best of those made up");
}
