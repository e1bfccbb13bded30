//! How verbs reach registries: the user's settings, and who they are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder::Cancel;
use registry::{Client, Credential, CredentialFile, Credentials, Lookup, Settings, SettingsFiles};

use crate::credential_helper::{self, Stored};
use crate::error::{Error, Result};
use crate::{FetchOptions, SearchPath};

/// Where the user's files about registries are.
#[derive(Debug, Clone, Default)]
pub struct RegistryFiles {
    /// Mirrors, blocks, trust.
    pub settings: SettingsFiles,
    /// A document like docker's `config.json`, as the environment has it; it comes first.
    pub inline: Option<String>,
    /// `config.json` and `auth.json`; the first that knows a registry decides.
    pub credentials: Vec<PathBuf>,
    /// Which of these `login` and `logout` write.
    pub login: PathBuf,
}

impl FetchOptions {
    /// A client for what the user's files say.
    pub(crate) fn registries(&self, cancel: &Cancel) -> Result<Client> {
        let settings = Settings::read(&self.registries.settings)?;
        let credentials = FileCredentials { files: self.registries.clone(), programs: self.programs.clone() };
        Ok(Client::new(self.http.clone(), settings, Box::new(credentials), stop(cancel)))
    }
}

/// How transfers ask whether they are still wanted.
pub(crate) fn stop(cancel: &Cancel) -> Arc<dyn Fn() -> bool + Send + Sync> {
    let cancel = cancel.clone();
    Arc::new(move || cancel.is_cancelled())
}

/// What the files know, asked when a registry is.
#[derive(Debug)]
struct FileCredentials {
    files: RegistryFiles,
    programs: SearchPath,
}

impl Credentials for FileCredentials {
    fn credential(&self, host: &str, repository: &str) -> registry::Result<Option<Credential>> {
        if let Some(text) = &self.files.inline {
            let file = CredentialFile::parse(text, "DOCKER_AUTH_CONFIG".as_ref())?;
            if let Some(found) = self.look_up(&file, host, repository)? {
                return Ok(Some(found));
            }
        }
        for path in &self.files.credentials {
            let Some(file) = read(path)? else { continue };
            if let Some(found) = self.look_up(&file, host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl FileCredentials {
    fn look_up(&self, file: &CredentialFile, host: &str, repository: &str) -> registry::Result<Option<Credential>> {
        match file.look_up(host, repository)? {
            None => Ok(None),
            Some(Lookup::Known(credential)) => Ok(Some(credential)),
            Some(Lookup::Helper { name, key }) => {
                let stored = credential_helper::get(&self.programs, &name, &key);
                Ok(stored.map_err(registry::Error::Network)?.map(Stored::credential))
            }
        }
    }
}

/// A file of credentials, where there is one.
pub(crate) fn read(path: &Path) -> registry::Result<Option<CredentialFile>> {
    registry::read_settings(path)?.map(|text| CredentialFile::parse(&text, path)).transpose()
}

/// Replaces a file of credentials, for its owner's eyes alone.
pub(crate) fn write(path: &PathBuf, file: &CredentialFile) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    // A file that is a link, as some keep theirs, stays one.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let directory = path.parent().unwrap_or(&path);
    let failed = |error| Error::file("write", &path, error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let draft = directory.join(format!(".dunnage-{}", std::process::id()));
    let bytes = file.to_bytes()?;
    let written = (|| {
        let mut out = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        out.write_all(&bytes)?;
        out.sync_all()?;
        std::fs::rename(&draft, &path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written.map_err(failed)
}
