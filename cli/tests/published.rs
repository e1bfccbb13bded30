//! Published ports that a range has room for, and such as are carried between IPv6 and IPv4.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{Machine, until};

fn machine() -> Option<Machine> {
    Machine::new(env!("CARGO_BIN_EXE_dunnage"))
}

const SERVER: &str = "mkdir -p /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w";

fn serve(machine: &Machine, name: &str, flags: &[&str]) {
    let all = [&["run", "-d", "--name", name, "--hostname", name], flags, &["base", "sh", "-c", SERVER]].concat();
    machine.run(&all).ok();
}

fn answers(machine: &Machine, address: &str, text: &str) {
    until(&format!("{address} says {text}"), || machine.page(address).stdout == format!("{text}\n"));
}

#[test]
fn of_a_range_one_free_port_is_taken_for_one_of_the_container() {
    let Some(machine) = machine() else { return };
    for name in ["one", "two"] {
        serve(&machine, name, &["-p", "8000-8001:80"]);
    }
    let port = |name: &str| machine.run(&["port", name, "80"]).ok().stdout.trim().to_owned();
    assert_eq!((port("one"), port("two")), ("127.0.0.1:8000".to_owned(), "127.0.0.1:8001".to_owned()));
    for name in ["one", "two"] {
        answers(&machine, &port(name), name);
    }
    let listed = machine.run(&["ps", "--filter", "name=two", "--format", "{{.Ports}}"]).ok().stdout;
    assert_eq!(listed, "127.0.0.1:8001->80/tcp\n");
    let inspected: serde_json::Value = serde_json::from_str(&machine.run(&["inspect", "two"]).ok().stdout).unwrap();
    assert_eq!(inspected[0]["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "8000-8001");
    assert_eq!(inspected[0]["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], "8001");
    let full = ["run", "--rm", "-p", "8000-8001:80", "base", "true"];
    machine.run(&full).fails(125, "all ports from 127.0.0.1:8000 to 8001/tcp are in use");
    // Another protocol has ports of its own, and each start chooses anew.
    machine.run(&["run", "--rm", "-p", "8000-8001:80/udp", "base", "true"]).ok();
    machine.run(&["stop", "-t", "0", "one"]).ok();
    machine.run(&["restart", "-t", "0", "two"]).ok();
    assert_eq!(port("two"), "127.0.0.1:8000");
    answers(&machine, "127.0.0.1:8000", "two");
    machine.run(&["run", "--rm", "-p", "8000-8002:80-81", "base", "true"]).fails(125, "3 and 2 ports");
    machine.run(&["run", "--rm", "-p", "0-5:80", "base", "true"]).fails(125, "numbers from 1 to 65535");
    machine.run(&["rm", "-f", "one", "two"]).ok();
}

#[test]
fn what_comes_by_ipv6_is_carried_to_a_container_without_it() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    serve(&machine, "web", &["-p", "[::1]:8080:80", "-p", "127.0.0.1:8080:80"]);
    answers(&machine, "[::1]:8080", "web");
    answers(&machine, "127.0.0.1:8080", "web");
    let ports = machine.run(&["port", "web"]).ok().stdout;
    assert!(ports.contains("80/tcp -> [::1]:8080\n") && ports.contains("80/tcp -> 127.0.0.1:8080\n"), "{ports}");
    // What leads to it follows it onto another network.
    machine.run(&["network", "create", "other"]).ok();
    machine.run(&["network", "connect", "other", "web"]).ok();
    machine.run(&["network", "disconnect", "bridge", "web"]).ok();
    answers(&machine, "[::1]:8080", "web");
    answers(&machine, "127.0.0.1:8080", "web");
    machine.run(&["run", "--rm", "-p", "[::1]:8080:80", "base", "true"]).fails(125, "port [::1]:8080/tcp is in use");
    machine.run(&["rm", "-f", "web"]).ok();
    machine.run(&["network", "rm", "other"]).ok();
    machine.is_as_it_was(&before);
}

#[test]
fn what_is_published_at_every_address_of_ipv6_answers_at_its_loopback() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    machine.run(&["network", "create", "--ipv6", "six"]).ok();
    let server = SERVER.replace("-p 80", "-p [::]:80");
    let flags = ["run", "-d", "--name", "web", "--hostname", "web", "--network", "six", "-p", "[::]:8080:80"];
    machine.run(&[&flags[..], &["base", "sh", "-c", &server]].concat()).ok();
    let own =
        machine.run(&["network", "inspect", "six", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"]).ok();
    let own = own.stdout.split_whitespace().find(|address| address.contains(':')).unwrap().to_owned();
    answers(&machine, "[::1]:8080", "web");
    answers(&machine, &format!("[{own}]:8080"), "web");
    // By IPv4 it is not published.
    assert_ne!(machine.page("127.0.0.1:8080").code, 0);
    machine.run(&["rm", "-f", "web"]).ok();
    machine.run(&["network", "rm", "six"]).ok();
    machine.is_as_it_was(&before);
}
