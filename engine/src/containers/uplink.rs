//! A way out for containers of users without rights: slirp4netns moves packets between the container's network and sockets
//! of its own, and needs nothing but /dev/net/tun. It ends when its standard input does, so it never outlives this process.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use runtime::network::NetworkNamespace;
use serde_json::json;

use crate::error::{Error, Result};
use crate::networks::{PortSpec, Protocol};

/// How long the program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(2);
/// Its own resolver, which asks those of the host.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The host, as the container sees it.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ANSWER_LIMIT: u64 = 4096;

/// A network namespace with a way out, for as long as this lives.
#[derive(Debug)]
pub(super) struct Uplink {
    namespace: NetworkNamespace,
    program: Child,
    /// A path through a descriptor: a socket's own must be short.
    control: PathBuf,
    _directory: File,
}

impl Uplink {
    /// Starts the program and publishes ports. In `place`, a directory, the program has its socket.
    pub(super) fn start(program: &Path, place: &Path, ports: &[PortSpec], binding: IpAddr) -> Result<Uplink> {
        let failed = |source| Error::file("start", program, source);
        let namespace = NetworkNamespace::new()?;
        let own = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        let target = own(namespace.fd().as_raw_fd());
        let directory = File::open(place).map_err(|source| Error::file("open", place, source))?;
        let control = Path::new(&own(directory.as_raw_fd())).join("uplink");
        let mut child = Command::new(program)
            .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
            .args(["--exit-fd=0", "--ready-fd=1", "--netns-type=path", "--api-socket"])
            .arg(&control)
            .args([target.as_str(), "tap0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let ready = child.stdout.take();
        let uplink = Uplink { namespace, program: child, control, _directory: directory };
        if !ready.is_some_and(is_ready) {
            let why = "it gave no network in time; look whether /dev/net/tun may be opened by this user";
            return Err(Error::Usage(format!("{}: {why}", program.display())));
        }
        for port in ports {
            for at in 0..port.count {
                uplink.publish(port, at, binding)?;
            }
        }
        Ok(uplink)
    }

    pub(super) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    fn publish(&self, port: &PortSpec, at: u16, binding: IpAddr) -> Result<()> {
        let Some(host) = port.host else {
            let container = port.container;
            let why = "without root a port of the host must be named";
            return Err(Error::Usage(format!("--publish {container}: {why}, as in 8080:{container}")));
        };
        let (host, container) = (host.saturating_add(at), port.container.saturating_add(at));
        let address = port.address.unwrap_or(binding);
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let request = json!({"execute": "add_hostfwd", "arguments": {
            "proto": protocol, "host_addr": address.to_string(), "host_port": host, "guest_port": container,
        }});
        let answer = self.ask(&request.to_string()).map_err(|source| Error::file("ask", &self.control, source))?;
        if answer.contains("\"error\"") {
            return Err(Error::Usage(format!(
                "port {host} of {address} cannot be published: it is in use, or below 1024, where only root may listen"
            )));
        }
        Ok(())
    }

    /// The network may be ready a moment before the socket is there.
    fn connect(&self) -> std::io::Result<UnixStream> {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&self.control) {
                Err(error) if error.kind() == ErrorKind::NotFound && begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn ask(&self, request: &str) -> std::io::Result<String> {
        let mut socket = self.connect()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(request.as_bytes())?;
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        BufReader::new(socket.take(ANSWER_LIMIT)).read_line(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        // It has nothing to lose, and a socket that stays does no harm.
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = std::fs::remove_file(&self.control);
    }
}

/// One byte says that the network is there; an end without one that it will never be.
fn is_ready(mut output: impl Read + Send + 'static) -> bool {
    let (tell, told) = mpsc::channel();
    let started = thread::Builder::new().name("uplink".to_owned()).spawn(move || {
        // Nobody listens any more where patience has run out.
        let _ = tell.send(output.read(&mut [0_u8; 1]).is_ok_and(|count| count == 1));
    });
    started.is_ok() && told.recv_timeout(PATIENCE).unwrap_or(false)
}

/// /etc/resolv.conf of a container whose names are asked of the program, or of the given servers.
pub(super) fn resolv_conf(servers: &[IpAddr], rest: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(rest).into_owned();
    if servers.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "nameserver {NAME_SERVER}");
    }
    text.into_bytes()
}
