//! What the caller lends to a build: secrets and agents. They are in no plan, no key, no record and no debug print.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Secrets and agents by their ids.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// `--secret`.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: sockets of agents.
    pub agents: BTreeMap<String, PathBuf>,
}

/// A secret's bytes.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Secret {
        Secret(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_d09_no_debug_print_shows_a_secret() {
        let mut credentials = Credentials::default();
        credentials.secrets.insert("id".to_owned(), Secret::from(b"canary".to_vec()));
        let shown = format!("{credentials:?}");
        assert!(shown.contains("id") && !shown.contains("canary") && !shown.contains("99, 97"), "{shown}");
    }
}
