//! The hub, its cache and the way between them, against a server on this machine.

mod data;
pub mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use distillery::digest;
use distillery::hub::{Error, Fetched, Reference, Settings, fetch, fetch_optional};
use server::{COMMIT, Request, Server};
use tempfile::TempDir;

pub struct Case {
    pub server: Server,
    content: Vec<u8>,
    pub settings: Settings,
    folder: TempDir,
}

/// A server with one file, and an empty cache.
pub fn case() -> Case {
    let content: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let server = Server::start(&content);
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        endpoint: server.endpoint.clone(),
        cache: folder.path().join("hub"),
        token: None,
        offline: false,
        attempts: 1,
    };
    Case { server, content, settings, folder }
}

impl Case {
    fn fetch(&self, text: &str) -> Result<Fetched, Error> {
        fetch(&reference(text), &self.settings, &mut |_, _| {})
    }

    /// Message and hint of a fetch that fails.
    fn complaint(&self, text: &str) -> String {
        self.fetch(text).unwrap_err().to_string()
    }

    fn sha256(&self) -> String {
        digest::of_reader(&self.content[..]).unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.settings.cache.join("models--owner--name")
    }

    fn blob(&self) -> PathBuf {
        self.repository().join("blobs").join(self.sha256())
    }

    /// The requests for bytes since it was asked last.
    fn gets(&self) -> Vec<Request> {
        self.server.requests().into_iter().filter(|request| request.method == "GET").collect()
    }

    fn is_whole(&self, fetched: &Fetched) {
        assert!(fs::read(&fetched.path).unwrap() == self.content, "other bytes than were sent");
        assert_eq!(fetched.sha256, self.sha256());
        assert_eq!(fetched.commit, COMMIT);
        assert_eq!(names(&self.repository().join("blobs")), [self.blob().file_name().unwrap().to_str().unwrap()]);
    }
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap().unwrap()
}

pub fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// An address that nobody listens at.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
}

#[test]
fn references_are_read_and_written_back() {
    assert!(Reference::parse("weights/teacher.safetensors").is_none());
    for (text, repository, file, revision) in [
        ("hf:timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k", "model.safetensors", "main"),
        ("hf:timm/resnet50@v1.0", "timm/resnet50", "model.safetensors", "v1.0"),
        ("hf:google/bit_models/R50x1/a-b.npz", "google/bit_models", "R50x1/a-b.npz", "main"),
        ("hf:google/bit/a.npz@refs/pr/1", "google/bit", "a.npz", "refs/pr/1"),
    ] {
        let reference = reference(text);
        assert_eq!(reference.repository(), repository);
        assert_eq!((reference.file(), reference.revision()), (file, revision));
        assert_eq!(reference.to_string(), text);
    }
    assert_eq!(reference("hf:o/n/model.safetensors").to_string(), "hf:o/n");
    assert_eq!(reference("hf:o/n@v1").sibling("config.json").unwrap().to_string(), "hf:o/n/config.json@v1");
    assert!(reference("hf:o/n").sibling("../../etc/passwd").is_err());
}

#[test]
fn what_is_no_reference_is_told() {
    for (text, why) in [
        ("hf:", "the repository's owner is missing"),
        ("hf:foo", "the repository's name is missing"),
        ("hf:foo/", "the repository's name is missing"),
        ("hf:a b/name", "`a b` is no owner of a repository"),
        ("hf:owner/..", "`..` is no name of a repository"),
        ("hf:owner/name@", "the revision after `@` is missing"),
        ("hf:owner/name@../../main", "`../../main` is no revision"),
        ("hf:owner/name@a b", "`a b` is no revision"),
        ("hf:owner/name/", "`` is no path of a file"),
        ("hf:owner/name/../x", "`../x` is no path of a file"),
        ("hf:owner/name/a//b", "`a//b` is no path of a file"),
        ("hf:owner/name/a?b", "'?' may not be in the name of a file"),
    ] {
        let error = Reference::parse(text).unwrap().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{text}` names nothing on the hub: {why}\nhint: write `hf:owner/name`")),
            "{error}"
        );
    }
}

#[test]
fn a_download_lies_as_the_hubs_own_do() {
    let case = case();
    let mut heard = Vec::new();
    let fetched = fetch(&reference("hf:owner/name"), &case.settings, &mut |have, total| heard.push((have, total)));
    let fetched = fetched.unwrap();
    case.is_whole(&fetched);
    let pointer = case.repository().join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(fetched.path, pointer);
    assert_eq!(fs::read_to_string(case.repository().join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("../../blobs").join(case.sha256()));
    let size = case.content.len() as u64;
    assert_eq!((heard[0], heard.last()), ((0, Some(size)), Some(&(size, Some(size)))));
    assert!(heard.is_sorted());
    assert!(case.gets().iter().all(|request| request.range.is_none() && request.authorization.is_none()));
}

#[test]
fn a_file_in_a_folder_is_linked_from_there() {
    let case = case();
    let fetched = case.fetch("hf:owner/name/weights/a.npz").unwrap();
    case.is_whole(&fetched);
    assert!(fetched.path.ends_with("weights/a.npz"));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&fetched.path).unwrap(), Path::new("../../../blobs").join(case.sha256()));
}

/// Large files lie on another host, which must not learn the token.
#[test]
fn the_token_goes_to_the_hub_alone() {
    let mut case = case();
    case.settings.token = Some("hf_secret".into());
    case.server.behave(|manners| (manners.token, manners.elsewhere) = (Some("hf_secret"), true));
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    let requests = case.server.requests();
    let (store, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.path.starts_with("/store/"));
    assert_eq!((hub.len(), store.len()), (2, 1));
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
    assert!(store.iter().all(|request| request.authorization.is_none()), "{store:?}");
    assert!(!format!("{:?}", case.settings).contains("secret"));
}

#[test]
fn what_is_in_the_cache_is_not_downloaded_again() {
    let case = case();
    let first = case.fetch("hf:owner/name").unwrap();
    assert_eq!(case.gets().len(), 1);
    assert_eq!(case.fetch("hf:owner/name").unwrap(), first);
    assert_eq!(case.server.requests().iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["HEAD"]);
    // The same content under another name, and at a commit.
    case.is_whole(&case.fetch("hf:owner/name/weights/a.npz").unwrap());
    assert_eq!(case.gets(), []);
    assert_eq!(case.fetch(&format!("hf:owner/name@{COMMIT}")).unwrap(), first);
    assert_eq!(case.server.requests(), []);
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let case = case();
    case.server.behave(|manners| manners.cut = Some(100_000));
    let error = case.complaint("hf:owner/name");
    assert_eq!(
        error,
        "the download of `hf:owner/name` was cut off after 100000 of 300000 bytes\nhint: the same command goes on from there"
    );
    let incomplete = case.blob().with_added_extension("incomplete");
    assert!(fs::read(&incomplete).unwrap() == case.content[..100_000]);
    assert!(!case.repository().join("refs/main").exists());
    case.gets();
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    let ranges: Vec<_> = case.gets().into_iter().map(|request| request.range).collect();
    assert_eq!(ranges, [Some("bytes=100000-".into())]);
}

#[test]
fn one_call_takes_it_up_again_too() {
    let mut case = case();
    case.settings.attempts = 2;
    case.server.behave(|manners| (manners.cut, manners.elsewhere) = (Some(9), true));
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    let store = case.gets().into_iter().filter(|request| request.path.starts_with("/store/"));
    let ranges: Vec<_> = store.map(|request| request.range).collect();
    assert_eq!(ranges, [None, Some("bytes=9-".into())]);
}

/// A partial file that is too long, one that is whole, and a server that knows no ranges.
#[test]
fn partial_files_of_any_kind_come_to_a_good_end() {
    let case = case();
    let incomplete = case.blob().with_added_extension("incomplete");
    fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    let again = |partial: &[u8]| {
        let _ = fs::remove_file(case.blob());
        fs::write(&incomplete, partial).unwrap();
        case.is_whole(&case.fetch("hf:owner/name").unwrap());
        case.gets().into_iter().map(|request| request.range).collect::<Vec<_>>()
    };
    assert_eq!(again(&[1; 300_001]), [None]);
    assert_eq!(again(&case.content), []);
    case.server.behave(|manners| manners.ranges = false);
    assert_eq!(again(&case.content[..7]), [Some("bytes=7-".into())]);
}

#[test]
fn a_download_with_a_wrong_checksum_is_removed() {
    let case = case();
    let right = case.sha256();
    let altered = [case.content.as_slice(), b"!"].concat();
    let wrong = digest::of_reader(&altered[..]).unwrap();
    case.server.behave(|manners| (manners.content, manners.etag) = (altered, Some(right.clone())));
    let error = case.complaint("hf:owner/name");
    assert!(
        error.starts_with(&format!(
            "`hf:owner/name` has the wrong SHA-256: expected {right}, got {wrong}\nhint: the bad file is removed"
        )),
        "{error}"
    );
    assert_eq!(names(&case.repository().join("blobs")), [""; 0]);
    case.server.behave(|manners| manners.content = case.content.clone());
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
}

/// In the cache, too: asked, offline, and with a commit.
#[test]
fn a_blob_that_changed_in_the_cache_is_removed() {
    let mut case = case();
    let at_commit = format!("hf:owner/name@{COMMIT}");
    for (text, offline) in [("hf:owner/name", false), ("hf:owner/name", true), (at_commit.as_str(), false)] {
        case.settings.offline = false;
        let fetched = case.fetch("hf:owner/name").unwrap();
        fs::write(case.blob(), "altered").unwrap();
        case.settings.offline = offline;
        let error = case.complaint(text);
        assert!(error.contains(&format!("has the wrong SHA-256: expected {}, got ", case.sha256())), "{error}");
        assert!(!case.blob().exists() && fs::symlink_metadata(&fetched.path).is_err());
        case.settings.offline = false;
        case.is_whole(&case.fetch(text).unwrap());
    }
}

/// Small files are named by git's SHA-1, which is not that of their bytes.
#[test]
fn a_file_without_a_checksum_is_taken_as_it_comes() {
    let case = case();
    case.server.behave(|manners| manners.etag = Some("8ab686eafeb1f44702738c8b0f24f2567c36da6d".into()));
    let fetched = case.fetch("hf:owner/name").unwrap();
    assert_eq!(fetched.sha256, case.sha256());
    assert_eq!(names(&case.repository().join("blobs")), ["8ab686eafeb1f44702738c8b0f24f2567c36da6d"]);
}

#[test]
fn who_may_not_read_is_told_how() {
    let mut case = case();
    case.server.behave(|manners| manners.token = Some("hf_right"));
    let endpoint = &case.settings.endpoint;
    assert_eq!(
        case.complaint("hf:owner/name"),
        format!(
            "`owner/name` at `{endpoint}` is private, gated, or does not exist (HTTP 401)\n\
             hint: check the name, or set `HF_TOKEN` to a token that may read it"
        )
    );
    let expected = format!("the token was refused for `owner/name` at `{endpoint}` (HTTP 403)\nhint: `HF_TOKEN`, or");
    case.settings.token = Some("hf_wrong".into());
    let error = case.complaint("hf:owner/name");
    assert!(error.starts_with(&expected) && !error.contains("hf_wrong"), "{error}");
    case.settings.token = Some("hf_\nwrong".into());
    assert!(case.complaint("hf:owner/name").starts_with("the token for the hub holds what no token does\nhint: "));
}

/// The hub says in a header what is missing; of a mirror that does not, more is asked.
#[test]
fn what_is_missing_is_named() {
    let case = case();
    for codes in [true, false] {
        case.server.behave(|manners| manners.codes = codes);
        let endpoint = &case.settings.endpoint;
        assert_eq!(
            case.complaint("hf:owner/other"),
            format!(
                "there is no repository `owner/other` at `{endpoint}`\nhint: check owner and name; a private one shows \
                 itself only to a token in `HF_TOKEN`"
            )
        );
        assert_eq!(
            case.complaint("hf:owner/name@v2"),
            "`owner/name` has no revision `v2`\nhint: a revision is a branch, a tag or a commit of 40 digits; without \
             one, `main` is meant"
        );
        assert_eq!(
            case.complaint("hf:owner/name/b.npz"),
            "`owner/name` has no file `b.npz` at revision `main`\nhint: name another one as `hf:owner/name/FILE`"
        );
        assert_eq!(case.server.requests().iter().any(|request| request.path.starts_with("/api/")), !codes);
    }
    assert!(!case.settings.cache.exists());
}

#[test]
fn a_file_may_be_optional() {
    let mut case = case();
    let optional = |case: &Case, text: &str| fetch_optional(&reference(text), &case.settings, &mut |_, _| {});
    assert_eq!(optional(&case, "hf:owner/name/config.json").unwrap(), None);
    case.is_whole(&optional(&case, "hf:owner/name").unwrap().unwrap());
    assert!(matches!(optional(&case, "hf:owner/other/config.json"), Err(Error::NoRepository { .. })));
    // What a commit lacks is remembered; what a branch lacks may come.
    let at_commit = format!("hf:owner/name/config.json@{COMMIT}");
    assert_eq!(optional(&case, &at_commit).unwrap(), None);
    assert!(case.repository().join(".no_exist").join(COMMIT).join("config.json").is_file());
    assert!(!case.server.requests().is_empty());
    assert_eq!(optional(&case, &at_commit).unwrap(), None);
    assert_eq!(case.server.requests(), []);
    case.settings.offline = true;
    assert_eq!(optional(&case, &at_commit).unwrap(), None);
    assert!(matches!(optional(&case, "hf:owner/name/config.json"), Err(Error::Offline { .. })));
    assert!(optional(&case, "hf:owner/name").unwrap().is_some());
    (case.settings.offline, case.settings.endpoint) = (false, nowhere());
    assert!(matches!(optional(&case, "hf:owner/name/config.json"), Err(Error::Unreachable { .. })));
}

#[test]
fn offline_nobody_is_asked() {
    let mut case = case();
    case.settings.offline = true;
    assert_eq!(
        case.complaint("hf:owner/name"),
        format!(
            "`hf:owner/name` is not in the cache `{}`, and the network may not be asked\nhint: unset `HF_HUB_OFFLINE`, or \
             name a cache that has it with `HF_HUB_CACHE`",
            case.settings.cache.display()
        )
    );
    case.settings.offline = false;
    case.fetch("hf:owner/name").unwrap();
    case.server.requests();
    case.settings.offline = true;
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    assert!(case.complaint("hf:owner/name@v1").contains("`hf:owner/name@v1` is not in the cache"));
    assert_eq!(case.server.requests(), []);
}

#[test]
fn a_hub_out_of_reach_is_named_or_not_needed() {
    let mut case = case();
    let reached = std::mem::replace(&mut case.settings.endpoint, nowhere());
    let error = case.complaint("hf:owner/name");
    assert!(error.starts_with(&format!("cannot reach `{}` for `hf:owner/name`: ", case.settings.endpoint)), "{error}");
    assert!(error.contains("refused") && error.contains("\nhint: what is in the cache needs no network"), "{error}");
    let unreached = std::mem::replace(&mut case.settings.endpoint, reached);
    case.fetch("hf:owner/name").unwrap();
    case.settings.endpoint = unreached;
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    case.settings.endpoint = "not an address".into();
    assert!(
        case.complaint("hf:owner/name").starts_with("`not an address` is no address of a hub\nhint: `HF_ENDPOINT`")
    );
}

#[test]
fn a_hub_that_fails_is_told_from_one_that_refuses() {
    let case = case();
    case.server.behave(|manners| manners.status = Some(503));
    let error = case.complaint("hf:owner/name");
    assert!(error.ends_with("answered `hf:owner/name` with HTTP 503\nhint: try again later"), "{error}");
    case.server.behave(|manners| manners.status = None);
    case.fetch("hf:owner/name").unwrap();
    case.server.behave(|manners| manners.status = Some(503));
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
    case.server.behave(|manners| manners.status = Some(403));
    assert!(matches!(case.fetch("hf:owner/name"), Err(Error::NotAllowed { status: 403, .. })));
}

#[test]
fn what_is_no_hub_is_told() {
    let case = case();
    case.server.behave(|manners| manners.hub = false);
    let error = case.complaint("hf:owner/name");
    assert!(error.contains("does not answer as the hub does: it names no commit\nhint: `HF_ENDPOINT` must"), "{error}");
    case.server.behave(|manners| (manners.hub, manners.etag) = (true, Some("../../../evil".into())));
    assert!(case.complaint("hf:owner/name").contains("its commit or etag is none"));
    assert!(!case.settings.cache.exists());
}

#[test]
fn a_revision_is_asked_for_and_remembered() {
    let case = case();
    case.is_whole(&case.fetch("hf:owner/name@v1").unwrap());
    assert_eq!(fs::read_to_string(case.repository().join("refs/v1")).unwrap(), COMMIT);
    assert!(!case.repository().join("refs/main").exists());
    let paths: Vec<_> = case.server.requests().into_iter().map(|request| request.path).collect();
    let of = |revision: &str| format!("/owner/name/resolve/{revision}/model.safetensors");
    assert_eq!(paths, [of("v1"), of(COMMIT)]);
    case.fetch("hf:owner/name@refs/pr/1").unwrap();
    assert_eq!(fs::read_to_string(case.repository().join("refs/refs/pr/1")).unwrap(), COMMIT);
    assert_eq!(case.server.requests()[0].path, of("refs%2Fpr%2F1"));
}

#[test]
fn a_repository_that_moved_is_followed() {
    let case = case();
    let fetched = case.fetch("hf:owner/former").unwrap();
    assert!(fs::read(&fetched.path).unwrap() == case.content);
    assert!(fetched.path.starts_with(case.settings.cache.join("models--owner--former")));
}

/// As Python's `huggingface_hub` leaves it.
#[cfg(unix)]
#[test]
fn what_python_downloaded_is_found() {
    let case = case();
    let snapshot = case.repository().join("snapshots").join(COMMIT);
    for folder in [&snapshot, &case.repository().join("refs"), &case.repository().join("blobs")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(case.repository().join("refs/main"), COMMIT).unwrap();
    fs::write(case.blob(), &case.content).unwrap();
    let blob = Path::new("../../blobs").join(case.sha256());
    std::os::unix::fs::symlink(blob, snapshot.join("model.safetensors")).unwrap();
    for offline in [true, false] {
        let settings = Settings { offline, ..case.settings.clone() };
        case.is_whole(&fetch(&reference("hf:owner/name"), &settings, &mut |_, _| {}).unwrap());
        assert_eq!(case.gets(), []);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let case = case();
    fs::write(&case.settings.cache, "a file").unwrap();
    let error = case.complaint("hf:owner/name");
    assert!(
        error.starts_with("cannot write `") && error.contains("\nhint: make room or give write permission"),
        "{error}"
    );
    assert!(error.contains(case.folder.path().to_str().unwrap()), "{error}");
}

#[test]
fn two_at_once_download_once() {
    let case = case();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| case.fetch("hf:owner/name").unwrap()));
        for fetched in both {
            case.is_whole(&fetched.join().unwrap());
        }
    });
    assert_eq!(case.gets().len(), 1);
}

#[tokio::test]
async fn an_asynchronous_program_may_ask() {
    let case = case();
    case.is_whole(&case.fetch("hf:owner/name").unwrap());
}

/// Only when it runs as [`settings_are_what_the_environment_says`] runs it.
#[test]
fn settings_of_this_process() {
    if std::env::var_os("DISTILLERY_TEST_SETTINGS").is_some() {
        let settings = Settings::from_environment();
        println!(
            "endpoint={} cache={} token={:?} offline={}",
            settings.endpoint,
            settings.cache.display(),
            settings.token,
            settings.offline
        );
    }
}

/// In processes of their own: the environment belongs to all threads.
#[test]
fn settings_are_what_the_environment_says() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), "hf_file\n").unwrap();
    let home = home.path().to_str().unwrap();
    let settings = |variables: &[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "hub::settings_of_this_process", "--nocapture"]).env("DISTILLERY_TEST_SETTINGS", "1");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_") || name.contains("OFFLINE")) {
            command.env_remove(name);
        }
        let output = command.env("HF_HOME", home).envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| Some(line[line.find("endpoint=")?..].to_owned())).unwrap()
    };
    assert_eq!(
        settings(&[]),
        format!("endpoint=https://huggingface.co cache={home}/hub token=Some(\"hf_file\") offline=false")
    );
    assert_eq!(
        settings(&[
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_CACHE", "/cache"),
            ("HF_TOKEN", " hf_variable\n"),
            ("HF_HUB_OFFLINE", "Yes"),
        ]),
        "endpoint=http://mirror cache=/cache token=Some(\"hf_variable\") offline=true"
    );
    assert!(settings(&[("HF_HUB_OFFLINE", "0"), ("HF_HOME", "/none")]).ends_with("token=None offline=false"));
}
