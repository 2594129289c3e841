//! Exports: what is written is read again, by readers that share nothing with what wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use distillery::event::{Epoch, Event, TeacherCheck, Which};
use distillery::export::{Csv, Entry, Form, JsonLines, Mlflow, Parquet, TensorBoard};
use distillery::job::Job;
use distillery::plan::Plan;
use distillery::store::{Outcome, Provenance, State, Store};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

use crate::store::{epoch, labels_job, record, says, student_job};

/// A name that every form has to quote or to change.
const ODD: &str = "a, \"b\"\n../ü|";

fn entry(experiment: &str, job: Job, axes: &[(&str, &str)], epochs: Vec<Epoch>) -> Entry {
    let check = |split, top1| TeacherCheck { teacher: Some(0), split, images: 20, top1, top5: 1.0 };
    let is_taught = !job.teachers().is_empty();
    let outcome = Outcome {
        id: job.id(),
        job,
        axes: axes.iter().map(|(axis, place)| ((*axis).to_owned(), (*place).to_owned())).collect(),
        state: State::Done,
        message: None,
        teachers: if is_taught { vec![check(Which::Validation, 0.9), check(Which::Test, 1.0 / 7.0)] } else { vec![] },
        flags: BTreeMap::new(),
        seconds: 1.0,
        epochs,
    };
    let times = outcome.epochs.iter().map(|row| (row.epoch, 1_700_000_000_000 + 1000 * i64::from(row.epoch))).collect();
    Entry { experiment: experiment.to_owned(), outcome, times }
}

/// A student and one without a teacher whose loss is no number, of different axes; and one that has not begun.
fn entries() -> Vec<Entry> {
    let mut odd = labels_job(7, 1);
    odd.data.name = ODD.to_owned();
    odd.learning_rate = 1e-30;
    let mut last = epoch(1);
    last.training_loss = f64::NAN;
    last.evaluations.truncate(1);
    last.evaluations[0].kl = None;
    last.evaluations[0].loss = f64::INFINITY;
    vec![
        entry(
            "toy",
            student_job(&labels_job(0, 1), 0.01, 2),
            &[("distance.kl.temperature", "2.0")],
            vec![epoch(1), epoch(2)],
        ),
        entry(ODD, odd, &[("student", ODD)], vec![last]),
        Entry { times: BTreeMap::new(), ..entry("toy", labels_job(9, 3), &[], vec![]) },
    ]
}

fn axes(entries: &[Entry]) -> Vec<String> {
    let all: BTreeSet<&String> = entries.iter().flat_map(|entry| entry.outcome.axes.keys()).collect();
    all.into_iter().cloned().collect()
}

fn write(form: &mut dyn Form, entries: &[Entry]) {
    form.write(&axes(entries), &mut entries.iter().cloned().map(Ok)).unwrap();
}

fn csv_text(entries: &[Entry]) -> String {
    let mut form = Csv(Vec::new());
    write(&mut form, entries);
    String::from_utf8(form.0).unwrap()
}

/// The header, and rows of as many fields.
fn read_csv(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let fields = |record: &csv::StringRecord| record.iter().map(ToOwned::to_owned).collect::<Vec<_>>();
    let header = fields(reader.headers().unwrap());
    let rows = reader.records().map(|record| fields(&record.unwrap())).collect();
    (header, rows)
}

/// Of each job by its id: tag and epoch, and what is there.
fn values(entries: &[Entry]) -> BTreeMap<String, BTreeMap<(String, u64), f64>> {
    let (header, rows) = read_csv(&csv_text(entries));
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (job, epoch, split, metric, value) = (at("job"), at("epoch"), at("split"), at("metric"), at("value"));
    let mut values: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
    for row in rows {
        let tag = match row[split].as_str() {
            "" => format!("training/{}", row[metric].strip_prefix("training_").unwrap_or(&row[metric])),
            split => format!("{split}/{}", row[metric]),
        };
        let number = if row[value].is_empty() { f64::NAN } else { row[value].parse().unwrap() };
        let before = values.entry(row[job].clone()).or_default().insert((tag, row[epoch].parse().unwrap()), number);
        assert_eq!(before, None, "{row:?}");
    }
    values
}

#[test]
fn a_long_table_as_csv() {
    insta::assert_snapshot!("csv", csv_text(&entries()));
    assert_eq!(csv_text(&[]).lines().count(), 1, "a header, whatever follows");
}

#[test]
fn numbers_come_back_to_the_last_bit() {
    let entries = entries();
    let (header, rows) = read_csv(&csv_text(&entries));
    assert!(rows.iter().all(|row| row.len() == header.len()));
    let all = values(&entries);
    assert_eq!(all.len(), 2, "of what has not begun there is nothing");
    let student = &all[entries[0].outcome.id.as_str()];
    assert_eq!(student[&("test/loss".to_owned(), 2)], 1.0 / 3.0);
    assert_eq!(student[&("test/teacher.top1".to_owned(), 0)], 1.0 / 7.0);
    assert_eq!(student[&("training/loss".to_owned(), 2)], 0.5);
    let odd = &all[entries[1].outcome.id.as_str()];
    assert!(odd[&("training/loss".to_owned(), 1)].is_nan() && odd[&("validation/loss".to_owned(), 1)].is_nan());
    assert!(!odd.contains_key(&("validation/kl".to_owned(), 1)), "there was no teacher");
    let data = header.iter().position(|column| column == "data").unwrap();
    let rate = header.iter().position(|column| column == "learning_rate").unwrap();
    assert_eq!((rows.last().unwrap()[data].as_str(), rows.last().unwrap()[rate].as_str()), (ODD, "1e-30"));
}

#[test]
fn members_of_an_ensemble_are_told_apart() {
    let mut several = student_job(&labels_job(0, 1), 0.01, 1);
    if let distillery::job::Objective::Distil(distil) = &mut several.objective {
        distil.teachers.push(distil.teachers[0].clone());
    }
    let mut entry = entry("toy", several, &[], vec![]);
    let check = |teacher, top1| TeacherCheck { teacher, split: Which::Test, images: 20, top1, top5: 1.0 };
    entry.outcome.teachers = vec![check(Some(0), 0.5), check(Some(1), 0.6), check(None, 0.7)];
    let all = values(&[entry]).into_values().next().unwrap();
    let of = |tag: &str| all[&(tag.to_owned(), 0)];
    assert_eq!([of("test/teacher.0.top1"), of("test/teacher.1.top1"), of("test/teacher.top1")], [0.5, 0.6, 0.7]);
}

#[test]
fn json_lines_say_what_the_csv_says() {
    let entries = entries();
    let mut form = JsonLines(Vec::new());
    write(&mut form, &entries);
    let text = String::from_utf8(form.0).unwrap();
    let (header, rows) = read_csv(&csv_text(&entries));
    assert_eq!(text.lines().count(), rows.len());
    for (line, row) in text.lines().zip(&rows) {
        let object: Value = serde_json::from_str(line).unwrap();
        for (column, field) in header.iter().zip(row) {
            match column.strip_prefix("axis.") {
                Some(axis) => assert_eq!(object["axes"][axis].as_str().unwrap_or_default(), field),
                None => match &object[column.as_str()] {
                    Value::String(text) => assert_eq!(text, field),
                    Value::Number(number) => assert_eq!(number.as_f64(), field.parse().ok(), "{column} {field}"),
                    Value::Null => assert_eq!(field, "", "{column}"),
                    other => panic!("{column} is {other}"),
                },
            }
        }
    }
}

fn read_parquet(bytes: Vec<u8>) -> SerializedFileReader<fs::File> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    SerializedFileReader::new(file).unwrap()
}

#[test]
fn parquet_says_what_the_csv_says() {
    let entries = entries();
    let mut form = Parquet(Vec::new());
    write(&mut form, &entries);
    let (header, rows) = read_csv(&csv_text(&entries));
    let reader = read_parquet(form.0);
    let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), rows.len());
    for (row, fields) in read.iter().zip(&rows) {
        let columns: Vec<_> = row.get_column_iter().collect();
        assert_eq!(columns.iter().map(|(name, _)| *name).collect::<Vec<_>>(), header.iter().collect::<Vec<_>>());
        for ((name, field), text) in columns.into_iter().zip(fields) {
            match field {
                Field::Null => assert_eq!(text, "", "{name}"),
                Field::Str(read) => assert_eq!(read, text),
                Field::Long(read) => assert_eq!(read, &text.parse::<i64>().unwrap()),
                Field::Double(read) => assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits()),
                other => panic!("{name} is {other}"),
            }
        }
    }
}

#[test]
fn parquet_goes_on_in_a_second_row_group() {
    let long = entry("toy", labels_job(1, 11_000), &[], (1..=11_000).map(epoch).collect());
    let entries = [entries().remove(0), long];
    let mut form = Parquet(Vec::new());
    write(&mut form, &entries);
    let reader = read_parquet(form.0);
    let (_, rows) = read_csv(&csv_text(&entries));
    assert!(reader.num_row_groups() > 1 && rows.len() > 1 << 17);
    assert_eq!(reader.metadata().file_metadata().num_rows() as usize, rows.len());
    for (row, fields) in reader.get_row_iter(None).unwrap().zip(&rows) {
        let row = row.unwrap();
        let mut columns = row.get_column_iter();
        assert_eq!(columns.next().unwrap().1.to_string().trim_matches('"'), fields[0]);
        let Some((_, Field::Double(value))) = columns.last() else { panic!("{row}") };
        assert_eq!(Some(*value), fields.last().unwrap().parse().ok());
    }
}

/// CRC-32C bit by bit, as TensorFlow masks it.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The records of a file, after a look at their checksums.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), masked(&bytes[..8]));
        let record = &bytes[12..12 + length];
        assert_eq!(u32::from_le_bytes(bytes[12 + length..16 + length].try_into().unwrap()), masked(record));
        records.push(record.to_vec());
        bytes = &bytes[16 + length..];
    }
    records
}

/// The fields of a message: number, and the bytes of what follows; of whole numbers their eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for place in 0.. {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte < 0x80 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

fn field(fields: &[(u64, Vec<u8>)], number: u64) -> Option<&[u8]> {
    fields.iter().find(|(field, _)| *field == number).map(|(_, bytes)| bytes.as_slice())
}

/// All files below, by path inside.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(tree(&path).into_iter().map(|(inside, bytes)| (format!("{name}/{inside}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn tensorboard_has_every_number() {
    let folder = tempfile::tempdir().unwrap();
    let entries = entries();
    write(&mut TensorBoard(folder.path().to_owned()), &entries);
    let files = tree(folder.path());
    let ids: Vec<&str> = entries.iter().map(|entry| entry.outcome.id.as_str()).collect();
    let name = |experiment, words, id: &str| format!("{experiment}/{words}-{}/events.out.tfevents.{id}", &id[..8]);
    let mut expected = [
        name("toy", "function-matching-2-epochs-seed-0", ids[0]),
        name("a-b-..-ü", "labels-1-epochs-seed-7", ids[1]),
        name("toy", "labels-3-epochs-seed-9", ids[2]),
    ];
    expected.sort();
    assert_eq!(files.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let values = values(&entries);
    for (path, bytes) in &files {
        let records = records(bytes);
        assert_eq!(field(&fields(&records[0]), 3), Some(b"brain.Event:2".as_slice()), "the version comes first");
        let mut read = BTreeMap::new();
        let mut plugins = Vec::new();
        for record in &records[1..] {
            let event = fields(record);
            let step = field(&event, 2).map_or(0, |step| u64::from_le_bytes(step.try_into().unwrap()));
            let time = f64::from_le_bytes(field(&event, 1).unwrap().try_into().unwrap());
            if step > 0 {
                assert_eq!(time, 1_700_000_000.0 + step as f64);
            }
            for (_, value) in fields(field(&event, 5).unwrap()) {
                let value = fields(&value);
                let tag = String::from_utf8(field(&value, 1).unwrap().to_vec()).unwrap();
                match field(&value, 2) {
                    Some(number) => {
                        let number = f32::from_le_bytes(number.try_into().unwrap());
                        assert_eq!(read.insert((tag, step), number), None);
                    }
                    None => plugins.push(tag),
                }
            }
        }
        assert_eq!(plugins, ["_hparams_/session_start_info", "job"]);
        let id = path.rsplit('.').next().unwrap();
        let expected = values.get(id).cloned().unwrap_or_default();
        assert_eq!(read.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (place, number) in &expected {
            let (read, number) = (read[place], *number as f32);
            // The CSV does not tell infinity from what is no number.
            assert!(read == number || !read.is_finite() && number.is_nan(), "{place:?}: {read} is not {number}");
        }
    }
    write(&mut TensorBoard(folder.path().to_owned()), &entries);
    assert!(tree(folder.path()) == files, "the same bytes under the same names");
}

#[test]
fn mlflow_has_every_number() {
    let folder = tempfile::tempdir().unwrap();
    let entries = entries();
    write(&mut Mlflow(folder.path().to_owned()), &entries);
    let files = tree(folder.path());
    let text = |path: &str| String::from_utf8(files[path].clone()).unwrap();
    let values = values(&entries);
    let mut names = BTreeSet::new();
    for path in files.keys().filter(|path| path.ends_with("/meta.yaml")) {
        let meta: Value = serde_json::from_str(&text(path)).unwrap();
        let inside = path.strip_suffix("/meta.yaml").unwrap();
        let Some((experiment, run)) = inside.split_once('/') else {
            assert_eq!((meta["experiment_id"].as_str(), &meta["lifecycle_stage"]), (Some(inside), &"active".into()));
            assert!(inside.parse::<i64>().is_ok(), "MLflow's databases have numbers there");
            names.insert(meta["name"].as_str().unwrap().to_owned());
            continue;
        };
        assert_eq!((meta["run_id"].as_str(), meta["experiment_id"].as_str()), (Some(run), Some(experiment)));
        let id = &run[16..];
        assert_eq!(text(&format!("{inside}/params/job")), id);
        let entry = entries.iter().find(|entry| entry.outcome.id.as_str() == id).unwrap();
        assert_eq!(text(&format!("{inside}/params/seed")), entry.outcome.job.seed.to_string());
        assert!(!text(&format!("{inside}/params/data")).contains('\n'));
        let last = entry.times.values().last();
        assert_eq!((meta["end_time"].as_i64(), &meta["status"]), (last.copied(), &3.into()));
        let metrics = format!("{inside}/metrics/");
        let mut read = BTreeMap::new();
        for tag in files.keys().filter_map(|path| path.strip_prefix(&metrics)) {
            for line in text(&format!("{metrics}{tag}")).lines() {
                let [_, value, step] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
                read.insert((tag.to_owned(), step.parse().unwrap()), value.parse::<f64>().unwrap());
            }
        }
        let expected = values.get(id).cloned().unwrap_or_default();
        assert_eq!(read.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (place, number) in &expected {
            let read = read[place];
            assert!(read == *number || !read.is_finite() && number.is_nan(), "{place:?}: {read} is not {number}");
        }
    }
    assert_eq!(names, ["Default", ODD, "toy"].map(ToOwned::to_owned).into());
    write(&mut Mlflow(folder.path().to_owned()), &entries);
    assert!(tree(folder.path()) == files, "the same files again");
}

/// Begun, and so far as these epochs.
async fn trained(store: &Store, job: &Job, epochs: impl Iterator<Item = Epoch>) {
    let cohort = Plan::new(std::slice::from_ref(job), &Default::default()).cohorts[0].id.clone();
    store.begin_attempt(&job.id(), &cohort, &Provenance::default()).await.unwrap();
    let messages: Vec<_> =
        epochs.map(|epoch| says(job, 1, 1000 * i64::from(epoch.epoch), Event::Epoch(epoch))).collect();
    store.take_all(&messages).await.unwrap();
}

#[tokio::test]
async fn pages_are_the_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let jobs: Vec<Job> =
        [15_000, 3, 15_000, 2, 4].iter().zip(0..).map(|(epochs, seed)| labels_job(seed, *epochs)).collect();
    let store = Store::open(&folder.path().join("store.sqlite")).await.unwrap();
    record(&store, "toy", &jobs.iter().collect::<Vec<_>>(), &[]).await;
    for job in &jobs[..3] {
        trained(&store, job, (1..=3).map(epoch)).await;
    }
    let all: BTreeSet<_> = jobs.iter().map(Job::id).collect();
    let pages = store.pages("toy", &all).await.unwrap();
    assert_eq!(pages.len(), 2);
    let mut outcomes = Vec::new();
    for page in &pages {
        for (outcome, times) in store.page("toy", page).await.unwrap() {
            let expected = outcome.epochs.iter().map(|row| (row.epoch, 1000 * i64::from(row.epoch))).collect();
            assert_eq!(times, expected);
            outcomes.push(outcome);
        }
    }
    assert_eq!(outcomes, store.outcomes("toy").await.unwrap());
    assert_eq!(store.pages("toy", &[jobs[4].id()].into()).await.unwrap(), pages[1..]);
    assert!(store.pages("toy", &BTreeSet::new()).await.unwrap().is_empty());
    assert!(store.pages("other", &all).await.unwrap().is_empty());
}

struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(self.folder.path()).env_remove("DISTILLERY_FOLDER").arg("export").args(arguments);
        command.output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> (String, String) {
        let output = self.call(arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }

    /// What is said, after asserting that it is one error with a hint, and that nothing was written.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty() && text.matches("error").count() == 1 && text.contains("hint"), "{text}");
        text
    }
}

#[tokio::test]
async fn typed_as_people_type_it() {
    let shell = Shell { folder: tempfile::tempdir().unwrap() };
    fs::create_dir(shell.folder.path().join("runs")).unwrap();
    let store = Store::open(&shell.folder.path().join("runs/store.sqlite")).await.unwrap();
    assert!(shell.refused(1, &["--all"]).contains("holds no experiment"));

    let teacher = labels_job(0, 1);
    let student = student_job(&teacher, 0.01, 2);
    record(&store, "toy-small", &[&student, &labels_job(5, 3)], &[&teacher]).await;
    record(&store, "other", &[&student], &[&teacher]).await;
    trained(&store, &student, (1..=2).map(epoch)).await;

    // Two epochs of four numbers, and of four each on two splits.
    let (table, words) = shell.ok(&["toy", "--format", "csv"]);
    assert_eq!(table.lines().count(), 1 + 2 * (4 + 2 * 4));
    assert_eq!(words, "note: 1 of 2 jobs has no numbers yet\n");
    assert_eq!(shell.ok(&["toy", "--out", "-"]).0, table);
    assert_eq!(shell.ok(&["toy.toml", "--size", "small"]).0, table);
    let (one, words) = shell.ok(&["toy", "--jobs", "epochs=2 and mode=function-matching"]);
    assert_eq!((one, words.as_str()), (table.clone(), ""));
    // In every experiment that has it.
    assert_eq!(shell.ok(&["--all"]).0.lines().count(), 1 + 2 * 24);
    assert_eq!(shell.ok(&["toy", "other", "toy"]).0.lines().count(), 1 + 2 * 24);
    assert_eq!(shell.ok(&["--all", "--jobs", "seed=5"]).0.lines().count(), 1);

    // By the name of the file; whole, and nothing beside it.
    for file in ["toy.csv", "toy.jsonl", "toy.parquet"] {
        let (data, words) = shell.ok(&["toy", "--out", file]);
        assert!(data.is_empty() && words.contains(&format!("2 jobs are in `{file}`")), "{words}");
    }
    let read = |file: &str| fs::read(shell.folder.path().join(file)).unwrap();
    assert_eq!(read("toy.csv"), table.as_bytes());
    assert!(read("toy.parquet").starts_with(b"PAR1") && read("toy.jsonl").starts_with(b"{\"job\":"));
    shell.ok(&["toy", "--format", "tensorboard", "--out", "tb"]);
    shell.ok(&["toy", "--format", "mlflow", "--out", "ml"]);

    assert!(shell.refused(2, &["toi-small"]).contains("did you mean `toy-small`?"));
    assert!(shell.refused(2, &["toy", "--size", "box"]).contains("nothing of experiment `toy-box`"));
    assert!(shell.refused(2, &["toy", "--format", "parquet"]).contains("--out FILE.parquet"));
    assert!(shell.refused(2, &["toy", "--format", "tensorboard", "--out", "-"]).contains("--out DIR"));
    assert!(shell.refused(2, &["toy", "--format", "mlflow", "--out", "toy.csv"]).contains("is a file"));
    assert!(shell.refused(2, &["toy", "--out", "tb"]).contains("is a folder"));
    assert!(shell.refused(2, &["toy", "--jobs", "sed=1"]).contains("did you mean `seed`?"));
    assert!(shell.refused(2, &["toy", "--jobs", "seed=1"]).contains("no job of these experiments"));
    let nowhere = shell.call(&["toy", "--out", "no/where.csv"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let mut left: Vec<_> = fs::read_dir(shell.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["ml", "runs", "tb", "toy.csv", "toy.jsonl", "toy.parquet"]);
}

/// A reader that goes away, as `head` does, is no error, whatever is still to be written.
#[tokio::test]
async fn half_of_it_may_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.sqlite")).await.unwrap();
    let job = labels_job(0, 2000);
    record(&store, "toy", &[&job], &[]).await;
    trained(&store, &job, (1..=2000).map(epoch)).await;
    for format in ["csv", "jsonl"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_distillery"))
            .args(["export", "toy", "--format", format, "--folder", folder.path().to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
