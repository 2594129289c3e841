//! `compare` and `leaderboard`: results in the terminal, with the same statistics as the reports.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::choice::choose;
use super::{Usage, place, print, print_json, shipped, table};
use crate::cli;
use crate::grid::sized;
use crate::job::JobId;
use crate::report::{Over, Value, comparison, ranking};
use crate::store::{Outcome, Rows, Store};

pub async fn compare(arguments: cli::Compare) -> Result<ExitCode> {
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let standings = store.standings().await?;
    let mut sides = Vec::new();
    for selector in [&arguments.left, &arguments.right] {
        let chosen = choose(std::slice::from_ref(selector), &standings)?;
        if chosen.is_empty() {
            let hint = "`distillery status NAME` lists the jobs of an experiment";
            return Err(Usage(format!("no job is `{selector}`\nhint: {hint}")).into());
        }
        sides.push(chosen.iter().map(|standing| standing.id.clone()).collect::<BTreeSet<JobId>>());
    }
    if sides[0] == sides[1] {
        let hint =
            "compare two settings, such as 'mode=function-matching and epochs=300' and 'mode=fixed/cc and epochs=300'";
        return Err(Usage(format!("both sides are the same jobs\nhint: {hint}")).into());
    }
    let wanted: BTreeSet<&str> = standings
        .iter()
        .filter(|standing| sides.iter().any(|side| side.contains(&standing.id)))
        .flat_map(|standing| standing.experiments.iter().map(|place| place.experiment.as_str()))
        .collect();
    let mut outcomes = Vec::new();
    for experiment in wanted {
        outcomes.extend(store.outcomes_with(experiment, Rows::Last).await?);
    }
    let of = |side: &BTreeSet<JobId>| -> Vec<&Outcome> {
        outcomes.iter().filter(|outcome| side.contains(&outcome.id)).collect()
    };
    let value = arguments.value;
    let found = comparison(value, &of(&sides[0]), &of(&sides[1])).map_err(|error| Usage(error.to_string()))?;
    if arguments.json {
        let side = |over: &Over| {
            let runs = over.runs.iter().map(|(seed, value, job)| json!({ "seed": seed, "value": value, "job": job }));
            json!({ "mean": over.mean, "low": over.interval.map(|i| i.low), "high": over.interval.map(|i| i.high),
                "runs": runs.collect::<Vec<_>>() })
        };
        let differ: Vec<_> =
            found.differ.iter().map(|(axis, a, b)| json!({ "axis": axis, "left": a, "right": b })).collect();
        let difference = found.measured.as_ref().map(|measured| {
            let interval = measured.interval;
            json!({ "mean": measured.difference.mean, "low": interval.map(|i| i.low), "high": interval.map(|i| i.high),
                "n": measured.difference.n, "paired": measured.paired, "p": measured.p })
        });
        print_json(
            &json!({ "value": value.to_string(), "left": side(&found.sides[0]), "right": side(&found.sides[1]),
            "differ": differ, "difference": difference, "by-image": found.images }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows: Vec<Vec<String>> =
        found.differ.iter().map(|(axis, left, right)| vec![axis.clone(), left.clone(), right.clone()]).collect();
    let both = |of: &dyn Fn(&Over) -> String| [of(&found.sides[0]), of(&found.sides[1])];
    let mut row = |name: String, cells: [String; 2]| rows.push(std::iter::once(name).chain(cells).collect());
    row("jobs".to_owned(), both(&|over| over.runs.len().to_string()));
    row(value.to_string(), both(&|over| written(value, over)));
    let mut text = table::table(&["", "left", "right"], &rows);
    let verdict = match &found.measured {
        Some(measured) => {
            let p = measured.p.map_or(String::new(), |p| format!(", p {p:.3}"));
            format!("left minus right: {}{p}", measured.numbers(value))
        }
        None => "one run a side: seeds may differ by as much as this".to_owned(),
    };
    text.push_str(&format!("\n{verdict}\n"));
    if let Some(images) = &found.images {
        text.push_str(&format!("image by image: {images}\n"));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub async fn leaderboard(arguments: cli::Leaderboard) -> Result<ExitCode> {
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let stem = super::stem(&arguments.name);
    let size = match &arguments.size {
        Some(size) => Some(size.as_str()),
        None => super::report::size_in(&store, &stem).await?,
    };
    let recorded = sized(&stem, size);
    let mut outcomes = store.outcomes_with(&recorded, Rows::Last).await?;
    if outcomes.is_empty() {
        shipped::experiment(&stem)?;
        let hint = format!("`distillery run {stem}` fills it; `distillery status` lists what was run");
        return Err(Usage(format!("the store holds nothing of experiment `{recorded}`\nhint: {hint}")).into());
    }
    if let Some(selector) = &arguments.jobs {
        let standings = store.standings().await?;
        let chosen: BTreeSet<JobId> =
            choose(std::slice::from_ref(selector), &standings)?.iter().map(|standing| standing.id.clone()).collect();
        outcomes.retain(|outcome| chosen.contains(&outcome.id));
    }
    let (by, value) = (arguments.by, arguments.value);
    let mut ranked = ranking(by, value, &outcomes);
    if ranked.is_empty() {
        return Err(Usage(format!(
            "no job of `{recorded}` has `{by}` yet\nhint: `distillery status {stem}` says how they stand"
        ))
        .into());
    }
    let all = ranked.len();
    ranked.truncate(arguments.lines);
    if arguments.json {
        let line = |ranked: &crate::report::Ranked| {
            json!({ "places": ranked.places, "n": ranked.by.runs.len(), "by": ranked.by.mean,
                "value": ranked.value.as_ref().map(|over| over.mean), "flops": ranked.flops, "seconds": ranked.seconds,
                "jobs": ranked.by.runs.iter().map(|(_, _, job)| job).collect::<Vec<_>>() })
        };
        print_json(&json!({ "experiment": recorded, "by": by.to_string(), "value": value.to_string(),
            "settings": ranked.iter().map(line).collect::<Vec<_>>() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Only what differs tells settings apart.
    let axes: BTreeSet<&String> = ranked.iter().flat_map(|one| one.places.keys()).collect();
    let axes: Vec<&String> = axes
        .into_iter()
        .filter(|axis| ranked.iter().any(|one| one.places.get(*axis) != ranked[0].places.get(*axis)))
        .collect();
    let mut header: Vec<String> = vec![String::new()];
    header.extend(axes.iter().map(|axis| (*axis).clone()));
    header.extend([by.to_string(), value.to_string(), "FLOPs".to_owned(), "seconds".to_owned()]);
    let rows = ranked.iter().enumerate().map(|(index, one)| {
        let mut row = vec![(index + 1).to_string()];
        row.extend(axes.iter().map(|axis| one.places.get(*axis).cloned().unwrap_or_default()));
        row.push(written(by, &one.by));
        row.push(one.value.as_ref().map_or(String::new(), |over| written(value, over)));
        row.extend([table::flops(one.flops), format!("{:.0}", one.seconds)]);
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    print(&table::table(&header, &rows))?;
    if all > ranked.len() {
        eprintln!("{} of {all} settings; `-n {all}` shows all", ranked.len());
    }
    if by.split() == value.split() && by.split() == Some(crate::event::Which::Test) {
        eprintln!("note: ranked by test images: who chooses by this list has no unseen images left");
    }
    Ok(ExitCode::SUCCESS)
}

/// `84.4 ± 0.7 % (n=3)`
fn written(value: Value, over: &Over) -> String {
    let text = |number: f64| value.table_text_beside(over.mean, number);
    let unit = if value.is_share() { " %" } else { "" };
    let half =
        over.interval.map_or(String::new(), |interval| format!(" ± {}", text((interval.high - interval.low) / 2.0)));
    format!("{}{half}{unit} (n={})", text(over.mean), over.runs.len())
}
