//! Without root: networks between containers, a way out by pasta or slirp4netns, and published ports.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use testdata::{Granted, Need, Ran, User, skipped, until};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");
const NEEDS: [Need; 7] = [
    Need::Root,
    Need::Program("useradd"),
    Need::Program("newuidmap"),
    Need::Program("setpriv"),
    Need::Program("pasta"),
    Need::Program("slirp4netns"),
    Need::OpenDevice("/dev/net/tun"),
];
const IDS: [&str; 2] = ["newuidmap", "newgidmap"];

fn user() -> User {
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user
}

/// Says `text` to whoever comes to port 80 of a container.
fn serve(user: &User, flags: &[&str], text: &str) -> Ran {
    let script = format!("while :; do echo {text} | nc -l -p 80; done");
    user.run([&["run", "-d", "--init"], flags, &["base", "sh", "-c", &script]].concat()).ok()
}

/// What is said at a port of this machine.
fn said(address: impl Into<IpAddr>, port: u16) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(SocketAddr::new(address.into(), port)) {
        // One that reached nobody yet is closed without a word, or hangs where nobody takes it.
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.read_to_string(&mut text);
    }
    text
}

#[test]
fn a_users_containers_find_each_other_by_name_and_others_do_not() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user();
    user.run(["network", "create", "inner"]).ok();
    user.run(["network", "create", "other"]).ok();
    serve(&user, &["--name", "web", "--network", "inner", "--network-alias", "www", "-p", "80"], "from-web");
    for name in ["web", "www", "web.inner"] {
        let heard = || user.run(["run", "--rm", "--network", "inner", "base", "nc", "-w", "5", name, "80"]).stdout;
        until("the server is there", || heard() == "from-web\n");
    }
    let address = user.run(["exec", "web", "sh", "-c", "ip -o -4 addr show eth0"]).ok().stdout;
    let address = address.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    let inspected = user.run(["network", "inspect", "inner"]).ok().stdout;
    assert!(inspected.contains(&format!("{address}/")), "{inspected}");
    // Another network knows neither its name nor its way.
    let foreign = user.run(["run", "--rm", "--network", "other", "base", "nslookup", "web"]);
    assert_ne!(foreign.code, 0, "{foreign:?}");
    let foreign = user.run(["run", "--rm", "--network", "other", "base", "nc", "-w", "1", &address, "80"]);
    assert_eq!(foreign.stdout, "");
    // A container on both hears both, though one of them was there before.
    let both = ["run", "--rm", "--network", "other", "--network", "inner", "base", "nc", "-w", "5", "web", "80"];
    until("it is heard from both", || user.run(both).stdout == "from-web\n");
    // What is published follows a container from network to network.
    let port = user.run(["port", "web", "80"]).ok().stdout.trim().rsplit(':').next().unwrap().parse().unwrap();
    until("the port leads to it", || said(Ipv4Addr::LOCALHOST, port) == "from-web\n");
    user.run(["network", "connect", "other", "web"]).ok();
    user.run(["network", "rm", "inner"]).fails(1, "web");
    user.run(["network", "disconnect", "inner", "web"]).ok();
    until("the port still leads to it", || said(Ipv4Addr::LOCALHOST, port) == "from-web\n");
    let moved = ["run", "--rm", "--network", "other", "base", "nc", "-w", "5", "web", "80"];
    until("it is heard on the other network", || user.run(moved).stdout == "from-web\n");
    user.run(["rm", "-f", "web"]).ok();
    user.run(["network", "rm", "inner", "other"]).ok();
}

#[test]
fn a_way_out_is_by_pasta_or_by_slirp4netns_and_ends_with_the_last_container() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user();
    // Any address of this machine but loopback, which is nobody's way out.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("this machine has a way out");
    let here = socket.local_addr().unwrap().ip();
    let server = TcpListener::bind((here, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\noutside\n");
        }
    });
    let page = format!("http://{here}:{port}/");
    let running = |program: &str| {
        let listed = std::process::Command::new("pgrep").args(["-U", user.name(), "-f", program]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().count()
    };
    for (program, process) in [("pasta", "/pasta --"), ("slirp4netns", "/slirp4netns --")] {
        let programs = [IDS.as_slice(), &[program]].concat();
        let out = ["run", "--rm", "base", "wget", "-qO-", &page];
        let heard = user.run_with(&programs, out).ok();
        assert_eq!((heard.stdout.as_str(), heard.stderr.as_str()), ("outside\n", ""), "by {program}");
        // Two containers share it, and it does not end with the one for which it was started.
        for name in ["first", "second"] {
            user.run_with(&programs, ["run", "-d", "--name", name, "base", "sleep", "100"]).ok();
        }
        assert_eq!(running(process), 1, "{program}");
        user.run_with(&programs, ["rm", "-f", "first"]).ok();
        let still = user.run_with(&programs, ["exec", "second", "wget", "-qO-", &page]).ok();
        assert_eq!(still.stdout, "outside\n", "by {program}");
        // However the last one ends.
        let pid = user.run(["inspect", "-f", "{{.State.Pid}}", "second"]).ok().stdout;
        let monitor = std::process::Command::new("ps").args(["-o", "ppid=", "-p", pid.trim()]).output().unwrap();
        let monitor = String::from_utf8(monitor.stdout).unwrap();
        assert!(std::process::Command::new("kill").args(["-9", monitor.trim()]).status().unwrap().success());
        until("the program has ended", || running(process) == 0);
        user.run(["rm", "-f", "second"]).ok();
    }
    let info = user.run_with(&[IDS.as_slice(), &["slirp4netns"]].concat(), ["info"]).ok().stdout;
    assert!(info.contains("way out by slirp4netns"), "{info}");
}

#[test]
fn without_a_program_there_is_the_machines_network_and_a_note() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user();
    let without = |args: &[&str]| user.run_with(&IDS, args);
    let ran = without(&["run", "--rm", "base", "true"]).ok();
    let why = "neither pasta nor slirp4netns is installed";
    assert!(ran.stderr.contains(&format!("the machine's own network, since {why}")), "{}", ran.stderr);
    // Containers can be reached, and reach each other, all the same.
    without(&["run", "-d", "--name", "web", "-p", "80", "base", "sh", "-c", "echo hello | nc -l -p 80"]).ok();
    let port = without(&["port", "web", "80"]).ok().stdout.trim().rsplit(':').next().unwrap().parse().unwrap();
    until("the server is there", || said(Ipv4Addr::LOCALHOST, port) == "hello\n");
    without(&["rm", "-f", "web"]).ok();
    without(&["network", "create", "inner"]).ok();
    let named = without(&["run", "--rm", "--network", "inner", "--name", "me", "base", "nslookup", "me"]).ok();
    assert!(named.stderr.contains("no way out of this machine"), "{}", named.stderr);
    let info = without(&["info"]).ok().stdout;
    assert!(info.contains("no way out, since neither pasta nor slirp4netns is installed"), "{info}");
}

#[test]
fn a_user_publishes_ports() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user();
    serve(&user, &["--name", "web", "-p", "80", "-p", "0.0.0.0::80"], "published");
    let ports = user.run(["port", "web"]).ok().stdout;
    let numbers: Vec<u16> = ports.lines().map(|line| line.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.len(), 2, "{ports}");
    for port in &numbers {
        until("the server is there", || said(Ipv4Addr::LOCALHOST, *port) == "published\n");
    }
    let first = numbers.first().unwrap().to_string();
    assert!(user.run(["ps"]).ok().stdout.contains(&first));
    // Nobody else can have the port, and it is free when the container has ended.
    let again = [&first, ":80"].concat();
    user.run(["run", "--rm", "-p", &again, "base", "true"]).fails(125, &first);
    user.run(["rm", "-f", "web"]).ok();
    user.run(["run", "--rm", "-p", &again, "base", "true"]).ok();
    user.run(["run", "--rm", "-p", "79:80", "base", "true"]).fails(125, "79");
}
