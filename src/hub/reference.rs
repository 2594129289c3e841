//! What `hf:owner/name/path/to/file@revision` means.

use std::fmt;

use super::Error;

/// What weights are called where a reference names no file.
const DEFAULT_FILE: &str = "model.safetensors";

/// The branch that is meant where a reference names no revision.
const DEFAULT_REVISION: &str = "main";

/// A file of a repository of models on the hub. It prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    owner: String,
    name: String,
    file: String,
    revision: Option<String>,
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

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
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

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}", self.owner, self.name)?;
        if self.file != DEFAULT_FILE {
            write!(f, "/{}", self.file)?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
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
    Ok(Reference { owner: owner.to_owned(), name: name.to_owned(), file: file.to_owned(), revision })
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
