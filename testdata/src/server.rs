//! An HTTP server on loopback that answers as a test wants it to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the server says.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    slow: Option<Duration>,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.into(), cut: None, slow: None }
    }

    /// A status without a body.
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::ok("") }
    }

    /// 206 with a body.
    pub fn partial(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 206, ..Reply::ok(body) }
    }

    /// With a header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The connection breaks after so many bytes of the body.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Reply {
        self.cut = Some(after);
        self
    }

    /// The body comes byte by byte, with such a pause after each.
    #[must_use]
    pub fn slow(mut self, pause: Duration) -> Reply {
        self.slow = Some(pause);
        self
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// With another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// How much of a request's body is taken before the connection breaks, seen from its head.
type Cuts = dyn Fn(&Asked) -> Option<usize> + Send + Sync;

/// The server. Its thread lives as long as the test's process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts one that answers with `handler`.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_cutting(handler, |_| None)
    }

    /// The same; where `cuts` says so, only a part of the body is read, the handler sees that part, and nobody hears
    /// its answer.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub fn start_cutting(
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        cuts: impl Fn(&Asked) -> Option<usize> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("an address").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (handler, cuts): (Arc<Handler>, Arc<Cuts>) = (Arc::new(handler), Arc::new(cuts));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, cuts, log) = (Arc::clone(&handler), Arc::clone(&cuts), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*handler, &*cuts, &log));
            }
        });
        Server { port, asked }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was asked so far; the list begins anew.
    ///
    /// # Panics
    /// When a handler panicked.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().expect("no handler panicked"))
    }
}

fn serve(stream: TcpStream, handler: &Handler, cuts: &Cuts, log: &Mutex<Vec<Asked>>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some((asked, whole)) = read(&mut reader, cuts) {
        log.lock().expect("no handler panicked").push(asked.clone());
        let reply = handler(&asked);
        if !whole {
            return;
        }
        let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if reply.status != 304 {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        head.push_str("\r\n");
        if asked.method == "HEAD" {
            if writer.write_all(head.as_bytes()).is_err() {
                return;
            }
            continue;
        }
        if let Some(pause) = reply.slow {
            let sent = writer.write_all(head.as_bytes());
            let dripped = reply.body.iter().try_for_each(|byte| {
                std::thread::sleep(pause);
                writer.write_all(&[*byte])
            });
            if sent.and(dripped).is_err() {
                return;
            }
            continue;
        }
        let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
        let sent = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body));
        if sent.is_err() || reply.cut.is_some() {
            return;
        }
    }
}

/// A request, and whether all of its body came.
fn read(reader: &mut BufReader<TcpStream>, cuts: &Cuts) -> Option<(Asked, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut asked = Asked { method, path, headers, body: Vec::new() };
    let cut = cuts(&asked);
    asked.body.resize(cut.unwrap_or(length).min(length), 0);
    reader.read_exact(&mut asked.body).ok()?;
    Some((asked, cut.is_none()))
}
