//! One repository's part of the cache, in the layout that Python's `huggingface_hub` shares.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::reference::Kind;
use super::{Error, Files, Reference};

pub(super) struct Cache {
    repository: PathBuf,
    locks: PathBuf,
}

/// A file in the cache.
pub(super) struct Found {
    pub path: PathBuf,
    pub commit: String,
    /// None where the cache does not tell, as without symbolic links.
    pub etag: Option<String>,
}

impl Cache {
    pub fn new(root: &Path, reference: &Reference) -> Cache {
        let kind = match reference.kind() {
            Kind::Models => "models",
            Kind::Data => "datasets",
        };
        let folder = format!("{kind}--{}--{}", reference.owner(), reference.name());
        Cache { repository: root.join(&folder), locks: root.join(".locks").join(&folder) }
    }

    /// What the cache knows without asking the hub.
    pub fn find(&self, revision: &str, file: &str) -> Option<Found> {
        self.at(&self.commit(revision)?, file)
    }

    /// The commit that a revision was when it was last asked for.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision)).ok()?.trim().to_owned();
        is_name(&commit).then_some(commit)
    }

    /// All files of a commit, where they were listed.
    pub fn files(&self, commit: &str) -> Option<Files> {
        serde_json::from_slice(&fs::read(self.list(commit)).ok()?).ok()
    }

    /// Those files of a commit that were fetched, by whomever.
    pub fn fetched(&self, commit: &str) -> Option<Files> {
        let root = self.repository.join("snapshots").join(commit);
        let (mut files, mut folders) = (Files::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()) {
                let Ok(about) = fs::metadata(&path) else { continue };
                if about.is_dir() {
                    folders.push(path);
                } else if let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                    files.insert(name.replace('\\', "/"), Some(about.len()));
                }
            }
        }
        (!files.is_empty()).then_some(files)
    }

    pub fn note_files(&self, commit: &str, files: &Files) -> Result<(), Error> {
        let path = self.list(commit);
        make_parent(&path)?;
        let failed = |source| Error::Write { path: path.clone(), source };
        let text = serde_json::to_vec(files).map_err(|error| failed(error.into()))?;
        // Whole or not at all: a process beside this one may read it.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(failed)
    }

    fn list(&self, commit: &str) -> PathBuf {
        self.repository.join(".files").join(format!("{commit}.json"))
    }

    pub fn at(&self, commit: &str, file: &str) -> Option<Found> {
        let path = self.pointer(commit, file);
        if !path.exists() {
            return None;
        }
        let blob = fs::read_link(&path).ok();
        let etag = blob.and_then(|blob| Some(blob.file_name()?.to_str()?.to_owned()));
        Some(Found { path, commit: commit.to_owned(), etag })
    }

    /// Whether the commit is known to have no such file.
    pub fn lacks(&self, commit: &str, file: &str) -> bool {
        self.repository.join(".no_exist").join(commit).join(file).exists()
    }

    pub fn note_lack(&self, commit: &str, file: &str) -> Result<(), Error> {
        let path = self.repository.join(".no_exist").join(commit).join(file);
        make_parent(&path)?;
        fs::write(&path, "").map_err(|source| Error::Write { path, source })
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(etag)
    }

    /// Waits until no other process downloads the same content. Freed when the file is dropped.
    pub fn lock(&self, etag: &str) -> Result<File, Error> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let failed = |source| Error::Write { path: path.clone(), source };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match file.lock() {
            // Some network file systems have no locks. Two downloads at once are then told apart by their checksum.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(failed(error)),
            _ => Ok(file),
        }
    }

    /// Where an unfinished download lies, in a folder that is there.
    pub fn incomplete(&self, etag: &str) -> Result<PathBuf, Error> {
        let path = self.blob(&format!("{etag}.incomplete"));
        make_parent(&path)?;
        Ok(path)
    }

    /// Gives the blob its name in the commit, where there is none that leads to it.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Error> {
        let pointer = self.pointer(commit, file);
        make_parent(&pointer)?;
        let linked = match fs::remove_file(&pointer) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.point(&pointer, file, etag),
        };
        linked.map_err(|source| Error::Write { path: pointer, source })
    }

    /// Relative, so that the cache can be moved: up from the file's folder, the commit's and `snapshots`.
    #[cfg(unix)]
    fn point(&self, pointer: &Path, file: &str, etag: &str) -> io::Result<()> {
        let mut blob: PathBuf = file.split('/').map(|_| "..").collect();
        blob.push("../blobs");
        std::os::unix::fs::symlink(blob.join(etag), pointer)
    }

    /// Symbolic links need a permission on Windows that few have.
    #[cfg(not(unix))]
    fn point(&self, pointer: &Path, _file: &str, etag: &str) -> io::Result<()> {
        fs::hard_link(self.blob(etag), pointer)
    }

    /// Remembers what a branch or tag meant. A cache that cannot be written stays useful where nothing changes.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.reference(revision);
        let known = fs::read_to_string(&path).is_ok_and(|known| known.trim() == commit);
        if is_commit(revision) || known {
            return Ok(());
        }
        make_parent(&path)?;
        fs::write(&path, commit).map_err(|source| Error::Write { path, source })
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.repository.join("refs").join(revision)
    }

    /// The file's name in the commit.
    pub fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit).join(file)
    }
}

fn make_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.to_owned(), source }),
        None => Ok(()),
    }
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a server's word for a commit or a content may become the name of a file.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && text.len() <= 200 && text.chars().all(legal) && !text.starts_with('.')
}
