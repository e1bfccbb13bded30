//! The resolver of a container: what it answers itself, what it asks of others, and what it never asks of them.
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunnage_runtime::network::{Known, Names, NetworkNamespace, RESOLVER, Resolver};
use testdata::{Need, skipped};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

/// Knows `web` and 10.9.0.2; single words are ours.
struct Fixed(Vec<SocketAddr>);

impl Names for Fixed {
    fn addresses(&mut self, name: &str) -> Known<Option<Vec<IpAddr>>> {
        match name {
            "web" => Known::Ours(Some(vec!["10.9.0.2".parse().unwrap(), "10.9.0.3".parse().unwrap()])),
            name if name.contains('.') => Known::Elsewhere,
            _ => Known::Ours(None),
        }
    }

    fn name_of(&mut self, address: IpAddr) -> Known<Option<String>> {
        match address.to_string().as_str() {
            "10.9.0.2" => Known::Ours(Some("web.net".to_owned())),
            text if text.starts_with("10.9.") => Known::Ours(None),
            _ => Known::Elsewhere,
        }
    }

    fn upstreams(&mut self) -> Vec<SocketAddr> {
        self.0.clone()
    }
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Outcome, number of answers, and the last bytes.
fn parts(message: &[u8]) -> (u8, u8, &[u8]) {
    (message[3] & 15, message[7], &message[message.len() - 4..])
}

fn ask(container: &NetworkNamespace, name: &str, kind: u16) -> Vec<u8> {
    let socket = container.within(|| Ok(UdpSocket::bind("127.0.0.1:0").unwrap())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.send_to(&query(7, name, kind), (RESOLVER, 53)).unwrap();
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..2], [0, 7]);
    buffer[..length].to_vec()
}

/// An upstream that says 192.0.2.1 to everything, and keeps what it was asked.
fn upstream() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let list = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            list.lock().unwrap().push(buffer[12..length].to_vec());
            let mut answer = buffer[..length].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
            // What somebody else would say who guessed wrong comes first, and is not believed.
            let mut forged = answer.clone();
            forged[0] ^= 1;
            *forged.last_mut().unwrap() = 66;
            socket.send_to(&forged, client).unwrap();
            socket.send_to(&answer, client).unwrap();
        }
    });
    (address, asked)
}

#[test]
fn runtime_n07_names_are_answered_here_or_asked_of_the_host_s_resolvers() {
    if skipped(&[Need::Root]) {
        return;
    }
    let container = NetworkNamespace::new().unwrap();
    let (address, asked) = upstream();
    // The first upstream is dead, and refuses.
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let resolver = Resolver::start(&container, Box::new(Fixed(vec![dead, address]))).unwrap();
    let answer = ask(&container, "WEB", A);
    assert!(matches!(parts(&answer), (0, 2, [10, 9, 0, 2 | 3])), "{answer:?}");
    assert_eq!(parts(&ask(&container, "web", AAAA)).1, 0);
    assert_eq!(parts(&ask(&container, "nosuch", A)).0, 3);
    assert!(ask(&container, "2.0.9.10.in-addr.arpa", PTR).ends_with(b"\x03web\x03net\x00"));
    assert_eq!(parts(&ask(&container, "9.0.9.10.in-addr.arpa", PTR)).0, 3);
    assert!(asked.lock().unwrap().is_empty(), "an own name was asked upstream");
    assert_eq!(parts(&ask(&container, "www.example.org", A)), (0, 1, &[192, 0, 2, 1][..]));
    assert_eq!(asked.lock().unwrap().len(), 1);
    let mut stream = container.within(|| Ok(TcpStream::connect((RESOLVER, 53)).unwrap())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for _ in 0..2 {
        let message = query(9, "web", A);
        stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&message).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(parts(&answer).1, 2);
    }
    drop(resolver);
    // Its port is free again, as soon as no process that another test starts has copies of its descriptors.
    testdata::until("another resolver may begin", || Resolver::start(&container, Box::new(Fixed(Vec::new()))).is_ok());
}

#[test]
fn runtime_n07_without_an_upstream_there_is_an_answer_at_once() {
    if skipped(&[Need::Root]) {
        return;
    }
    let container = NetworkNamespace::new().unwrap();
    let _resolver = Resolver::start(&container, Box::new(Fixed(Vec::new()))).unwrap();
    let begun = Instant::now();
    assert_eq!(parts(&ask(&container, "www.example.org", A)).0, 3);
    // The time that an upstream would get, many times over: nobody is asked.
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Garbage is not answered, and ends nothing.
    let socket = container.within(|| Ok(UdpSocket::bind("127.0.0.1:0").unwrap())).unwrap();
    for bytes in [&[][..], &[0; 5], &[0xff; 600]] {
        socket.send_to(bytes, (RESOLVER, 53)).unwrap();
    }
    assert_eq!(parts(&ask(&container, "web", A)).1, 2);
}
