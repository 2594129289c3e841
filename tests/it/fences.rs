//! The architecture's fences (`src/lib.rs`), and the tidiness that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn src() -> Vec<(String, String)> {
    let src = root().join("src");
    let inside = |path: &Path| path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
    sources(&src).into_iter().map(|(path, text)| (inside(&path), text)).collect()
}

/// Whether the code, comments aside, names `word` followed by `::`, as a path does.
fn names(text: &str, word: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.match_indices(word).map(move |(at, _)| (line, at))).any(|(line, at)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + word.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && after.starts_with("::")
    })
}

fn module(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

#[test]
fn libraries_stay_in_their_rooms() {
    let rooms = [
        ("candle_core", vec!["train"]),
        ("candle_nn", vec!["train"]),
        ("candle_datasets", vec!["train"]),
        ("parquet", vec!["train", "export"]),
        ("image", vec!["train"]),
        ("matfile", vec!["train"]),
        ("fast_image_resize", vec!["train"]),
        ("mozjpeg_sys", vec!["train"]),
        ("csv", vec!["train", "export"]),
        ("crc", vec!["export"]),
        ("tar", vec!["train"]),
        ("sqlx", vec!["store"]),
        ("sqlx_core", vec!["store"]),
        ("plotters", vec!["report"]),
        ("resvg", vec!["report"]),
        ("hf_hub", vec!["hub"]),
        ("reqwest", vec!["hub"]),
        ("globset", vec!["hub"]),
        ("serde_saphyr", vec!["hub"]),
        ("clap", vec!["cli", "main"]),
        ("indicatif", vec!["progress"]),
        ("ratatui", vec!["dashboard"]),
    ];
    for (library, rooms) in rooms {
        let users: Vec<String> = src().into_iter().filter(|(_, text)| names(text, library)).map(|(p, _)| p).collect();
        assert!(!users.is_empty(), "`{library}` is named nowhere: is it still a dependency?");
        for path in users {
            assert!(rooms.contains(&module(&path)), "`{library}` is named in src/{path}");
        }
    }
    for (path, text) in src() {
        assert!(!names(&text, "cudarc") || path.starts_with("train/cuda/"), "`cudarc` is named in src/{path}");
    }
}

#[test]
fn pure_modules_know_no_clock_network_or_device() {
    for (path, text) in src() {
        if ["job", "grid", "plan", "known", "select"].contains(&module(&path)) {
            // A length of time is no clock, and threads that hash texts give what one thread gives.
            for word in ["Instant", "SystemTime", "std::fs", "std::net", "std::process", "tokio"] {
                assert!(!names(&text, word) && !text.contains(&format!("use {word}")), "src/{path} names `{word}`");
            }
        }
    }
}

#[test]
fn modules_do_not_look_up_the_stream() {
    let forbidden = [
        ("train", vec!["tokio", "crate::store", "crate::schedule", "crate::report", "crate::grid", "crate::cli"]),
        ("report", vec!["crate::schedule", "crate::train", "crate::grid", "crate::plan", "std::time", "std::fs"]),
        (
            "export",
            vec![
                "crate::schedule",
                "crate::train",
                "crate::grid",
                "crate::plan",
                "crate::report",
                "std::time",
                "tokio",
            ],
        ),
        ("store", vec!["crate::export", "crate::schedule", "crate::train", "crate::report", "crate::grid"]),
        ("grid", vec!["crate::train", "crate::store", "crate::schedule", "crate::report"]),
        ("plan", vec!["crate::train", "crate::store", "crate::schedule", "crate::report", "crate::grid"]),
        ("schedule", vec!["crate::train", "crate::report", "crate::grid", "crate::cli"]),
        ("job", vec!["crate::plan", "crate::event", "crate::train", "crate::store"]),
    ];
    for (path, text) in src() {
        for (room, words) in &forbidden {
            if module(&path) == *room {
                for word in words {
                    assert!(!names(&text, word) && !text.contains(&format!("use {word}")), "src/{path} names `{word}`");
                }
            }
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in src() {
        assert!(text.starts_with("//!"), "src/{path} has no module documentation");
        let length = text.lines().count();
        assert!(length <= 450, "src/{path} has {length} lines: it wants to be two files");
    }
}

/// Every experiment and report of the repository is in the binary.
#[test]
fn experiments_and_reports_are_shipped() {
    let shipped = fs::read_to_string(root().join("src/commands/shipped.rs")).unwrap();
    for folder in ["experiments", "reports"] {
        let list = shipped.split_once(&format!("shipped!(\"{folder}\":")).unwrap().1.split_once(';').unwrap().0;
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                assert!(
                    list.contains(&format!("\"{stem}\"")),
                    "{folder}/{stem}.toml is not in src/commands/shipped.rs"
                );
            }
        }
    }
}
