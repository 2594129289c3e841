//! WebDataset shards: tar files whose members of one stem are a sample, `0001.jpg` and `0001.cls`.
//!
//! The stem ends at the first dot of a member's own name. Its image is the member with the suffix of one (`jpg`, also as
//! `image.jpg`); its label is a number in `cls`, or `label` or `cls` in `json`. Members without an image and a `cls` are
//! passed over. `classes.txt` or `classnames.txt` beside the shards, a line a class, names the classes.
//!
//! Shards are of the part that a word of their name is ([`part_of`]); where no shard is called so, all are for training.
//! The order is that of the shards' names, and in a shard its own. Images stay where they are: only the headers and labels
//! are read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde_json::Value;
use tar::{Archive, EntryType};

use super::listing::{Entry, Listing, Place, Stamp, part_of};

const IMAGES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];
const NAMES: [&str; 2] = ["classes.txt", "classnames.txt"];
const PACKED: [&str; 5] = [".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz"];
/// Of a tar file.
const BLOCK: u64 = 512;
/// Classes at most.
const MOST: u32 = 1_000_000;

/// Whether a folder has shards, readable ones or compressed.
pub fn is_here(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.into_iter().any(|name| name.ends_with(".tar") || is_packed(&name))
    })
}

/// What the shards of a folder hold.
///
/// # Errors
/// When there is none, one is compressed, cut off or no tar file, and when a member is not what its name says.
pub fn listing(folder: &Path) -> Result<Listing> {
    let context = || format!("cannot read `{}`", folder.display());
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(!is_packed(&name), packed(&entry.path()));
        if name.ends_with(".tar") {
            shards.push((name, entry.path()));
        }
    }
    ensure!(!shards.is_empty(), "`{}` holds no tar file", folder.display());
    shards.sort();
    let parted = shards.iter().any(|(name, _)| part_of(name).is_some());
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (name, path) in shards {
        match part_of(&name) {
            Some(part) => parts[part as usize].push(path),
            None if parted => bail!(
                "`{}` belongs to no part\nhint: where one shard has `train`, `val` or `test` in its name, all must have",
                path.display()
            ),
            None => parts[0].push(path),
        }
    }
    of_shards(&parts, folder)
}

/// What shards hold: those for training, validation and test, each in its order. The names of the classes lie in `folder`.
///
/// # Errors
/// As [`listing`].
pub fn of_shards(parts: &[Vec<PathBuf>; 3], folder: &Path) -> Result<Listing> {
    let read = |shards: &Vec<PathBuf>| -> Result<Vec<Entry>> {
        let entries: Vec<_> = shards.par_iter().map(|path| shard(path)).collect::<Result<_>>()?;
        Ok(entries.into_iter().flatten().collect())
    };
    let [train, validation, test] = parts;
    let (train, validation, test) = (read(train)?, read(validation)?, read(test)?);
    let listing = Listing { train, validation, test, names: names(folder)? };
    if let Some(names) = &listing.names {
        let beyond = |entry: &&Entry| entry.label.is_some_and(|label| label as usize >= names.len());
        if let Some(Entry { name, label: Some(label), .. }) = listing.parts().into_iter().flatten().find(beyond) {
            bail!("{name} has label {label}, but `{}` names {} classes", folder.display(), names.len());
        }
    }
    Ok(listing)
}

fn names(folder: &Path) -> Result<Option<Vec<String>>> {
    let Some(path) = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Some(text.trim_end().lines().map(|line| line.trim().to_owned()).collect()))
}

fn is_packed(name: &str) -> bool {
    PACKED.iter().any(|suffix| name.ends_with(suffix))
}

fn packed(path: &Path) -> String {
    let path = path.display();
    format!(
        "`{path}` is compressed, so its images cannot be read one by one\nhint: unpack it to a plain `.tar` (`gunzip` for `.gz`): images are compressed already"
    )
}

/// Bytes of the shard.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    length: usize,
}

/// The members of one stem.
#[derive(Default)]
struct Sample {
    /// With what follows the stem.
    images: Vec<(String, Span)>,
    class: Option<Span>,
    json: Option<Span>,
}

fn shard(path: &Path) -> Result<Vec<Entry>> {
    let shown = path.display();
    let within = || format!("in `{shown}`");
    let file = Arc::new(File::open(path).with_context(|| format!("cannot open `{shown}`"))?);
    let about = file.metadata().with_context(within)?;
    let whole = about.len();
    let mut magic = [0; 2];
    ensure!(file.read_exact_at(&mut magic, 0).is_err() || magic != [0x1f, 0x8b], packed(path));
    let (mut samples, mut places): (Vec<(String, Sample)>, HashMap<String, usize>) = Default::default();
    let (mut end, mut last) = (0, "its beginning".to_owned());
    let mut archive = Archive::new(&*file);
    for member in archive.entries_with_seek().with_context(within)? {
        let member = member.with_context(|| format!("`{shown}` is no tar file after {last}: broken or cut off"))?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let (start, length) = (member.raw_file_position(), member.size());
        let cut_off = || format!("`{shown}` is cut off in `{name}`\nhint: fetch the shard anew");
        end = start.checked_add(length).filter(|end| *end <= whole).with_context(cut_off)?;
        last = format!("`{name}`");
        match member.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => bail!("`{name}` of `{shown}` is a link or something else that is no plain file"),
        }
        let Some((stem, suffix)) = parted(&name) else { continue };
        let place = *places.entry(stem.to_owned()).or_insert_with(|| {
            samples.push((stem.to_owned(), Sample::default()));
            samples.len() - 1
        });
        let (span, sample) = (Span { start, length: length.try_into().with_context(cut_off)? }, &mut samples[place].1);
        let suffix = suffix.to_ascii_lowercase();
        let twice = match suffix.rsplit('.').next().unwrap_or_default() {
            kind if IMAGES.contains(&kind) => {
                let twice = sample.images.iter().any(|(other, _)| *other == suffix);
                sample.images.push((suffix, span));
                twice
            }
            "cls" => sample.class.replace(span).is_some(),
            "json" => sample.json.replace(span).is_some(),
            _ => false,
        };
        ensure!(!twice, "`{name}` is twice in `{shown}`");
    }
    // Two empty blocks mark the end; one is enough to know that nothing is missing.
    let mut mark = [1; BLOCK as usize];
    let marked = file.read_exact_at(&mut mark, end.next_multiple_of(BLOCK)).is_ok() && mark == [0; BLOCK as usize];
    ensure!(marked, "`{shown}` is cut off after {last}: the mark of its end is missing\nhint: fetch the shard anew");
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let from = (&file, Stamp::of(&about), &*own);
    let entry = |(stem, sample): (String, Sample)| sample.entry(&stem, from).with_context(within).transpose();
    samples.into_iter().filter_map(entry).collect()
}

/// A member's stem and suffix. Hidden files have none, and are nobody's.
fn parted(name: &str) -> Option<(&str, &str)> {
    let own = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = own + name[own..].find('.')?;
    (dot > own).then(|| (&name[..dot], &name[dot + 1..]))
}

impl Sample {
    /// None where it is no sample of images.
    fn entry(self, stem: &str, (file, stamp, shard): (&Arc<File>, Stamp, &str)) -> Result<Option<Entry>> {
        let (suffix, span) = match &self.images[..] {
            [] if self.class.is_none() => return Ok(None),
            [] => bail!("`{stem}` has a label and no image\nhint: {} are looked for", IMAGES.join(", ")),
            [one] => one,
            several => {
                let mut plain = several.iter().filter(|(suffix, _)| !suffix.contains('.'));
                match (plain.next(), plain.next()) {
                    (Some(one), None) => one,
                    _ => bail!("`{stem}` has {} images\nhint: one a sample is taken", several.len()),
                }
            }
        };
        let read = |span: Span| {
            let mut bytes = vec![0; span.length];
            file.read_exact_at(&mut bytes, span.start).map(|()| bytes)
        };
        let number = match (self.class, self.json) {
            (Some(class), _) => {
                let text = String::from_utf8_lossy(&read(class)?).trim().to_owned();
                Some(
                    text.parse::<u32>()
                        .with_context(|| format!("`{stem}.cls` holds {text:?} where a label should be"))?,
                )
            }
            (None, Some(json)) => {
                let about: Value =
                    serde_json::from_slice(&read(json)?).with_context(|| format!("`{stem}.json` is no JSON"))?;
                let label = about.get("label").or_else(|| about.get("cls")).filter(|label| !label.is_null());
                let number = label
                    .map(|label| label.as_u64().and_then(|number| u32::try_from(number).ok()).context(label.clone()));
                number.transpose().with_context(|| format!("`{stem}.json` holds a label that is no number"))?
            }
            (None, None) => None,
        };
        ensure!(number.is_none_or(|label| label < MOST), "`{stem}` has a label beyond {MOST}");
        let place = Place::Range { file: file.clone(), start: span.start, length: span.length };
        let name = format!("`{stem}.{suffix}` of `{shard}`");
        Ok(Some(Entry { name, label: number, place, stamp: Some(stamp) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar file of the members.
    fn bytes(members: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn folder(shards: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in shards {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    /// Of each image its bytes and label.
    fn told(entries: &[Entry]) -> Vec<(String, Option<u32>)> {
        let text = |entry: &Entry| String::from_utf8(entry.bytes().unwrap().into_owned()).unwrap();
        entries.iter().map(|entry| (text(entry), entry.label)).collect()
    }

    fn complaint(name: &str, bytes: Vec<u8>) -> String {
        format!("{:#}", listing(folder(&[(name, bytes)]).path()).unwrap_err())
    }

    #[test]
    fn samples_are_members_of_one_stem() {
        let long = format!("{}/x", "long".repeat(40));
        let first = bytes(&[
            ("__meta__.txt", "made today"),
            ("a/1.jpg", "picture 1"),
            ("a/1.cls", " 7\n"),
            ("a/1.txt", "a dog"),
            ("b/1.input.JPEG", "picture 2"),
            ("b/1.json", r#"{"label": 3, "cls": 9}"#),
            ("._1.jpg", "a ghost"),
            (&format!("{long}.image.png"), "picture 3"),
            (&format!("{long}.cls"), "0"),
        ]);
        let second = bytes(&[
            ("2.cls", "1"),
            ("3.cls", "2"),
            ("2.png", "picture 4"),
            ("3.webp", "picture 5"),
            ("3.mask.png", "no picture"),
            ("4.bmp", "picture 6"),
            ("5.gif", "picture 7"),
            ("5.json", r#"{"cls": 4, "caption": "x"}"#),
        ]);
        let folder = folder(&[("x-1.tar", second), ("x-0.tar", first), ("README.md", b"x".to_vec())]);
        assert!(is_here(folder.path()));
        let listing = listing(folder.path()).unwrap();
        let labels = [Some(7), Some(3), Some(0), Some(1), Some(2), None, Some(4)];
        let expected: Vec<_> =
            labels.iter().enumerate().map(|(index, label)| (format!("picture {}", index + 1), *label)).collect();
        assert_eq!(told(&listing.train), expected);
        assert_eq!(listing.train[0].name, "`a/1.jpg` of `x-0.tar`");
        assert!(listing.validation.is_empty() && listing.test.is_empty() && listing.names.is_none());
    }

    #[test]
    fn parts_and_classes_are_named() {
        let shard = |text: &str| bytes(&[("1.jpg", text), ("1.cls", "1")]);
        let parts = [("Train-01.tar", "2"), ("Train-00.tar", "1"), ("validation0.tar", "3"), ("testing.tar", "4")];
        let folder = folder(&parts.map(|(name, text)| (name, shard(text))));
        fs::write(folder.path().join("classes.txt"), "cat\nsnow dog\n").unwrap();
        let found = listing(folder.path()).unwrap();
        assert_eq!(told(&found.train), [("1".into(), Some(1)), ("2".into(), Some(1))]);
        assert_eq!((told(&found.validation)[0].0.as_str(), told(&found.test)[0].0.as_str()), ("3", "4"));
        assert_eq!(found.names.unwrap(), ["cat", "snow dog"]);
        fs::write(folder.path().join("classes.txt"), "cat\n").unwrap();
        let error = listing(folder.path()).unwrap_err().to_string();
        assert!(error.contains("`1.jpg` of `Train-00.tar` has label 1, but `") && error.contains("names 1 classes"));
        fs::write(folder.path().join("more.tar"), shard("5")).unwrap();
        assert!(listing(folder.path()).unwrap_err().to_string().contains("more.tar` belongs to no part\nhint: "));
    }

    #[test]
    fn a_shard_that_changes_is_noticed() {
        let shard = |text: &str| bytes(&[("1.jpg", text), ("1.cls", "1")]);
        let folder = folder(&[("x.tar", shard("before"))]);
        let path = folder.path().join("x.tar");
        let entries = listing(folder.path()).unwrap().train;
        // Under another name it is the same file still, and so it is when another one takes its name.
        fs::rename(&path, folder.path().join("y.tar")).unwrap();
        fs::write(&path, shard("later!")).unwrap();
        assert_eq!(told(&entries), [("before".into(), Some(1))]);

        let entries = &listing(folder.path()).unwrap().train[..1];
        let complaint = || format!("{:#}", entries[0].bytes().unwrap_err());
        fs::write(&path, shard("latest")).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
        assert_eq!(complaint(), "cannot read `1.jpg` of `x.tar`: the file changed while it was used");
        file.set_len(3).unwrap();
        assert_eq!(complaint(), "cannot read `1.jpg` of `x.tar`: the file changed while it was used");
    }

    #[test]
    fn what_is_wrong_is_told_with_shard_and_member() {
        let good = bytes(&[("1.jpg", &"x".repeat(2000)), ("1.cls", "1"), ("2.jpg", "y"), ("2.cls", "1")]);
        for (bytes, said) in [
            (good[..1000].to_vec(), "x.tar` is cut off in `1.jpg`\nhint: "),
            (good[..2700].to_vec(), "x.tar` is no tar file after `1.jpg`: broken or cut off"),
            // Between two members, where a reader of tar files sees nothing wrong.
            (good[..3584].to_vec(), "x.tar` is cut off after `1.cls`: the mark of its end is missing"),
            (b"not a tar file ".repeat(100), "x.tar` is no tar file after its beginning"),
            (Vec::new(), "x.tar` is cut off after its beginning"),
            (bytes(&[("1.cls", "1")]), "`1` has a label and no image\nhint: jpg, "),
            (bytes(&[("1.jpg", "x"), ("1.png", "x")]), "`1` has 2 images\nhint: "),
            (bytes(&[("1.jpg", "x"), ("1.jpg", "x")]), "`1.jpg` is twice in `"),
            (bytes(&[("1.jpg", "x"), ("1.cls", "dog")]), r#"x.tar`: `1.cls` holds "dog" where a label should be"#),
            (bytes(&[("1.jpg", "x"), ("1.cls", "4294967295")]), "x.tar`: `1` has a label beyond 1000000"),
            (bytes(&[("1.jpg", "x"), ("1.json", "{")]), "x.tar`: `1.json` is no JSON"),
            (
                bytes(&[("1.jpg", "x"), ("1.json", r#"{"label": "dog"}"#)]),
                "`1.json` holds a label that is no number: \"dog\"",
            ),
        ] {
            let complaint = complaint("x.tar", bytes);
            assert!(complaint.contains(said), "{said}: {complaint}");
        }
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "1.jpg", "elsewhere.jpg").unwrap();
        assert!(complaint("x.tar", builder.into_inner().unwrap()).contains("`1.jpg` of `"));
        assert!(listing(tempfile::tempdir().unwrap().path()).unwrap_err().to_string().contains("holds no tar file"));
    }

    #[test]
    fn what_is_compressed_is_to_be_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &bytes(&[("1.jpg", "x")])).unwrap();
        let packed = packed.finish().unwrap();
        for name in ["x.tar.gz", "x.tgz", "x.tar"] {
            let complaint = complaint(name, packed.clone());
            assert!(complaint.contains(&format!("{name}` is compressed, ")) && complaint.contains("\nhint: unpack it"));
        }
    }
}
