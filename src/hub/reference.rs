//! What `hf:owner/name/path/to/file@revision` means, and `hf:owner/name:config@revision` of a data set.

use std::fmt;

use super::Error;

/// What weights are called where a reference names no file.
const DEFAULT_FILE: &str = "model.safetensors";

/// What describes a data set.
pub(super) const CARD: &str = "README.md";

/// The branch that is meant where a reference names no revision.
const DEFAULT_REVISION: &str = "main";

/// A file of a repository on the hub. It prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    kind: Kind,
    owner: String,
    name: String,
    file: String,
    revision: Option<String>,
}

/// What a repository holds. The hub keeps the kinds apart: two may have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Models,
    Data,
}

/// A data set on the hub: `hf:owner/name[:config][@revision]`. It prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataReference {
    /// Its description.
    pub(super) card: Reference,
    /// The one that is meant of several in a repository.
    pub(super) config: Option<String>,
}

impl DataReference {
    /// None where the text does not start with `hf:`.
    ///
    /// # Errors
    /// When it starts so and is no data set.
    pub fn parse(text: &str) -> Option<Result<DataReference, Error>> {
        let rest = text.strip_prefix("hf:")?;
        Some(read_data(rest).map_err(|why| Error::NoDataSet { text: text.to_owned(), why }))
    }

    /// `datasets/owner/name`, as in the address of its page.
    pub fn repository(&self) -> String {
        self.card.repository()
    }

    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// A branch, tag or commit: `main` where none was named.
    pub fn revision(&self) -> &str {
        self.card.revision()
    }

    /// The same at a commit.
    pub fn at(&self, commit: &str) -> DataReference {
        DataReference { card: self.card.at(commit), ..self.clone() }
    }
}

impl Reference {
    /// Reads `hf:owner/name`, `hf:owner/name/path/to/file.npz`, and either with `@revision`. None where the text does
    /// not start with `hf:`.
    ///
    /// # Errors
    /// When it starts so and is none of these.
    pub fn parse(text: &str) -> Option<Result<Reference, Error>> {
        let rest = text.strip_prefix("hf:")?;
        Some(read(rest).map_err(|why| Error::Malformed { text: text.to_owned(), why }))
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path inside the repository.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A branch, tag or commit: `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// `owner/name`; of data sets, `datasets/owner/name`.
    pub fn repository(&self) -> String {
        let folder = match self.kind {
            Kind::Models => "",
            Kind::Data => "datasets/",
        };
        format!("{folder}{}/{}", self.owner, self.name)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a revision was named.
    pub(super) fn is_pinned(&self) -> bool {
        self.revision.is_some()
    }

    /// The same file at a commit.
    pub fn at(&self, commit: &str) -> Reference {
        Reference { revision: Some(commit.to_owned()), ..self.clone() }
    }

    /// Another file of the same repository and revision.
    ///
    /// # Errors
    /// When `file` is no path inside a repository.
    pub fn sibling(&self, file: &str) -> Result<Reference, Error> {
        let sibling = Reference { file: file.to_owned(), ..self.clone() };
        match wrong_path(file) {
            Some(why) => Err(Error::Malformed { text: sibling.to_string(), why }),
            None => Ok(sibling),
        }
    }
}

impl fmt::Display for DataReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}", self.card.owner, self.card.name)?;
        if let Some(config) = &self.config {
            write!(f, ":{config}")?;
        }
        match &self.card.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repository())?;
        if self.file != DEFAULT_FILE {
            write!(f, "/{}", self.file)?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

fn read_data(text: &str) -> Result<DataReference, String> {
    let (place, revision) = text.split_at(text.find('@').unwrap_or(text.len()));
    let (place, config) = match place.split_once(':') {
        Some((place, config)) => (place, Some(config)),
        None => (place, None),
    };
    if let Some(config) = config {
        let legal = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
        if config.is_empty() || !config.chars().all(legal) {
            return Err(format!("`{config}` is no configuration"));
        }
    }
    if place.matches('/').count() > 1 {
        return Err("it has a path, but all of a data set is meant".to_owned());
    }
    let card = Reference { kind: Kind::Data, file: CARD.to_owned(), ..read(&format!("{place}{revision}"))? };
    Ok(DataReference { card, config: config.map(str::to_owned) })
}

fn read(text: &str) -> Result<Reference, String> {
    let (place, revision) = match text.split_once('@') {
        Some((place, revision)) => (place, Some(revision)),
        None => (text, None),
    };
    let mut parts = place.splitn(3, '/');
    let (owner, name, file) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
    for (what, part) in [("owner", owner), ("name", name)] {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if part.is_empty() {
            return Err(format!("the repository's {what} is missing"));
        }
        if !part.chars().all(legal) || part.starts_with(['.', '-']) || part.contains("..") || part.contains("--") {
            return Err(format!("`{part}` is no {what} of a repository"));
        }
    }
    let file = file.unwrap_or(DEFAULT_FILE);
    if let Some(why) = wrong_path(file) {
        return Err(why);
    }
    if let Some(revision) = revision {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./+=".contains(c);
        if revision.is_empty() {
            return Err("the revision after `@` is missing".to_owned());
        }
        if !revision.chars().all(legal) || revision.contains("..") || revision.split('/').any(unsafe_part) {
            return Err(format!("`{revision}` is no revision"));
        }
    }
    let revision = revision.map(str::to_owned);
    let (owner, name, file) = (owner.to_owned(), name.to_owned(), file.to_owned());
    Ok(Reference { kind: Kind::Models, owner, name, file, revision })
}

/// Why `file` is no path inside a repository. It becomes a path on this machine too.
fn wrong_path(file: &str) -> Option<String> {
    let illegal = |c: char| c.is_control() || c.is_whitespace() || "\\?#%:*\"<>|@".contains(c);
    match file.chars().find(|c| illegal(*c)) {
        Some(c) => Some(format!("{c:?} may not be in the name of a file")),
        None if file.split('/').any(unsafe_part) => Some(format!("`{file}` is no path of a file")),
        None => None,
    }
}

fn unsafe_part(part: &str) -> bool {
    matches!(part, "" | "." | "..")
}
