//! Docker's credential helpers: programs that keep passwords, `docker-credential-NAME get|store|erase`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use registry::Credential;
use serde::{Deserialize, Serialize};

use crate::SearchPath;
use crate::said::Said;

/// Longest that a helper may take: it may ask its user something.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most that a helper may say.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How often a helper is looked after.
const SLICE: Duration = Duration::from_millis(5);
/// The user of an identity token.
const TOKEN_USER: &str = "<token>";

/// What a helper keeps.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Stored {
    #[serde(rename = "ServerURL", default)]
    pub(crate) server_url: String,
    pub(crate) username: String,
    pub(crate) secret: String,
}

impl Stored {
    pub(crate) fn credential(self) -> Credential {
        match self.username.as_str() {
            TOKEN_USER => Credential::Identity(self.secret),
            _ => Credential::Password { user: self.username, password: self.secret },
        }
    }
}

/// What a helper knows of a registry.
pub(crate) fn get(programs: &SearchPath, name: &str, key: &str) -> Result<Option<Stored>, String> {
    let (worked, output) = ask(programs, name, "get", key.as_bytes())?;
    if worked {
        return serde_json::from_slice(&output)
            .map(Some)
            .map_err(|_| format!("the credential helper {name} gives no document that can be read"));
    }
    let said = String::from_utf8_lossy(&output);
    // The words of docker's own library for them.
    if said.contains("credentials not found") {
        return Ok(None);
    }
    Err(format!("the credential helper {name} failed: {}", said.trim()))
}

/// Gives a credential to a helper.
pub(crate) fn store(programs: &SearchPath, name: &str, stored: &Stored) -> Result<(), String> {
    let bytes = serde_json::to_vec(stored).map_err(|error| error.to_string())?;
    done(name, ask(programs, name, "store", &bytes)?)
}

/// Takes a credential away from a helper; one that it does not have is as good as gone.
pub(crate) fn erase(programs: &SearchPath, name: &str, key: &str) -> Result<(), String> {
    let (worked, output) = ask(programs, name, "erase", key.as_bytes())?;
    let gone = String::from_utf8_lossy(&output).contains("credentials not found");
    done(name, (worked || gone, output))
}

fn done(name: &str, (worked, output): (bool, Vec<u8>)) -> Result<(), String> {
    match worked {
        true => Ok(()),
        false => Err(format!("the credential helper {name} failed: {}", String::from_utf8_lossy(&output).trim())),
    }
}

fn ask(programs: &SearchPath, name: &str, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>), String> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(format!("`{name}` is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let path = programs.find(&program).ok_or_else(|| format!("the credential helper {program} is not on PATH"))?;
    let cannot = |error: std::io::Error| format!("the credential helper {program} cannot be run: {error}");
    let mut child = Command::new(path)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let output = child.stdout.take().map(|pipe| Said::listen(pipe, OUTPUT_LIMIT));
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not listen may still answer.
        let _ = pipe.write_all(input);
    }
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok((status.success(), output.map(Said::all).unwrap_or_default()));
        }
        if begun.elapsed() > PATIENCE {
            // It is ours, and nobody waits for it any more.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!(
                "the credential helper {program} did not answer within {} seconds",
                PATIENCE.as_secs()
            ));
        }
        std::thread::sleep(SLICE);
    }
}
