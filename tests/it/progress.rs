//! The plain lines, as text.

use std::time::Duration;

use distillery::event::{Event, Failure};
use distillery::plan::Plan;
use distillery::progress::Plain;
use distillery::schedule::{Level, Notice};

use crate::store::{epoch, labels_job, says, student_job};

#[test]
fn plain_lines() {
    let teacher = labels_job(0, 2);
    let (short, long) = (student_job(&teacher, 0.01, 10), student_job(&teacher, 0.003, 20));
    let plan = Plan::new(&[short.clone(), long.clone()], &Default::default());
    let cohort = |at: usize| plan.cohorts[at].id.clone();
    let jobs = |at: usize| plan.cohorts[at].jobs.iter().map(|(job, _)| job.clone()).collect();
    let message = |at: usize, job, event| Notice::Message { cohort: cohort(at), message: says(job, 1, 0, event) };
    let step = |step| Event::Step { step, loss: 1.0, images_per_second: 12_345.0 };
    let failed = Event::Failed { class: Failure::NotFinite, message: "the loss is NaN in epoch 3".into() };

    let mut plain = Plain::new(&plan);
    let mut text = String::new();
    for (seconds, notice) in [
        (0, Notice::CohortStarted { cohort: cohort(0), jobs: jobs(0) }),
        (1, message(0, &teacher, Event::Started { epoch: 0 })),
        (4, message(0, &teacher, Event::Epoch(epoch(1)))),
        (8, message(0, &teacher, Event::Epoch(epoch(2)))),
        (9, message(0, &teacher, Event::Finished)),
        (9, Notice::CohortEnded { cohort: cohort(0) }),
        (10, Notice::CohortStarted { cohort: cohort(1), jobs: jobs(1) }),
        (11, message(1, &short, Event::Started { epoch: 0 })),
        (11, message(1, &long, Event::Started { epoch: 5 })),
        (12, message(1, &long, Event::Torn { file: "checkpoint-a.safetensors".into() })),
        (19, message(1, &long, Event::Epoch(epoch(6)))),
        (20, message(1, &long, step(28))),
        (21, message(1, &long, step(30))),
        (29, message(1, &short, Event::Epoch(epoch(3)))),
        (35, message(1, &short, Event::Epoch(epoch(4)))),
        (36, message(1, &short, failed)),
        (
            37,
            Notice::Lost { cohort: cohort(1), jobs: vec![long.id()], why: "the worker was killed".into(), again: true },
        ),
        (38, Notice::Stopping { level: Level::Finish }),
        (39, message(1, &long, Event::Stopped { epoch: 7, step: 30 })),
        (40, Notice::Blocked { job: long.id(), by: teacher.id() }),
        (41, Notice::Stopping { level: Level::Now }),
    ] {
        for line in plain.notice(&notice, Duration::from_secs(seconds)) {
            text += &format!("{seconds:>3} {line}\n");
        }
    }
    insta::assert_snapshot!(text);
}
