//! A hub on this machine: as much of its HTTP as a download needs, with a repository of one owner and manners to order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use distillery::digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Of what the hub converted.
pub const CONVERTED: &str = "89abcdef0123456789abcdef0123456789abcdef";

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// How the server behaves from now on.
#[derive(Clone)]
pub struct Manners {
    pub content: Vec<u8>,
    /// The content's SHA-256 where none is given.
    pub etag: Option<String>,
    /// Who does not send it is refused.
    pub token: Option<&'static str>,
    /// How many bytes of the next body come before the connection ends.
    pub cut: Option<usize>,
    pub ranges: bool,
    /// Whether a refusal says in a header what is missing.
    pub codes: bool,
    /// Whether the content lies on another host, as large files of the hub do.
    pub elsewhere: bool,
    /// Answers all with this status.
    pub status: Option<u16>,
    /// Whether it names commit and etag.
    pub hub: bool,
    /// The data set `owner/name`, by file.
    pub data: BTreeMap<String, Vec<u8>>,
    /// What the hub made of it, at `refs/convert/parquet`.
    pub converted: BTreeMap<String, Vec<u8>>,
    /// Whether its files, not their names, are for those only who agreed to terms.
    pub gated: bool,
}

pub struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    manners: Arc<Mutex<Manners>>,
}

impl Server {
    /// Has `owner/name` with `model.safetensors` and `weights/a.npz` at `main`, `v1`, `refs/pr/1` and [`COMMIT`].
    pub fn start(content: &[u8]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let manners = Manners {
            content: content.to_owned(),
            etag: None,
            token: None,
            cut: None,
            ranges: true,
            codes: true,
            elsewhere: false,
            status: None,
            hub: true,
            data: BTreeMap::new(),
            converted: BTreeMap::new(),
            gated: false,
        };
        let server = Server {
            endpoint: format!("http://127.0.0.1:{port}"),
            requests: Arc::default(),
            manners: Arc::new(Mutex::new(manners)),
        };
        let (requests, manners) = (server.requests.clone(), server.manners.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, manners) = (requests.clone(), manners.clone());
                thread::spawn(move || answer(stream.unwrap(), port, &requests, &manners));
            }
        });
        server
    }

    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    /// Those since it was asked last.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, port: u16, requests: &Mutex<Vec<Request>>, manners: &Mutex<Manners>) {
    let Some(request) = read(&stream) else { return };
    requests.lock().unwrap().push(request.clone());
    let now = manners.lock().unwrap().clone();
    let (status, headers, body) = respond(&request, port, &now);
    let cut = match request.method.as_str() {
        "GET" if status < 300 => manners.lock().unwrap().cut.take(),
        _ => None,
    };
    let mut head = format!("HTTP/1.1 {status} .\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let sent = if request.method == "HEAD" { 0 } else { cut.unwrap_or(body.len()).min(body.len()) };
    // Whoever asked may be gone.
    let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    let _ = stream.write_all(&body[..sent]);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let mut request =
        Request { method: words.next()?.to_owned(), path: words.next()?.to_owned(), range: None, authorization: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn respond(request: &Request, port: u16, manners: &Manners) -> Answer {
    if request.path.starts_with("/store/") {
        return content(request, manners, Vec::new());
    }
    let missing = |code: &str| {
        let headers = if manners.codes { vec![("X-Error-Code", code.to_owned())] } else { Vec::new() };
        (404, headers, b"{}".to_vec())
    };
    let expected = manners.token.map(|token| format!("Bearer {token}"));
    if let Some(status) = manners.status {
        return (status, Vec::new(), Vec::new());
    }
    if expected.is_some() && request.authorization != expected {
        return (if request.authorization.is_some() { 403 } else { 401 }, Vec::new(), Vec::new());
    }
    if let Some(rest) = request.path.strip_prefix("/api/datasets/") {
        if rest == "owner/name" {
            return (200, Vec::new(), b"{}".to_vec());
        }
        let files =
            rest.strip_prefix("owner/name/revision/").and_then(|rest| revision(manners, rest.split('?').next()?));
        let Some((commit, files)) = files else {
            let there = rest.starts_with("owner/name/");
            return missing(if there { "RevisionNotFound" } else { "RepoNotFound" });
        };
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, content)| serde_json::json!({"rfilename": name, "size": content.len(), "blobId": "x"}))
            .collect();
        let listed = serde_json::json!({"id": "owner/name", "sha": commit, "siblings": siblings});
        return (200, Vec::new(), listed.to_string().into_bytes());
    }
    if let Some(rest) = request.path.strip_prefix("/datasets/owner/name/resolve/") {
        if manners.gated {
            return (401, vec![("X-Error-Code", "GatedRepo".to_owned())], Vec::new());
        }
        let Some((at, file)) = rest.split_once('/') else { return missing("EntryNotFound") };
        let Some((commit, files)) = revision(manners, at) else { return missing("RevisionNotFound") };
        let Some(content) = files.get(file) else { return missing("EntryNotFound") };
        let etag = digest::of_reader(&content[..]).unwrap();
        let headers = vec![("X-Repo-Commit", commit.to_owned()), ("ETag", format!("\"{etag}\""))];
        return (200, headers, content.clone());
    }
    let there = |revision: &str| ["main", "v1", "refs%2Fpr%2F1", COMMIT].contains(&revision);
    if let Some(rest) = request.path.strip_prefix("/api/models/") {
        return match rest.split_once("/revision/") {
            None if rest == "owner/name" => (200, Vec::new(), b"{}".to_vec()),
            Some(("owner/name", revision)) if there(revision) => (200, Vec::new(), b"{}".to_vec()),
            _ => (404, Vec::new(), b"{}".to_vec()),
        };
    }
    if let Some(rest) = request.path.strip_prefix("/owner/former/") {
        return (307, vec![("Location", format!("/owner/name/{rest}"))], b"moved".to_vec());
    }
    let Some(rest) = request.path.strip_prefix("/owner/name/resolve/") else { return missing("RepoNotFound") };
    let Some((revision, file)) = rest.split_once('/') else { return missing("EntryNotFound") };
    if !there(revision) {
        return missing("RevisionNotFound");
    }
    if !["model.safetensors", "weights/a.npz"].contains(&file) {
        return missing("EntryNotFound");
    }
    if !manners.hub {
        return content(request, manners, Vec::new());
    }
    let etag = manners.etag.clone().unwrap_or_else(|| digest::of_reader(&manners.content[..]).unwrap());
    let mut headers = vec![
        ("X-Repo-Commit", COMMIT.to_owned()),
        ("X-Linked-Etag", format!("\"{etag}\"")),
        ("X-Linked-Size", manners.content.len().to_string()),
        ("X-Xet-Hash", "00".repeat(32)),
    ];
    if manners.elsewhere {
        headers.push(("Location", format!("http://localhost:{port}/store/blob")));
        return (302, headers, b"elsewhere".to_vec());
    }
    content(request, manners, headers)
}

/// What the data set is at a revision.
fn revision<'a>(manners: &'a Manners, name: &str) -> Option<(&'static str, &'a BTreeMap<String, Vec<u8>>)> {
    match name {
        "main" | "v1" | COMMIT => Some((COMMIT, &manners.data)),
        "refs%2Fconvert%2Fparquet" | CONVERTED if !manners.converted.is_empty() => {
            Some((CONVERTED, &manners.converted))
        }
        _ => None,
    }
}

fn content(request: &Request, manners: &Manners, mut headers: Vec<(&'static str, String)>) -> Answer {
    let all = &manners.content;
    let from = request.range.as_ref().filter(|_| manners.ranges);
    let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        None => (200, headers, all.clone()),
        Some(from) if from >= all.len() => (416, headers, Vec::new()),
        Some(from) => {
            headers.push(("Content-Range", format!("bytes {from}-{}/{}", all.len() - 1, all.len())));
            (206, headers, all[from..].to_vec())
        }
    }
}
