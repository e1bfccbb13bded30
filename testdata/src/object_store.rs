//! An object store on loopback: moto's, in a process of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::free_port;

/// moto's object store with an empty bucket, `bucket`; it ends with this value.
#[derive(Debug)]
pub struct ObjectStore {
    child: Child,
    port: u16,
}

impl ObjectStore {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start() -> ObjectStore {
        let port = free_port();
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let store = ObjectStore { child: child.expect("moto_server"), port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "moto_server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(store.ask("PUT /bucket").contains("200 OK"));
        store
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A cache below a prefix of it, as `--cache-to` and `--cache-from` are told.
    pub fn cache(&self, prefix: &str) -> String {
        format!(
            "type=s3,bucket=bucket,region=eu-central-1,prefix={prefix},endpoint_url=http://{},access_key_id=key,\
             secret_access_key=hidden",
            self.host()
        )
    }

    /// Asks it for something by a bare request.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a socket");
        write!(stream, "{request} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", self.host()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
