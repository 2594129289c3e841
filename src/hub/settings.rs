//! Where the hub is, where its cache lies, who asks, and whether asking is allowed: what the environment says of it.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;

const ENDPOINT: &str = "https://huggingface.co";

/// What every request needs to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The hub or a mirror of it, without a slash at the end.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// Sent to the endpoint, and to nobody it points at.
    pub token: Option<String>,
    /// Whether the network is never asked.
    pub offline: bool,
    /// How often in one call a download that is cut off is taken up, the first time included.
    pub attempts: u32,
}

impl Settings {
    /// As Python's `huggingface_hub` reads it: `HF_ENDPOINT`; `HF_HUB_CACHE`, `HF_HOME`; `HF_TOKEN`, `HF_TOKEN_PATH`, the
    /// file `token` in `HF_HOME`; `HF_HUB_OFFLINE`.
    pub fn from_environment() -> Settings {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let offline = variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE"));
        let yes = |value: String| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str());
        Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: hf_hub::resolve_cache_dir(),
            token: token(),
            offline: offline.is_some_and(yes),
            attempts: 5,
        }
    }
}

/// Never shows the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .field("offline", &self.offline)
            .field("attempts", &self.attempts)
            .finish()
    }
}

/// None where it is empty, too.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().and_then(filled)
}

fn filled(text: String) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// As `hf-hub` looks for it, which keeps what it finds to itself.
fn token() -> Option<String> {
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let file = |path: PathBuf| fs::read_to_string(path).ok().and_then(filled);
    variable("HF_TOKEN")
        .or_else(|| variable("HF_TOKEN_PATH").and_then(|path| file(path.into())))
        .or_else(|| file(hf_hub::hf_home().join("token")))
}
