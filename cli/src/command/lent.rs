//! What the user lends to a build, fetched: secrets read, agents found.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use engine::{Credentials, Secret};

use super::Failure;
use crate::args::{SecretSource, SecretSpec, SshSpec};
use crate::config;

/// Most bytes of a secret, as with BuildKit.
const SECRET_LIMIT: u64 = 500 << 10;

/// Reads all of it before anything is built.
pub(super) fn credentials(secrets: Vec<SecretSpec>, agents: Vec<SshSpec>) -> Result<Credentials, Failure> {
    let mut credentials = Credentials::default();
    for spec in secrets {
        let bytes = read_secret(&spec)?;
        if bytes.len() as u64 > SECRET_LIMIT {
            return Err(Failure::usage(format!("the secret `{}` is larger than {} KiB", spec.id, SECRET_LIMIT >> 10)));
        }
        credentials.secrets.insert(spec.id, Secret::from(bytes));
    }
    for spec in agents {
        let socket = agent(&spec)?;
        credentials.agents.insert(spec.id, socket);
    }
    Ok(credentials)
}

fn read_secret(spec: &SecretSpec) -> Result<Vec<u8>, Failure> {
    let variable = |name: &str| {
        let missing = || Failure::usage(format!("--secret id={}: the environment has no variable {name}", spec.id));
        config::variable_bytes(name).ok_or_else(missing)
    };
    match &spec.source {
        SecretSource::Variable(name) => variable(name),
        SecretSource::File(path) => read_file(&spec.id, path),
        SecretSource::ById => match config::variable_bytes(&spec.id) {
            Some(bytes) => Ok(bytes),
            None => read_file(&spec.id, Path::new(&spec.id)),
        },
    }
}

fn read_file(id: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(SECRET_LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage(format!("--secret id={id}: cannot read {}: {error}", path.display()))),
    }
}

/// Keys themselves are never read: an agent signs without giving them away.
fn agent(spec: &SshSpec) -> Result<PathBuf, Failure> {
    let Some(path) = spec.path.clone().or_else(config::agent_socket) else {
        return Err(Failure::usage(format!(
            "--ssh {}: SSH_AUTH_SOCK is not set: start an agent with `eval $(ssh-agent)`, and add keys with ssh-add",
            spec.id
        )));
    };
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::path::absolute(&path).map_err(Failure::Output),
        Ok(_) => Err(Failure::usage(format!(
            "--ssh {}: {} is no socket: an agent is needed. Start one with `eval $(ssh-agent)`, add the key with \
             `ssh-add {}`, and write `--ssh {}`",
            spec.id,
            path.display(),
            path.display(),
            spec.id
        ))),
        Err(error) => Err(Failure::usage(format!("--ssh {}: cannot use {}: {error}", spec.id, path.display()))),
    }
}
