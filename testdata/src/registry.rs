//! Registries on loopback: Debian's own, and one in this process that behaves as a test wants it to.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::archive::sha256;
use crate::{Asked, Reply, Server};

/// How Debian's registry is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// No users, no TLS.
    Plain,
    /// The user `me` with the password `open sesame`.
    Users,
    /// TLS with an authority of its own, [`DebianRegistry::authority`].
    Tls,
}

/// Debian's `docker-registry` with an empty store; it ends with this value.
#[derive(Debug)]
pub struct DebianRegistry {
    directory: TempDir,
    port: u16,
    child: Child,
}

impl DebianRegistry {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(kind: RegistryKind) -> DebianRegistry {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
            path("data").display()
        );
        if kind == RegistryKind::Users {
            let output = Command::new("htpasswd").args(["-Bbn", "me", "open sesame"]).output().expect("htpasswd");
            std::fs::write(path("htpasswd"), output.stdout).expect("a file");
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd").display()));
        }
        config.push_str(&format!("http:\n  addr: 127.0.0.1:{port}\n  secret: test\n"));
        if kind == RegistryKind::Tls {
            certificates(directory.path());
            let (cert, key) = (path("server.crt"), path("server.key"));
            config.push_str(&format!("  tls: {{certificate: {}, key: {}}}\n", cert.display(), key.display()));
        }
        std::fs::write(path("config.yml"), config).expect("a file");
        let log = std::fs::File::create(path("log")).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts");
        let registry = DebianRegistry { directory, port, child };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The digest that a tag has, as the registry itself says.
    ///
    /// # Panics
    /// When it has none.
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        let link = format!("data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        std::fs::read_to_string(self.directory.path().join(link)).expect("a tag of the registry")
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens at, nor will but who asked for it: the kernel gives none of these to those who ask for any,
/// and no other test is given it as long as this process lives.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    let locks = crate::workspace().join("target/test-ports");
    std::fs::create_dir_all(&locks).expect("a directory");
    let begin = (std::process::id() % u32::from(COUNT)) as u16;
    for port in (begin..COUNT).chain(0..begin).map(|at| FIRST + at) {
        let lock = std::fs::File::create(locks.join(port.to_string())).expect("a file");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Held to the end.
            std::mem::forget(lock);
            return port;
        }
    }
    panic!("no port is free");
}

/// An authority, and a certificate of it for this machine: `ca.crt`, `server.crt`, `server.key`.
///
/// # Panics
/// When openssl does not make them.
pub fn certificates(directory: &Path) {
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(directory).output().expect("openssl");
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=authority -days 30",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
    );
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 30 -extfile names",
    );
}

/// What a registry has.
#[derive(Debug, Default)]
pub struct Contents {
    /// Blobs by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Manifests by tag and by digest: type and bytes.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Vec<u8>>,
    next: usize,
    /// Manifests that were taken before their blobs: never, with a client that keeps order.
    pub early: usize,
}

impl Contents {
    /// Puts an image of these layers (plain tar, and how it is stored) under a tag. The digest is its manifest's.
    ///
    /// # Panics
    /// Never: the document is an object.
    pub fn image(&mut self, tag: &str, layers: &[crate::archive::LayerBytes]) -> String {
        let manifest = self.manifest(layers);
        self.tag(tag, manifest.to_string().into_bytes())
    }

    /// The manifest of such an image; its blobs are there, and it is not.
    pub fn manifest(&mut self, layers: &[crate::archive::LayerBytes]) -> Value {
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let ids: Vec<&String> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = serde_json::json!({
            "os": "linux", "architecture": machine, "rootfs": { "type": "layers", "diff_ids": ids }
        });
        let config = config.to_string().into_bytes();
        let mut blob = |kind: &str, bytes: &[u8]| {
            let digest = sha256(bytes);
            self.blobs.insert(digest.clone(), bytes.to_vec());
            let media = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({ "mediaType": media, "digest": digest, "size": bytes.len() })
        };
        let kind = |stored: &[u8]| if stored.starts_with(&[0x1f, 0x8b]) { "layer.v1.tar+gzip" } else { "layer.v1.tar" };
        let descriptors: Vec<Value> = layers.iter().map(|layer| blob(kind(&layer.stored), &layer.stored)).collect();
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("config.v1+json", &config),
            "layers": descriptors,
        })
    }

    /// Puts bytes as the manifest of a tag, and gives their digest.
    pub fn tag(&mut self, tag: &str, bytes: Vec<u8>) -> String {
        let digest = sha256(&bytes);
        let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
        self.manifests.insert(tag.to_owned(), (kind.clone(), bytes.clone()));
        self.manifests.insert(digest.clone(), (kind, bytes));
        digest
    }
}

type Rule = dyn Fn(&Asked, Reply) -> Reply + Send + Sync;

/// A registry in this process. What it would answer goes through a rule, which may answer something else.
#[derive(Debug)]
pub struct FakeRegistry {
    server: Server,
    /// What it has.
    pub contents: Arc<Mutex<Contents>>,
}

impl FakeRegistry {
    /// One that behaves.
    pub fn start() -> FakeRegistry {
        FakeRegistry::ruled(|_, reply| reply)
    }

    /// One whose answers go through `rule`.
    pub fn ruled(rule: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> FakeRegistry {
        FakeRegistry::cutting(rule, |_| None)
    }

    /// One that also breaks connections within requests.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub fn cutting(
        rule: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static,
        cuts: impl Fn(&Asked) -> Option<usize> + Send + Sync + 'static,
    ) -> FakeRegistry {
        let contents: Arc<Mutex<Contents>> = Arc::default();
        let (shared, rule): (_, Box<Rule>) = (Arc::clone(&contents), Box::new(rule));
        let server = Server::start_cutting(
            move |asked| {
                let reply = answer(&mut shared.lock().expect("no handler panicked"), asked);
                rule(asked, reply)
            },
            cuts,
        );
        FakeRegistry { server, contents }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// What was asked so far; the list begins anew.
    pub fn take(&self) -> Vec<Asked> {
        self.server.take()
    }
}

fn answer(contents: &mut Contents, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let last = path.rsplit('/').next().unwrap_or_default();
    match (asked.method.as_str(), path) {
        (_, "/v2/") => Reply::ok("{}"),
        ("POST", path) if path.ends_with("/uploads/") => {
            contents.next += 1;
            contents.uploads.insert(contents.next, Vec::new());
            session(202, path, contents.next, 0)
        }
        (method, path) if path.contains("/uploads/") => upload(contents, asked, method, path, last, query),
        ("GET" | "HEAD", path) if path.contains("/blobs/") => match contents.blobs.get(last) {
            Some(bytes) => ranged(asked, bytes),
            None => unknown("BLOB_UNKNOWN"),
        },
        ("PUT", path) if path.contains("/manifests/") => {
            let kind = asked.headers.get("content-type").cloned().unwrap_or_default();
            if missing(contents, &asked.body) {
                contents.early += 1;
                return Reply::status(400).with_body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#);
            }
            let digest = sha256(&asked.body);
            contents.manifests.insert(last.to_owned(), (kind.clone(), asked.body.clone()));
            contents.manifests.insert(digest.clone(), (kind, asked.body.clone()));
            Reply::status(201).header("Docker-Content-Digest", digest)
        }
        ("GET" | "HEAD", path) if path.contains("/manifests/") => match contents.manifests.get(last) {
            Some((kind, bytes)) => {
                Reply::ok(bytes.clone()).header("Content-Type", kind).header("Docker-Content-Digest", sha256(bytes))
            }
            None => unknown("MANIFEST_UNKNOWN"),
        },
        _ => unknown("NOT_FOUND"),
    }
}

fn upload(contents: &mut Contents, asked: &Asked, method: &str, path: &str, last: &str, query: &str) -> Reply {
    let id: usize = last.parse().unwrap_or(0);
    let Some(bytes) = contents.uploads.get_mut(&id) else { return unknown("BLOB_UPLOAD_UNKNOWN") };
    let base = path.trim_end_matches(last);
    match method {
        "PATCH" | "PUT" => {
            let at = asked.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
            if at.is_some_and(|at: usize| at != bytes.len()) {
                return Reply::status(416).header("Range", format!("0-{}", bytes.len().saturating_sub(1)));
            }
            bytes.extend_from_slice(&asked.body);
            let promised = asked.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if method == "PATCH" || asked.body.len() < promised {
                return session(202, base, id, bytes.len());
            }
            let whole = contents.uploads.remove(&id).unwrap_or_default();
            let digest = sha256(&whole);
            if !query.replace("%3A", ":").contains(&digest) {
                return Reply::status(400).with_body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            contents.blobs.insert(digest.clone(), whole);
            Reply::status(201).header("Docker-Content-Digest", digest)
        }
        _ => session(204, base, id, bytes.len()),
    }
}

fn session(status: u16, base: &str, id: usize, size: usize) -> Reply {
    Reply::status(status)
        .header("Location", format!("{base}{id}"))
        .header("Range", format!("0-{}", size.saturating_sub(1)))
}

fn ranged(asked: &Asked, bytes: &[u8]) -> Reply {
    let range = asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else { return Reply::ok(bytes) };
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
    Reply::partial(&bytes[from.min(to)..to]).header("Content-Range", format!("bytes {from}-{}/{}", to - 1, bytes.len()))
}

fn missing(contents: &Contents, manifest: &[u8]) -> bool {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let named = manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]);
    let mut digests = named.filter_map(|descriptor| descriptor["digest"].as_str());
    digests.any(|digest| !contents.blobs.contains_key(digest))
}

fn unknown(code: &str) -> Reply {
    Reply::status(404).with_body(format!(r#"{{"errors":[{{"code":"{code}","message":"not known"}}]}}"#))
}
