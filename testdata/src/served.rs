//! `dunnage registry serve` on loopback, and a client that says byte for byte what a test wants it to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::Dunnage;
use crate::archive::sha256;

/// The server; it ends with this value.
#[derive(Debug)]
pub struct Served {
    child: Child,
    port: u16,
    log: PathBuf,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Heard {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The answer must have this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn is(self, status: u16) -> Heard {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    /// The answer must refuse with this status and this code in the document that the specification has for errors.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Heard {
        let heard = self.is(status);
        let error = &heard.json()["errors"][0];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        heard
    }

    /// Where it leads: path and query.
    pub fn location(&self) -> String {
        let location = self.header("location");
        match location.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
            Some((_, path)) => format!("/{path}"),
            None => location.to_owned(),
        }
    }
}

impl Served {
    /// Serves a store, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start(dunnage: &Dunnage, args: &[&str]) -> Served {
        let mut command = dunnage.command(Served::ARGS);
        command.args(args);
        Served::of(command, dunnage.dir(".").join("serve.log"))
    }

    /// What every server is started with.
    pub const ARGS: [&str; 4] = ["registry", "serve", "--addr", "127.0.0.1:0"];

    /// Starts this command, which has [`Served::ARGS`], and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn of(mut command: Command, log: PathBuf) -> Served {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a file");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{line}: {}", std::fs::read_to_string(&log).unwrap_or_default()));
        Served { child, port, log }
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// What it told on standard error so far, and servers of this store before it.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A connection that says nothing yet.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream
    }

    /// Asks on a connection of its own.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Heard {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host());
        let sends = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if sends && !headers.iter().any(|(name, _)| *name == "Transfer-Encoding" || *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("it listens");
        // A server that has seen enough does not take the rest.
        let _ = stream.write_all(body);
        heard(stream)
    }

    /// A question without a body.
    #[track_caller]
    pub fn get(&self, path: &str) -> Heard {
        self.ask("GET", path, &[], b"")
    }

    /// Puts a blob in one request, and gives its digest.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.ask("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[], bytes).is(201);
        digest
    }

    /// Puts a manifest under a tag or digest.
    #[track_caller]
    pub fn manifest(&self, repository: &str, wanted: &str, manifest: &Value) -> Heard {
        let kind = manifest["mediaType"].as_str().unwrap_or_default().to_owned();
        let bytes = manifest.to_string();
        self.ask("PUT", &format!("/v2/{repository}/manifests/{wanted}"), &[("Content-Type", &kind)], bytes.as_bytes())
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When there is no `kill`.
    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
    }

    /// Waits for its end, and gives its exit code.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("a child").code()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads an answer up to the end of its connection.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn heard(mut stream: impl Read) -> Heard {
    let mut bytes = Vec::new();
    // Also a connection that was reset has said something before.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers = pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    Heard { status, headers, body: bytes[end + 4..].to_vec() }
}
