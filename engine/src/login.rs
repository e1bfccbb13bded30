//! `dunnage login` and `logout`: a credential is checked at its registry before it is kept.

use builder::Cancel;
use registry::{Credential, CredentialFile, credential_key};

use crate::FetchOptions;
use crate::credential_helper::{self, Stored};
use crate::error::{Error, Result};
use crate::registries::{read, write};

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A helper program has it.
    Helper(String),
    /// A file has it, unencrypted.
    File(std::path::PathBuf),
}

/// The registry that a text names: `https://index.docker.io/v1/`, `r.example:5000`; docker's own when it is empty.
fn host_of(server: &str) -> Result<String> {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = bare.split('/').next().unwrap_or(bare);
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => Ok("docker.io".to_owned()),
        host => match format!("{host}/x").parse::<cache::Reference>() {
            Ok(reference) if reference.registry() == host => Ok(host.to_owned()),
            // A lone word would be the namespace of another registry.
            Ok(_) => Ok(host.to_owned()).and_then(|host: String| {
                match host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                    true => {
                        Err(Error::Usage(format!("`{host}` is no registry: give its host, and port where it has one")))
                    }
                    false => Ok(host),
                }
            }),
            Err(_) => Err(Error::Usage(format!("`{server}` is no registry: give its host, and port where it has one"))),
        },
    }
}

impl FetchOptions {
    /// Checks a user and password at a registry, and keeps them.
    ///
    /// # Errors
    /// When the registry does not take them, or they cannot be kept.
    pub fn log_in(&self, server: &str, user: &str, password: &str) -> Result<Kept> {
        let host = host_of(server)?;
        if user.is_empty() || user.contains(':') {
            return Err(Error::Usage("a user's name is not empty, and has no colon".to_owned()));
        }
        let credential = Credential::Password { user: user.to_owned(), password: password.to_owned() };
        self.registries(&Cancel::default())?.log_in(&host, &credential)?;
        let path = &self.registries.login;
        let mut file = match read(path)? {
            Some(file) => file,
            None => CredentialFile::parse("", path)?,
        };
        let Some(name) = file.helper(&host) else {
            file.set(&host, &credential);
            write(path, &file)?;
            return Ok(Kept::File(path.clone()));
        };
        let stored = Stored {
            server_url: credential_key(&host).to_owned(),
            username: user.to_owned(),
            secret: password.to_owned(),
        };
        credential_helper::store(&self.programs, &name, &stored).map_err(registry::Error::Network)?;
        file.set_kept_by_helper(&host);
        write(path, &file)?;
        Ok(Kept::Helper(name))
    }

    /// Forgets what is kept for a registry; false when nothing was.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn log_out(&self, server: &str) -> Result<bool> {
        let host = host_of(server)?;
        let path = &self.registries.login;
        let Some(mut file) = read(path)? else { return Ok(false) };
        if let Some(name) = file.helper(&host) {
            credential_helper::erase(&self.programs, &name, credential_key(&host)).map_err(registry::Error::Network)?;
        }
        let removed = file.remove(&host);
        if removed {
            write(path, &file)?;
        }
        Ok(removed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_many_ways() {
        for hub in ["", "docker.io", "https://index.docker.io/v1/"] {
            assert_eq!(host_of(hub).unwrap(), "docker.io");
        }
        assert_eq!(host_of("https://r.example:5000/v2/").unwrap(), "r.example:5000");
        assert_eq!(host_of("localhost:5000").unwrap(), "localhost:5000");
        assert!(host_of("word").is_err() && host_of("a b.example").is_err());
    }
}
