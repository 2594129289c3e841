//! The requests: what the hub says of a file, its bytes from a place on, and why it refuses.

use std::time::Duration;

use hf_hub::{HFClient, HFError, HFRepository, RepoType};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::cache::is_name;
use super::reference::Kind;
use super::{Error, Files, Reference, Settings};

const CONNECT: Duration = Duration::from_secs(10);

/// For each piece of a body, not for all of it.
const READ: Duration = Duration::from_secs(60);

/// How many an answer may be away.
const REDIRECTS: usize = 10;

pub(super) struct Client<'a> {
    settings: &'a Settings,
    endpoint: Url,
    /// Follows no redirect: the hub's own answer tells of a file, not that of the store it points at.
    asking: reqwest::Client,
    /// Follows them, and leaves the token behind on the way to another host.
    getting: reqwest::Client,
}

/// What the hub says of a file.
pub(super) struct Described {
    pub commit: String,
    /// Names the content.
    pub etag: String,
    /// In bytes.
    pub size: Option<u64>,
}

/// The hub's answer to what a repository has.
#[derive(Deserialize)]
struct Listed {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

impl<'a> Client<'a> {
    pub fn new(settings: &'a Settings) -> Result<Client<'a>, Error> {
        let wrong = || Error::Endpoint { endpoint: settings.endpoint.clone() };
        let endpoint = Url::parse(&settings.endpoint).map_err(|_| wrong())?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(wrong());
        }
        if settings.token.as_ref().is_some_and(|token| HeaderValue::from_str(token).is_err()) {
            return Err(Error::Token);
        }
        // A proxy would look for this machine's own address on itself.
        let local = matches!(endpoint.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = |redirects| {
            let agent = concat!("distillery/", env!("CARGO_PKG_VERSION"));
            let builder = reqwest::Client::builder().user_agent(agent).connect_timeout(CONNECT).read_timeout(READ);
            if local { builder.no_proxy().redirect(redirects) } else { builder.redirect(redirects) }
        };
        let plain = endpoint.scheme() == "http";
        let client = |redirects: fn() -> Policy| {
            let built = match builder(redirects()).build() {
                // A system without certificates does without them here.
                Err(_) if plain => builder(redirects()).tls_certs_only([]).build(),
                built => built,
            };
            built.map_err(|source| Error::Client { source })
        };
        let (asking, getting) = (client(Policy::none)?, client(|| Policy::limited(REDIRECTS))?);
        Ok(Client { settings, endpoint, asking, getting })
    }

    /// Asks for the file at its revision.
    pub async fn describe(&self, reference: &Reference) -> Result<Described, Error> {
        let mut url = self.address(reference, reference.revision())?;
        for _ in 0..=REDIRECTS {
            let mut request = self.asking.head(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.settings.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.map_err(|error| self.unreachable(reference, &error))?;
            let (status, headers) = (response.status(), response.headers());
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refusal(reference, status, headers).await);
            }
            // A repository of another name is told by a relative redirect, before anything else is known. An absolute
            // one goes to where the bytes are, unless it knows nothing of the file: then to another hub.
            let onward = text(headers, LOCATION).filter(|_| status.is_redirection());
            match onward {
                Some(onward) if is_relative(onward) || self.described(response.status(), headers).is_err() => {
                    url = url.join(onward).map_err(|_| self.no_hub("it redirects to nowhere"))?;
                }
                _ => return self.described(status, headers),
            }
        }
        Err(self.no_hub("it redirects without end"))
    }

    /// The file's bytes behind the first `from`. The answer may be all of them (200), those asked for (206), or that
    /// there are none (416).
    pub async fn bytes(&self, reference: &Reference, commit: &str, from: u64) -> Result<Response, Error> {
        // By commit: the branch may have moved since it was asked for.
        let url = self.address(reference, commit)?;
        let mut request = self.getting.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(|error| self.unreachable(reference, &error))?;
        let status = response.status();
        if status.is_success() || from > 0 && status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        if response.url().origin() == self.endpoint.origin() {
            return Err(self.refusal(reference, status, response.headers()).await);
        }
        Err(self.status(reference, status))
    }

    /// `owner/name/resolve/revision/file`; a slash in the revision is part of its name.
    fn address(&self, reference: &Reference, revision: &str) -> Result<Url, Error> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(reference.repository().split('/')).extend(["resolve", revision]);
                path.extend(reference.file().split('/'));
            }
            Err(()) => return Err(Error::Endpoint { endpoint: self.settings.endpoint.clone() }),
        }
        Ok(url)
    }

    /// All files of the data set that the reference is in, and the commit that its revision means.
    pub async fn list(&self, reference: &Reference) -> Result<(String, Files), Error> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().push("api").extend(reference.repository().split('/'));
                path.extend(["revision", reference.revision()]);
            }
            Err(()) => return Err(Error::Endpoint { endpoint: self.settings.endpoint.clone() }),
        }
        // With it comes the size of each.
        url.set_query(Some("blobs=true"));
        let mut request = self.getting.get(url);
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| self.unreachable(reference, &error))?;
        if !response.status().is_success() {
            return Err(self.refusal(reference, response.status(), response.headers()).await);
        }
        let text = response.bytes().await.map_err(|error| self.unreachable(reference, &error))?;
        let listed: Listed = serde_json::from_slice(&text).map_err(|_| self.no_hub("it lists no files"))?;
        if !is_name(&listed.sha) {
            return Err(self.no_hub("its commit is none"));
        }
        Ok((listed.sha, listed.siblings.into_iter().map(|file| (file.rfilename, file.size)).collect()))
    }

    fn described(&self, status: StatusCode, headers: &HeaderMap) -> Result<Described, Error> {
        let commit = text(headers, "x-repo-commit").ok_or_else(|| self.no_hub("it names no commit"))?;
        let linked = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG));
        let etag = linked.ok_or_else(|| self.no_hub("it names no etag"))?;
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        if !is_name(commit) || !is_name(etag) {
            return Err(self.no_hub("its commit or etag is none"));
        }
        // The length of a redirect is not the file's.
        let own = || text(headers, CONTENT_LENGTH).filter(|_| status.is_success());
        let size = text(headers, "x-linked-size").or_else(own).and_then(|size| size.parse().ok());
        Ok(Described { commit: commit.to_owned(), etag: etag.to_owned(), size })
    }

    async fn refusal(&self, reference: &Reference, status: StatusCode, headers: &HeaderMap) -> Error {
        match (status, text(headers, "x-error-code")) {
            (_, Some("GatedRepo")) => self.gated(reference),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => self.not_allowed(reference, status),
            (_, Some("RepoNotFound")) => self.no_repository(reference),
            (_, Some("RevisionNotFound")) => no_revision(reference),
            (_, Some("EntryNotFound")) => no_file(reference),
            (StatusCode::NOT_FOUND, _) if headers.contains_key("x-repo-commit") => no_file(reference),
            (StatusCode::NOT_FOUND, _) => self.what_is_missing(reference).await,
            _ => self.status(reference, status),
        }
    }

    /// Of a mirror that says no more than that something is.
    async fn what_is_missing(&self, reference: &Reference) -> Error {
        let client = HFClient::builder().endpoint(self.settings.endpoint.as_str()).client(self.getting.clone());
        let client = client.cache_dir(self.settings.cache.clone()).retry_max_attempts(1);
        let client = match &self.settings.token {
            Some(token) => client.token(token.as_str()).build(),
            None => client.build(),
        };
        let (owner, name) = (reference.owner(), reference.name());
        let asked = async {
            match reference.kind() {
                Kind::Models => self.what_lacks(reference, client?.model(owner, name)).await,
                Kind::Data => self.what_lacks(reference, client?.dataset(owner, name)).await,
            }
        };
        match asked.await {
            Ok(error) => error,
            Err(HFError::AuthRequired { .. }) => self.not_allowed(reference, StatusCode::UNAUTHORIZED),
            Err(HFError::Forbidden { .. }) => self.not_allowed(reference, StatusCode::FORBIDDEN),
            Err(_) => self.status(reference, StatusCode::NOT_FOUND),
        }
    }

    async fn what_lacks<T: RepoType>(&self, of: &Reference, repository: HFRepository<T>) -> Result<Error, HFError> {
        if repository.revision_exists().revision(of.revision()).send().await? {
            return Ok(no_file(of));
        }
        Ok(if repository.exists().send().await? { no_revision(of) } else { self.no_repository(of) })
    }

    fn not_allowed(&self, reference: &Reference, status: StatusCode) -> Error {
        let (repository, endpoint) = (reference.repository(), self.settings.endpoint.clone());
        let status = status.as_u16();
        match self.settings.token {
            Some(_) => Error::TokenRefused { repository, endpoint, status },
            None => Error::NotAllowed { repository, endpoint, status },
        }
    }

    fn gated(&self, reference: &Reference) -> Error {
        let repository = reference.repository();
        Error::Gated { page: format!("{}/{repository}", self.settings.endpoint), repository }
    }

    fn no_repository(&self, reference: &Reference) -> Error {
        Error::NoRepository { repository: reference.repository(), endpoint: self.settings.endpoint.clone() }
    }

    pub fn no_hub(&self, what: &'static str) -> Error {
        Error::NotAHub { endpoint: self.settings.endpoint.clone(), what }
    }

    pub fn status(&self, reference: &Reference, status: StatusCode) -> Error {
        let (endpoint, reference) = (self.settings.endpoint.clone(), reference.to_string());
        Error::Status { endpoint, reference, status: status.as_u16() }
    }

    /// Names the host that did not answer: on the way of a download it may be another than the endpoint. The rest of
    /// its address may hold a signature, so it is not shown.
    fn unreachable(&self, reference: &Reference, error: &reqwest::Error) -> Error {
        let asked = error.url().map(Url::origin).filter(|origin| *origin != self.endpoint.origin());
        let endpoint = asked.map_or_else(|| self.settings.endpoint.clone(), |origin| origin.ascii_serialization());
        Error::Unreachable { endpoint, reference: reference.to_string(), why: root(error) }
    }

    /// The status that the endpoint answers with, to whoever asks.
    pub async fn answers(&self) -> Result<u16, Error> {
        let answer = self.asking.head(self.endpoint.clone()).send().await;
        answer.map(|answer| answer.status().as_u16()).map_err(|error| Error::Unreachable {
            endpoint: self.settings.endpoint.clone(),
            reference: "anything".to_owned(),
            why: root(&error),
        })
    }

    pub fn attempts(&self) -> u32 {
        self.settings.attempts.max(1)
    }
}

fn no_revision(reference: &Reference) -> Error {
    Error::NoRevision { repository: reference.repository(), revision: reference.revision().to_owned() }
}

fn no_file(reference: &Reference) -> Error {
    let (file, revision) = (reference.file().to_owned(), reference.revision().to_owned());
    Error::NoFile { repository: reference.repository(), file, revision }
}

fn text(headers: &HeaderMap, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Without a host of its own.
fn is_relative(location: &str) -> bool {
    !location.starts_with("//") && Url::parse(location).is_err()
}

/// What lies at the bottom of an error: "connection refused" says more than "error sending request".
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() { "it does not answer in time".to_owned() } else { cause.to_string() }
}
