//! Flags of networks that scripts of docker have: addresses of the link, networks that are attachable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{Machine, until};

fn machine() -> Option<Machine> {
    Machine::new(env!("CARGO_BIN_EXE_dunnage"))
}

#[test]
fn a_container_has_addresses_of_the_link_besides_its_own() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    machine.run(&["network", "create", "--attachable", "--ipv6", "web"]).ok();
    let attachable = |name: &str| machine.run(&["network", "inspect", "-f", "{{.Attachable}}", name]).ok().stdout;
    assert_eq!(attachable("web"), "true\n");
    let serve = ["run", "-d", "--name", "web", "--network", "web", "--link-local-ip", "169.254.34.68"];
    let serve = [&serve[..], &["--link-local-ip", "fe80::34:68", "-p", "8080:80", "-p", "[::1]:8080:80"]].concat();
    let script = "mkdir /w; echo page > /w/index.html; httpd -p 80 -h /w; ip addr show eth0; exec sleep 600";
    machine.run(&[&serve[..], &["base", "sh", "-c", script]].concat()).ok();
    until("it has told", || machine.run(&["logs", "web"]).stdout.contains("fe80::34:68"));
    let told = machine.run(&["logs", "web"]).ok().stdout;
    for address in ["inet 169.254.34.68/16", "inet6 fe80::34:68/64", "inet 10."] {
        assert!(told.contains(address), "no {address} in {told}");
    }
    // Another one on the link reaches it by each of them, and by its name at the usual ones alone.
    let script = "for host in 169.254.34.68 web; do timeout 5 wget -q -O - http://$host/; done; \
        ping -6 -c 1 -W 5 fe80::34:68%eth0 > /dev/null && echo six; nslookup web";
    let other = ["--network", "name=web,link-local-ip=169.254.34.69"];
    let told = machine.shell(&other, script).ok().stdout;
    assert!(told.starts_with("page\npage\nsix\n") && !told.contains("169.254.34"), "{told}");
    // What is published leads to the usual ones.
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(machine.page(address).ok().stdout, "page\n", "{address}");
    }
    machine.run(&["rm", "-f", "web"]).ok();
    machine.run(&["network", "create", "plain"]).ok();
    assert_eq!(attachable("plain"), "false\n");
    machine.run(&["network", "rm", "web", "plain"]).ok();
    for (flags, word) in [
        (&["--link-local-ip", "10.0.0.1"][..], "169.254.0.0/16"),
        (&["--link-local-ip", "x"], "fe80::/10"),
        (&["--link-local-ip", "169.254.1.1", "--network", "none"], "--link-local-ip"),
    ] {
        machine.shell(flags, "true").fails(125, word);
    }
    machine.is_as_it_was(&before);
}

#[test]
fn a_running_container_gets_one_with_another_network() {
    let Some(machine) = machine() else { return };
    machine.run(&["network", "create", "other"]).ok();
    machine.run(&["run", "-d", "--name", "own", "base", "sleep", "600"]).ok();
    machine.run(&["network", "connect", "--link-local-ip", "169.254.7.7", "other", "own"]).ok();
    let told = machine.run(&["exec", "own", "ip", "addr", "show", "eth1"]).ok().stdout;
    assert!(told.contains("inet 169.254.7.7/16"), "{told}");
    machine.run(&["restart", "-t", "0", "own"]).ok();
    let told = machine.run(&["exec", "own", "ip", "addr", "show", "eth1"]).ok().stdout;
    assert!(told.contains("inet 169.254.7.7/16"), "{told}");
    machine.run(&["network", "connect", "--link-local-ip", "1.2.3.4", "other", "own"]).fails(2, "169.254.0.0/16");
    machine.run(&["rm", "-f", "own"]).ok();
}
