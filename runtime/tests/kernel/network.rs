//! Networks of containers, in a namespace that stands for the host: bridges, published ports, and that nothing stays.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use dunnage_runtime::Error;
use dunnage_runtime::network::{
    Bridge, BridgeOptions, NetworkNamespace, Port, Prefixed, PublishedPort, ReservedPorts, Survey, Transport,
};
use testdata::{Need, skipped};

const SOON: Duration = Duration::from_secs(60);

fn prefixed(text: &str) -> Prefixed {
    let (address, length) = text.split_once('/').unwrap();
    Prefixed { address: address.parse().unwrap(), length: length.parse().unwrap() }
}

fn options(device: &str, gateways: &[&str]) -> BridgeOptions {
    let gateways = gateways.iter().map(|text| prefixed(text)).collect();
    BridgeOptions { device: device.to_owned(), gateways, mtu: 1400, internal: false, masquerade: true }
}

/// A container without processes, on a bridge.
fn container(bridge: &Bridge, number: u8, addresses: &[&str], gateways: &[&str]) -> NetworkNamespace {
    let namespace = NetworkNamespace::new().unwrap();
    let port = Port {
        number: 0,
        mac: [2, 0x42, 0, 0, 0, number],
        addresses: addresses.iter().map(|text| prefixed(text)).collect(),
        gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
        label: format!("c{number}"),
    };
    bridge.connect(&namespace, &port, true).unwrap();
    namespace
}

/// Runs in a fresh namespace that stands for the host; false where the test has to be skipped.
fn on_a_host(test: impl FnOnce() + Send) {
    if skipped(&[Need::Root]) {
        return;
    }
    let host = NetworkNamespace::new().unwrap();
    host.within(|| {
        test();
        Ok(())
    })
    .unwrap();
}

/// Listens at an address that was somebody's a moment ago. A process that another test starts just now has copies of all
/// descriptors until it is its program: for so long the address is still taken.
fn listen(address: impl ToSocketAddrs) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < SOON => {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => return bound.unwrap(),
        }
    }
}

/// Answers one connection with the address that it came from.
fn serve(namespace: &NetworkNamespace, address: &str) -> std::thread::JoinHandle<()> {
    let listener = namespace.within(|| Ok(listen(address))).unwrap();
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(from.ip().to_string().as_bytes()).unwrap();
    })
}

fn ask(address: &str) -> Result<String, std::io::Error> {
    ask_for(address, SOON)
}

/// Nobody is reached there. Packets that are dropped are answered by nobody, so that is waited for.
#[track_caller]
fn leads_nowhere(address: &str) {
    ask_for(address, Duration::from_secs(2)).unwrap_err();
}

fn ask_for(address: &str, longest: Duration) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect_timeout(&address.parse::<SocketAddr>().unwrap(), longest)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask_from(namespace: &NetworkNamespace, address: &str) -> Result<String, std::io::Error> {
    namespace.within(|| Ok(ask(address))).unwrap()
}

#[track_caller]
fn leads_nowhere_from(namespace: &NetworkNamespace, address: &str) {
    namespace
        .within(|| {
            leads_nowhere(address);
            Ok(())
        })
        .unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// This thread's devices.
fn devices() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().skip(2).filter_map(|line| Some(line.split(':').next()?.trim().to_owned())).collect()
}

/// Whether this thread's packet filter has any table; the file is there once it has been used.
fn is_filtered() -> bool {
    let output = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
    !output.stdout.is_empty()
}

#[test]
fn runtime_n02_containers_reach_one_another_the_host_and_no_other_network() {
    on_a_host(|| {
        let one = Bridge::new(&options("dn-one", &["10.1.0.1/24"])).unwrap();
        let other = Bridge::new(&options("dn-other", &["10.2.0.1/24"])).unwrap();
        let a = container(&one, 2, &["10.1.0.2/24"], &["10.1.0.1"]);
        let b = container(&one, 3, &["10.1.0.3/24"], &["10.1.0.1"]);
        let c = container(&other, 2, &["10.2.0.2/24"], &["10.2.0.1"]);
        let server = serve(&a, "10.1.0.2:80");
        assert_eq!(ask_from(&b, "10.1.0.2:80").unwrap(), "10.1.0.3");
        server.join().unwrap();
        // The host reaches the container, and the container the host.
        let server = serve(&a, "10.1.0.2:80");
        assert_eq!(ask("10.1.0.2:80").unwrap(), "10.1.0.1");
        server.join().unwrap();
        let listener = listen("10.1.0.1:80");
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"host").unwrap());
        assert_eq!(ask_from(&a, "10.1.0.1:80").unwrap(), "host");
        server.join().unwrap();
        // From another network there is no way, whatever is tried.
        let _server = a.within(|| Ok(listen("10.1.0.2:81"))).unwrap();
        leads_nowhere_from(&c, "10.1.0.2:81");
    });
}

#[test]
fn ipv6_and_internal_networks() {
    on_a_host(|| {
        let bridge = Bridge::new(&options("dn-six", &["10.1.0.1/24", "fd00:1::1/64"])).unwrap();
        let a = container(&bridge, 2, &["10.1.0.2/24", "fd00:1::2/64"], &["10.1.0.1", "fd00:1::1"]);
        let b = container(&bridge, 3, &["10.1.0.3/24", "fd00:1::3/64"], &["10.1.0.1", "fd00:1::1"]);
        let server = serve(&a, "[fd00:1::2]:80");
        assert_eq!(ask_from(&b, "[fd00:1::2]:80").unwrap(), "fd00:1::3");
        server.join().unwrap();
        let inner = Bridge::new(&BridgeOptions { internal: true, ..options("dn-in", &["10.3.0.1/24"]) }).unwrap();
        let c = container(&inner, 2, &["10.3.0.2/24"], &[]);
        let d = container(&inner, 3, &["10.3.0.3/24"], &[]);
        let server = serve(&c, "10.3.0.2:80");
        assert_eq!(ask_from(&d, "10.3.0.2:80").unwrap(), "10.3.0.3");
        server.join().unwrap();
        leads_nowhere_from(&c, "10.1.0.2:80");
        leads_nowhere("10.3.0.2:80");
    });
}

fn published(transport: Transport, address: &str, host_port: u16, container_port: u16, count: u16) -> PublishedPort {
    PublishedPort { transport, address: address.parse().unwrap(), host_port, host_last: None, container_port, count }
}

#[test]
fn runtime_n03_published_ports_lead_to_the_container() {
    on_a_host(|| {
        let bridge = Bridge::new(&options("dn-pub", &["10.1.0.1/24"])).unwrap();
        let a = container(&bridge, 2, &["10.1.0.2/24"], &["10.1.0.1"]);
        let wanted = [
            published(Transport::Tcp, "127.0.0.1", 0, 80, 1),
            published(Transport::Tcp, "127.0.0.1", 9000, 81, 3),
            published(Transport::Tcp, "0.0.0.0", 7000, 7000, 3),
            published(Transport::Udp, "127.0.0.1", 53, 5353, 1),
        ];
        let ports = ReservedPorts::take(&wanted).unwrap();
        let ports = ports.publish("test", &a, &["10.1.0.2".parse().unwrap()]).unwrap();
        let chosen = ports.ports()[0].host_port;
        for (host, inside) in [
            (format!("127.0.0.1:{chosen}"), "10.1.0.2:80"),
            ("127.0.0.1:9002".to_owned(), "10.1.0.2:83"),
            ("127.0.0.1:7001".to_owned(), "10.1.0.2:7001"),
            ("10.1.0.1:7002".to_owned(), "10.1.0.2:7002"),
        ] {
            let server = serve(&a, inside);
            assert_eq!(ask(&host).unwrap(), "10.1.0.1", "{host}");
            server.join().unwrap();
        }
        // Not by another address of the host, where one is given.
        let _server = a.within(|| Ok(listen("10.1.0.2:80"))).unwrap();
        leads_nowhere(&format!("10.1.0.1:{chosen}"));
        // From another network, and back into the own one, by the published port.
        let other = Bridge::new(&options("dn-far", &["10.2.0.1/24"])).unwrap();
        let far = container(&other, 2, &["10.2.0.2/24"], &["10.2.0.1"]);
        for from in [&far, &a] {
            let server = serve(&a, "10.1.0.2:7000");
            ask_from(from, "10.1.0.1:7000").unwrap();
            server.join().unwrap();
        }
        let server = a.within(|| Ok(UdpSocket::bind("10.1.0.2:5353").unwrap())).unwrap();
        server.set_read_timeout(Some(SOON)).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.send_to(b"ping", "127.0.0.1:53").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"pong", from).unwrap();
        client.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..4], b"pong");
    });
}

#[test]
fn what_is_published_at_every_address_is_reached_by_the_loopback_of_ipv6_too() {
    on_a_host(|| {
        let bridge = Bridge::new(&options("dn-all", &["10.1.0.1/24", "fd00:1::1/64"])).unwrap();
        let a = container(&bridge, 2, &["10.1.0.2/24", "fd00:1::2/64"], &["10.1.0.1", "fd00:1::1"]);
        let ports = ReservedPorts::take(&[
            published(Transport::Tcp, "::", 8080, 80, 2),
            published(Transport::Tcp, "::", 9000, 9000, 2),
            published(Transport::Udp, "::", 53, 5353, 1),
        ]);
        let own = ["10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
        let ports = ports.unwrap().publish("all", &a, &own).unwrap();
        // The packet filter leads what has an address that it can be answered at; the other is carried.
        for (host, inside, seen) in [
            ("[::1]:8080", "[fd00:1::2]:80", "fd00:1::2"),
            ("[::1]:8081", "[fd00:1::2]:81", "fd00:1::2"),
            ("[::1]:9001", "[fd00:1::2]:9001", "fd00:1::2"),
            ("[fd00:1::1]:8080", "[fd00:1::2]:80", "fd00:1::1"),
            ("[fd00:1::1]:9001", "[fd00:1::2]:9001", "fd00:1::1"),
        ] {
            let server = serve(&a, inside);
            assert_eq!(ask(host).unwrap(), seen, "{host}");
            server.join().unwrap();
        }
        let server = a.within(|| Ok(UdpSocket::bind("[fd00:1::2]:5353").unwrap())).unwrap();
        for host in ["[::1]:53", "[fd00:1::1]:53"] {
            let client = UdpSocket::bind("[::]:0").unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            client.connect(host).unwrap();
            client.send(b"ping").unwrap();
            let mut buffer = [0; 8];
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"pong", from).unwrap();
            client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..4], b"pong", "{host}");
        }
        drop(ports);
        TcpListener::bind("[::]:8080").unwrap();
    });
}

#[test]
fn what_comes_by_ipv6_is_carried_where_the_container_has_ipv4_alone() {
    on_a_host(|| {
        let bridge = Bridge::new(&options("dn-four", &["10.1.0.1/24"])).unwrap();
        let a = container(&bridge, 2, &["10.1.0.2/24", "10.1.0.3/24"], &["10.1.0.1"]);
        let wanted = [
            published(Transport::Tcp, "::1", 8080, 80, 2),
            published(Transport::Tcp, "127.0.0.1", 8080, 80, 1),
            published(Transport::Udp, "::1", 53, 5353, 1),
        ];
        let ports = ReservedPorts::take(&wanted).unwrap();
        let mut ports = ports.publish("six", &a, &["10.1.0.2".parse().unwrap()]).unwrap();
        let reaches = |inside: &str| {
            let all = [("[::1]:8080", "80"), ("[::1]:8081", "81"), ("127.0.0.1:8080", "80")];
            for (host, port) in all {
                let server = serve(&a, &format!("{inside}:{port}"));
                ask(host).unwrap();
                server.join().unwrap();
            }
            let server = a.within(|| Ok(UdpSocket::bind(format!("{inside}:5353")).unwrap())).unwrap();
            let client = UdpSocket::bind("[::1]:0").unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            client.send_to(b"ping", "[::1]:53").unwrap();
            let mut buffer = [0; 8];
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"pong", from).unwrap();
            client.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..4], b"pong");
        };
        reaches("10.1.0.2");
        ports.redirect("six", &["10.1.0.3".parse().unwrap()]).unwrap();
        reaches("10.1.0.3");
        TcpListener::bind("[::1]:8080").unwrap_err();
        drop(ports);
        TcpListener::bind("[::1]:8080").unwrap();
    });
}

#[test]
fn runtime_n05_a_taken_port_is_told_and_takes_nothing() {
    on_a_host(|| {
        let _holder = TcpListener::bind("127.0.0.1:8080").unwrap();
        let wanted = |first, second| [first, second].map(|port| published(Transport::Tcp, "127.0.0.1", port, 80, 1));
        let error = ReservedPorts::take(&wanted(8081, 8080)).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:8080/tcp") && text.contains(&std::process::id().to_string()), "{text}");
        listen("127.0.0.1:8081");
    });
}

#[test]
fn nothing_stays_when_the_last_holder_ends() {
    if skipped(&[Need::Program("nft")]) {
        return;
    }
    on_a_host(|| {
        let before = devices();
        let bridge = Bridge::new(&options("dn-gone", &["10.1.0.1/24"])).unwrap();
        let a = container(&bridge, 2, &["10.1.0.2/24"], &["10.1.0.1"]);
        assert!(is_filtered() && devices().contains(&"dn-gone".to_owned()));
        let again = Bridge::adopt(&bridge.handle().unwrap()).unwrap();
        drop(bridge);
        let b = container(&again, 3, &["10.1.0.3/24"], &["10.1.0.1"]);
        let server = serve(&a, "10.1.0.2:80");
        assert_eq!(ask_from(&b, "10.1.0.2:80").unwrap(), "10.1.0.3");
        server.join().unwrap();
        again.disconnect("c3").unwrap();
        leads_nowhere_from(&b, "10.1.0.2:80");
        let handle = again.handle().unwrap();
        drop((again, a, b));
        until("the devices are gone", || devices() == before);
        until("the rules are gone", || !is_filtered());
        Bridge::adopt(&handle).unwrap_err();
        // What comes at once after it is in nobody's way.
        for round in 0..5 {
            let bridge = Bridge::new(&options(&format!("dn-{round}"), &["10.1.0.1/24"])).unwrap();
            let a = container(&bridge, 2, &["10.1.0.2/24"], &["10.1.0.1"]);
            let server = serve(&a, "10.1.0.2:80");
            assert_eq!(ask("10.1.0.2:80").unwrap(), "10.1.0.1");
            server.join().unwrap();
        }
    });
}

#[test]
fn the_survey_sees_what_is_taken() {
    on_a_host(|| {
        let before = Survey::take().unwrap();
        assert!(before.is_free(prefixed("10.1.0.0/16"), "dn-") && before.mtu() == 1500);
        let _bridge = Bridge::new(&options("dn-seen", &["10.1.0.1/24"])).unwrap();
        let after = Survey::take().unwrap();
        assert!(!after.is_free(prefixed("10.1.0.0/16"), "other"));
        // What is left of an own device is in nobody's way.
        assert!(after.is_free(prefixed("10.1.0.0/16"), "dn-"));
    });
}

#[test]
fn ports_are_carried_without_a_packet_filter() {
    on_a_host(|| {
        // The container has no way to the host, nor the host one to it.
        let namespace = NetworkNamespace::new().unwrap();
        let (echo, answers) = namespace
            .within(|| Ok((UdpSocket::bind("127.0.0.1:53").unwrap(), TcpListener::bind("127.0.0.1:80").unwrap())))
            .unwrap();
        let wanted = |transport, container_port| PublishedPort {
            transport,
            address: "127.0.0.1".parse().unwrap(),
            host_port: 0,
            host_last: None,
            container_port,
            count: 1,
        };
        let wanted = [wanted(Transport::Udp, 53), wanted(Transport::Tcp, 80)];
        let reserved = ReservedPorts::take(&wanted).unwrap();
        let published = reserved.carry(&namespace, &["127.0.0.1".parse().unwrap()]).unwrap();
        let [udp, tcp] = [0, 1].map(|at| SocketAddr::new(wanted[at].address, published.ports()[at].host_port));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..length], from).unwrap();
            }
        });
        // Each sender gets its own answers.
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (number, client) in (0_u8..).zip(&clients) {
            client.set_read_timeout(Some(SOON)).unwrap();
            client.send_to(&[number], udp).unwrap();
        }
        for (number, client) in (0_u8..).zip(&clients) {
            let mut buffer = [0; 64];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), ([number].as_slice(), udp));
        }
        let server = std::thread::spawn(move || {
            let (mut stream, _) = answers.accept().unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            stream.write_all(asked.to_uppercase().as_bytes()).unwrap();
        });
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"half closed").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HALF CLOSED");
        server.join().unwrap();
        // Held by nobody else, and free when this ends.
        TcpListener::bind(tcp).unwrap_err();
        drop(published);
        listen(tcp);
    });
}
