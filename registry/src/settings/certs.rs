//! Docker's `certs.d`: a directory for each host, with authorities (`*.crt`) and our own certificate (`*.cert`, `*.key`).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::http::Trust;

/// What the directories say of a host, the first that has one.
pub(super) fn trust(directories: &[PathBuf], host: &str) -> Result<Trust> {
    let names: &[&str] =
        if host == "docker.io" { &["docker.io", "registry-1.docker.io", "index.docker.io"] } else { &[host] };
    for directory in directories.iter().flat_map(|directory| names.iter().map(|name| directory.join(name))) {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let mut files: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        files.sort();
        return chosen(&directory, &files);
    }
    Ok(Trust::default())
}

fn chosen(directory: &Path, files: &[String]) -> Result<Trust> {
    let mut trust = Trust::default();
    for file in files {
        if file.ends_with(".crt") {
            trust.authorities.push(directory.join(file));
        }
        if let Some(name) = file.strip_suffix(".cert") {
            let key = format!("{name}.key");
            if !files.contains(&key) {
                let reason = format!("its key {key} is not beside it");
                return Err(Error::settings(directory.join(file).display(), reason));
            }
            trust.identity.get_or_insert((directory.join(file), directory.join(key)));
        }
    }
    Ok(trust)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn authorities_and_our_own_certificate_are_told_apart() {
        let files = ["ca.crt", "client.cert", "client.key", "x.txt"].map(str::to_owned);
        let trust = chosen(Path::new("/d"), &files).unwrap();
        assert_eq!(trust.authorities, [Path::new("/d/ca.crt")]);
        assert_eq!(trust.identity, Some(("/d/client.cert".into(), "/d/client.key".into())));
        let error = chosen(Path::new("/d"), &["client.cert".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("client.key is not beside it"), "{error}");
    }
}
