//! Who may: users of an `htpasswd` file, and the certificate that they know the server by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cache::Digest;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::reply::{Code, Refused};
use super::{Server, blocking};
use crate::error::{Error, Result};

/// Most bytes of a file of users.
const FILE_LIMIT: u64 = 1 << 20;
/// Passwords that are checked at once: each takes a core for a while, which is the point of their hash.
const CHECKS: usize = 2;
/// Logins that are remembered.
const KNOWN: usize = 1000;
/// The hash that a user who is not there is checked against: it takes as long.
const NOBODY: &str = "$2y$10$abcdefghijklmnopqrstuuW2eqXHPvDPFUbHFCdGDhLpSMxSwMQ6e";

/// The users of a file, read again when it changes.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    state: Mutex<State>,
    checks: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    written: Option<SystemTime>,
    hashes: BTreeMap<String, String>,
    /// Digests of headers that were right.
    known: Vec<Digest>,
}

impl Users {
    pub(super) fn read(path: &Path) -> Result<Users> {
        let users = Users { path: path.to_owned(), state: Mutex::default(), checks: Semaphore::new(CHECKS) };
        users.refresh()?;
        Ok(users)
    }

    fn refresh(&self) -> Result<()> {
        use std::io::Read;
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let written = written.map_err(Error::read(&self.path))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written == Some(written) {
            return Ok(());
        }
        let mut text = String::new();
        let file = std::fs::File::open(&self.path).map_err(Error::read(&self.path))?;
        file.take(FILE_LIMIT).read_to_string(&mut text).map_err(Error::read(&self.path))?;
        let hashes = parse(&text)
            .map_err(|(line, reason)| Error::settings(format!("{}:{line}", self.path.display()), reason))?;
        *state = State { written: Some(written), hashes, known: Vec::new() };
        Ok(())
    }

    /// Whether a header names a user and his password.
    fn check(&self, header: &str) -> bool {
        let seen = Digest::sha256_of(header.as_bytes());
        let pair = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let pair = pair.and_then(|(_, pair)| String::from_utf8(STANDARD.decode(pair.trim()).ok()?).ok());
        let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else { return false };
        let hash = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.known.contains(&seen) {
                return true;
            }
            state.hashes.get(user).cloned()
        };
        let right = bcrypt::verify(password, hash.as_deref().unwrap_or(NOBODY)).unwrap_or(false) && hash.is_some();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The file may have changed meanwhile.
        if right && state.hashes.get(user) == hash.as_ref() {
            state.known.truncate(KNOWN - 1);
            state.known.insert(0, seen);
        }
        right
    }

    fn is_known(&self, header: &str) -> bool {
        let seen = Digest::sha256_of(header.as_bytes());
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&seen)
    }
}

/// Users and hashes, or the line that is wrong.
fn parse(text: &str) -> std::result::Result<BTreeMap<String, String>, (usize, String)> {
    let mut users = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((user, hash)) = line.split_once(':') else {
            return Err((number, "a line has to be USER:HASH, as `htpasswd -B` writes it".to_owned()));
        };
        if !["$2y$", "$2a$", "$2b$"].iter().any(|kind| hash.starts_with(kind)) {
            return Err((number, format!("the password of {user} is not hashed by bcrypt; use `htpasswd -B`")));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    if users.is_empty() {
        return Err((1, "there is no user in it".to_owned()));
    }
    Ok(users)
}

/// Lets a request in, or says that it has to say whose it is.
pub(super) async fn admit(server: &Arc<Server>, headers: &HeaderMap) -> std::result::Result<(), Refused> {
    let Some(users) = &server.users else { return Ok(()) };
    let refused = || {
        Refused::new(401, Code::Unauthorized, "a user and a password are needed")
            .with("www-authenticate", "Basic realm=\"dunnage\", charset=\"UTF-8\"")
            .with("docker-distribution-api-version", "registry/2.0")
    };
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let shared = Arc::clone(server);
    let read = blocking(move || {
        // A file that is being replaced goes on as it was.
        if let Some(Err(error)) = shared.users.as_ref().map(Users::refresh) {
            shared.note(error.to_string());
        }
        Ok(())
    });
    read.await?;
    if users.is_known(header) {
        return Ok(());
    }
    let _check = users.checks.acquire().await.map_err(|_| Refused::defect())?;
    let (shared, header) = (Arc::clone(server), header.to_owned());
    match blocking(move || Ok(shared.users.as_ref().is_some_and(|users| users.check(&header)))).await? {
        true => Ok(()),
        false => Err(refused()),
    }
}

/// TLS with a certificate and its key.
pub(super) fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain = crate::http::certificates(certificate)?;
    let bytes = std::fs::read(key).map_err(Error::read(key))?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| Error::settings(key.display(), error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Network(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| Error::settings(certificate.display(), error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_from_lines_of_htpasswd() {
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        let users = parse(&format!("# who may\n\nme:{hash}\n")).unwrap();
        assert_eq!(users.get("me"), Some(&hash));
        assert_eq!(parse("me:$apr1$x$y\n").unwrap_err().0, 1);
        assert_eq!(parse(&format!("me:{hash}\nyou\n")).unwrap_err().0, 2);
        assert!(parse("\n").is_err());
    }

    #[test]
    fn a_header_is_right_for_its_user_and_as_long_as_the_file_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        let write = |password: &str| std::fs::write(&path, format!("me:{}\n", bcrypt::hash(password, 4).unwrap()));
        write("open sesame").unwrap();
        let users = Users::read(&path).unwrap();
        let header = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(users.check(&header("me:open sesame")) && users.is_known(&header("me:open sesame")));
        for wrong in ["me:open", "you:open sesame", "me:", ":", "me"] {
            assert!(!users.check(&header(wrong)) && !users.is_known(&header(wrong)), "{wrong}");
        }
        assert!(!users.check("Bearer x") && !users.check("") && !users.check("Basic %"));
        // What nobody has is hashed as well: its time tells nothing.
        assert!(bcrypt::verify("x", NOBODY).is_ok());
        write("other").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        users.refresh().unwrap();
        assert!(!users.is_known(&header("me:open sesame")) && !users.check(&header("me:open sesame")));
    }
}
