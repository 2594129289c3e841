//! What a job costs in floating-point operations, from the architectures' arithmetic alone.

use std::iter::Sum;

use super::Cohort;
use crate::job::{Job, Objective, Teaching};

/// Floating-point operations. A training step counts three forwards of the student and one of each teacher.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub student_flops: f64,
    pub teacher_flops: f64,
}

impl Cost {
    pub fn total(&self) -> f64 {
        self.student_flops + self.teacher_flops
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |sum, cost| Cost {
            student_flops: sum.student_flops + cost.student_flops,
            teacher_flops: sum.teacher_flops + cost.teacher_flops,
        })
    }
}

/// A job by itself, without evaluations.
pub fn job_cost(job: &Job) -> Cost {
    let images = job.total_steps() as f64 * f64::from(job.batch);
    Cost { student_flops: images * job.student.training_flops(job.input()), teacher_flops: teacher_flops(job, images) }
}

/// A cohort: students add up, the teacher is asked once, for the longest.
pub fn cohort_cost(cohort: &Cohort) -> Cost {
    let costs = cohort.jobs.iter().map(|(_, job)| job_cost(job));
    costs.fold(Cost::default(), |sum, cost| Cost {
        student_flops: sum.student_flops + cost.student_flops,
        teacher_flops: sum.teacher_flops.max(cost.teacher_flops),
    })
}

/// What a cohort leaves on disk: its students' weights in f32, with those of the last step beside an average of them, and
/// answers that are kept because they are asked for again.
pub fn cohort_bytes(cohort: &Cohort) -> f64 {
    let student = |job: &Job| {
        let copies = if job.ema.is_off() { 1.0 } else { 2.0 };
        4.0 * copies * job.student.parameters(job.input()) as f64
    };
    let kept = |job: &Job| {
        let Objective::Distil(distil) = &job.objective else { return 0.0 };
        let answers = if distil.teaching.is_fixed() {
            job.train_images() as f64
        } else {
            job.cycle().map_or(0.0, |steps| steps as f64 * f64::from(job.batch))
        };
        4.0 * answers * f64::from(job.data.classes)
    };
    let answers = cohort.jobs.iter().map(|(_, job)| kept(job)).fold(0.0, f64::max);
    cohort.jobs.iter().map(|(_, job)| student(job)).sum::<f64>() + answers
}

/// What the teachers' answers to `images` training images cost a job that runs alone. `fixed` modes ask once an image.
pub fn teacher_flops(job: &Job, images: f64) -> f64 {
    let Objective::Distil(distil) = &job.objective else { return 0.0 };
    let asked = match distil.teaching {
        Teaching::FixedResize | Teaching::FixedCentralCrop => job.train_images() as f64,
        Teaching::FixedInceptionEnsemble { crops } => job.train_images() as f64 * f64::from(crops),
        // A stream that is replayed was asked about once.
        _ => job.cycle().map_or(images, |steps| images.min(steps as f64 * f64::from(job.batch))),
    };
    let each = distil.teachers.iter().map(|teacher| teacher.source.model().forward_flops(job.teacher_input(teacher)));
    asked * each.sum::<f64>()
}
