//! Images that are trained on and measured on: what the same images of other sets, and copies in the same one, make of
//! a measurement.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::job::{Data, Job, PerClass, Slice};

/// What tells the images of a data set apart.
#[derive(Debug)]
pub struct Prints {
    /// Of training, validation and test; none where images came as pixels.
    pub digests: [Vec<[u8; 32]>; 3],
    pub train_labels: Arc<[u32]>,
}

/// Images that a job is trained on.
#[derive(PartialEq, Eq, Hash)]
struct Seen<'a> {
    sha256: &'a str,
    name: &'a str,
    slice: &'a Slice,
    per_class: Option<PerClass>,
}

/// Images that a job is measured on.
#[derive(PartialEq, Eq, Hash)]
struct Measured<'a> {
    sha256: &'a str,
    name: &'a str,
    slice: &'a Slice,
    /// `validation` or `test`.
    by: &'static str,
    /// Whether it is not the job itself that was trained on the others, but what it learns or starts from.
    before: bool,
}

/// A line for every two sets that share images, by the SHA-256 of each set: of images that a job, or what it learns or
/// starts from, is trained on and that the job is measured on. Where slices differ in how many, it is the most.
pub fn notes<'a>(prints: &BTreeMap<String, Prints>, jobs: impl Iterator<Item = &'a Job>) -> Vec<String> {
    // By what is trained on, which is gone through once.
    let mut pairs: HashMap<Seen<'_>, HashSet<Measured<'_>>> = HashMap::new();
    for job in jobs {
        let mut trained = vec![(job, false)];
        while let Some((own, before)) = trained.pop() {
            trained.extend(own.needs().map(|needed| (&**needed, true)));
            for seen in seen(own) {
                let measured = pairs.entry(seen).or_default();
                for (by, slice) in [("validation", &job.split.validation), ("test", &job.split.test)] {
                    let Data { sha256, name, .. } = &job.data;
                    measured.insert(Measured { sha256, name, slice, by, before });
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for (seen, measured) in &pairs {
        let shown: HashSet<&[u8; 32]> = seen.digests(prints).into_iter().collect();
        for one in measured {
            let count = cut(prints, one.sha256, one.slice).iter().filter(|digest| shown.contains(digest)).count();
            if count > 0 {
                let pair = (one.sha256, seen.sha256, one.by);
                let (most, _, before) = found.entry(pair).or_insert((count, (one.name, seen.name), one.before));
                (*most, *before) = (count.max(*most), *before && one.before);
            }
        }
    }
    let line = |((of, from, by), (count, (of_name, from_name), before))| {
        let among = if of == from { "copies of those".to_owned() } else { format!("among those of `{from_name}`") };
        let who = if before { "its teacher or start is trained on" } else { "are trained on" };
        format!("{count} {by} images of `{of_name}` are {among} that {who}")
    };
    found.into_iter().map(line).collect()
}

fn seen(job: &Job) -> impl Iterator<Item = Seen<'_>> {
    let own = job.train_on.is_empty().then_some((&job.data, &job.split.train, job.split.per_class));
    let sets = job.train_on.iter().map(|set| (&set.data, &set.slice, None));
    sets.chain(own).map(|(data, slice, per_class)| Seen { sha256: &data.sha256, name: &data.name, slice, per_class })
}

fn cut<'a>(prints: &'a BTreeMap<String, Prints>, sha256: &str, slice: &Slice) -> &'a [[u8; 32]] {
    let part = prints.get(sha256).map(|prints| &prints.digests[slice.part as usize]);
    part.and_then(|part| part.get(slice.start as usize..slice.end as usize)).unwrap_or_default()
}

impl Seen<'_> {
    fn digests<'a>(&self, prints: &'a BTreeMap<String, Prints>) -> Vec<&'a [u8; 32]> {
        let all = cut(prints, self.sha256, self.slice).iter();
        let labels = prints.get(self.sha256).map(|prints| &prints.train_labels[..]).unwrap_or_default();
        let (Some(chosen), Some(labels)) = (self.per_class, labels.get(self.slice.start as usize..)) else {
            return all.collect();
        };
        let mut counts = HashMap::new();
        let first = all.zip(labels).filter(|(_, label)| {
            let count = counts.entry(**label).or_insert(0);
            *count += 1;
            *count <= chosen.each
        });
        first.map(|(digest, _)| digest).collect()
    }
}
