//! `network connect` and `disconnect`, of containers that run and of those that do not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{Machine, until};

fn machine() -> Option<Machine> {
    Machine::new(env!("CARGO_BIN_EXE_dunnage"))
}

/// A web server that runs on its own.
fn serve(machine: &Machine, name: &str, flags: &[&str]) {
    let script = format!("mkdir -p /w; echo {name} > /w/index.html; httpd -p 80 -h /w; echo ready; exec sleep 600");
    machine.run(&[&["run", "-d", "--name", name], flags, &["base", "sh", "-c", &script]].concat()).ok();
    until("it serves", || machine.run(&["logs", name]).stdout.contains("ready"));
}

fn fetch(machine: &Machine, from: &str, name: &str) -> String {
    let script = format!("timeout 30 wget -q -O - http://{name}/ 2>/dev/null");
    machine.run(&["exec", from, "sh", "-c", &script]).stdout
}

#[test]
fn a_running_container_comes_onto_a_network_and_leaves_it() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    for network in ["front", "back"] {
        machine.run(&["network", "create", network]).ok();
    }
    machine.run(&["network", "create", "--subnet", "10.77.0.0/24", "fixed"]).ok();
    serve(&machine, "server", &["--network", "back"]);
    serve(&machine, "client", &["--network", "front", "-p", "8080:80"]);
    assert_eq!(fetch(&machine, "client", "server"), "");

    machine.run(&["network", "connect", "--alias", "shop", "front", "server"]).ok();
    for name in ["server", "shop", "server.front"] {
        assert_eq!(fetch(&machine, "client", name), "server\n", "{name}");
    }
    assert_eq!(fetch(&machine, "server", "client"), "client\n");
    assert_eq!(fetch(&machine, "client", "server.back"), "");
    machine.run(&["network", "connect", "--ip", "10.77.0.9", "fixed", "server"]).ok();
    let devices =
        machine.run(&["exec", "server", "sh", "-c", "ls /sys/class/net | tr '\\n' ' '; ip -4 addr show eth2"]);
    let devices = devices.ok().stdout;
    assert!(devices.starts_with("eth0 eth1 eth2 lo ") && devices.contains("10.77.0.9/24"), "{devices}");
    let inspected: serde_json::Value = serde_json::from_str(&machine.run(&["inspect", "server"]).ok().stdout).unwrap();
    let networks = inspected[0]["NetworkSettings"]["Networks"].as_object().unwrap().clone();
    assert_eq!(networks.keys().collect::<Vec<_>>(), ["back", "fixed", "front"]);
    assert_eq!(networks["fixed"]["IPAddress"], "10.77.0.9");
    machine.run(&["network", "connect", "front", "server"]).fails(1, "on network `front` already");
    machine
        .run(&["network", "connect", "--ip", "10.77.0.9", "fixed", "client"])
        .fails(1, "10.77.0.9 is taken by container `server`");
    machine.run(&["network", "connect", "--ip", "10.78.0.9", "fixed", "client"]).fails(1, "no address for a container");
    assert_eq!(machine.run(&["exec", "client", "ls", "/sys/class/net"]).ok().stdout, "eth0\nlo\n");

    // The names go with the network, and the next network is the way out.
    machine.run(&["network", "disconnect", "front", "server"]).ok();
    assert_eq!(fetch(&machine, "client", "shop"), "");
    machine.run(&["network", "disconnect", "front", "server"]).fails(1, "is not on network `front`");
    machine.run(&["network", "disconnect", "-f", "front", "server"]).ok();
    machine.run(&["network", "disconnect", "back", "server"]).ok();
    let route = machine.run(&["exec", "server", "ip", "route"]).ok().stdout;
    assert!(route.contains("default via 10.77.0.1"), "{route}");

    // Published ports lead to where the container is.
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "client\n");
    machine.run(&["network", "connect", "fixed", "client"]).ok();
    machine.run(&["network", "disconnect", "front", "client"]).ok();
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "client\n");
    machine.run(&["network", "disconnect", "fixed", "client"]).ok();
    assert_ne!(machine.page("127.0.0.1:8080").code, 0);
    machine.run(&["network", "connect", "back", "client"]).ok();
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "client\n");

    // It stays so over a restart.
    machine.run(&["restart", "-t", "0", "client"]).ok();
    until("it serves again", || machine.page("127.0.0.1:8080").stdout == "client\n");
    assert_eq!(machine.run(&["network", "inspect", "-f", "{{len .Containers}}", "back"]).ok().stdout, "1\n");
    machine.run(&["rm", "-f", "server", "client"]).ok();
    machine.run(&["network", "rm", "front", "back", "fixed"]).ok();
    machine.is_as_it_was(&before);
}

#[test]
fn a_container_that_does_not_run_has_its_networks_at_the_next_start() {
    let Some(machine) = machine() else { return };
    machine.run(&["network", "create", "--subnet", "10.77.0.0/24", "web"]).ok();
    serve(&machine, "server", &["--network", "web"]);
    let script = "timeout 30 wget -q -O - http://server/; ls /sys/class/net | tr '\\n' ' '";
    machine.run(&["create", "--name", "later", "base", "sh", "-c", script]).ok();
    machine.run(&["network", "connect", "--ip", "10.77.0.7", "--alias", "it", "web", "later"]).ok();
    machine.run(&["network", "disconnect", "bridge", "later"]).ok();
    assert_eq!(machine.run(&["start", "-a", "later"]).ok().stdout, "server\neth0 lo ");
    machine.run(&["network", "disconnect", "web", "later"]).ok();
    assert_eq!(machine.run(&["start", "-a", "later"]).ok().stdout, "lo ");
    // Docker's way from `none` to a network.
    machine.run(&["create", "--network", "none", "--name", "alone", "base", "sh", "-c", script]).ok();
    machine.run(&["network", "connect", "web", "alone"]).fails(1, "--network none");
    machine.run(&["network", "disconnect", "none", "alone"]).ok();
    machine.run(&["network", "connect", "web", "alone"]).ok();
    assert_eq!(machine.run(&["start", "-a", "alone"]).ok().stdout, "server\neth0 lo ");
    machine.run(&["network", "connect", "nowhere", "later"]).fails(1, "nowhere");
    machine.run(&["network", "connect", "web", "nobody"]).fails(1, "no container `nobody`");
    machine.run(&["network", "connect", "host", "later"]).fails(2, "--network host");
    machine.run(&["run", "-d", "--network", "host", "--name", "host", "base", "sleep", "600"]).ok();
    machine.run(&["network", "connect", "web", "host"]).fails(1, "--network host");
    let held = machine.start(&["--name", "front", "base", "sh", "-c", "echo ready; exec sleep 600"]);
    machine.run(&["network", "connect", "web", "front"]).fails(1, "foreground of `run --rm`");
    held.stop();
}

/// Whoever holds a network last takes it along, however the others came and went.
#[test]
fn a_network_that_was_joined_later_lives_and_dies_with_its_holders() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    machine.run(&["network", "create", "web"]).ok();
    serve(&machine, "one", &["--network", "web"]);
    serve(&machine, "two", &[]);
    machine.run(&["network", "connect", "web", "two"]).ok();
    // The one that made it is gone, and the other holds it.
    machine.run(&["network", "disconnect", "web", "one"]).ok();
    serve(&machine, "three", &["--network", "web"]);
    assert_eq!(fetch(&machine, "three", "two"), "two\n");
    machine.run(&["kill", "one"]).ok();
    assert_eq!(fetch(&machine, "two", "three"), "three\n");
    machine.run(&["kill", "two", "three"]).ok();
    machine.is_as_it_was(&before);
}
