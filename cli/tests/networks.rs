//! Networks as a user has them, on a machine that the test makes: a network namespace with nothing but loopback.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use testdata::{Host, Machine, Need, Ran, skipped, until};

const SOON: Duration = Duration::from_secs(60);

fn machine() -> Option<Machine> {
    Machine::new(env!("CARGO_BIN_EXE_dunnage"))
}

#[test]
fn runtime_n02_containers_find_each_other_by_name_on_their_network_only() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    assert_eq!(machine.run(&["network", "create", "web"]).ok().stdout.trim().len(), 64);
    machine.run(&["network", "create", "--ipv6", "other"]).ok();
    assert_eq!(machine.look(), before, "a network was made before it was used");
    let server = machine.serve("server", &["--network", "web", "--network-alias", "alias"]);
    for name in ["server", "alias", "SERVER", "server.web"] {
        let ran = machine.shell(&["--network", "web"], &format!("timeout 30 wget -q -O - http://{name}/"));
        assert_eq!(ran.ok().stdout, "server\n", "{name}");
    }
    let inspected = machine.run(&["network", "inspect", "web"]).ok().stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let (id, place) = inspected[0]["Containers"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(place["Name"], "server");
    let address = place["IPv4Address"].as_str().unwrap().split('/').next().unwrap();
    machine.shell(&["--network", "web"], &format!("ping -c 1 -W 20 {}", &id[..12])).ok();
    let back = machine.shell(&["--network", "web"], &format!("nslookup {address}")).ok().stdout;
    assert!(back.contains("server.web"), "{back}");
    // Neither by name nor by address.
    let script = format!("ping -c 1 -W 1 server; timeout 1 wget -q -O - http://{address}/ && echo reached; true");
    let far = machine.shell(&["--network", "other"], &script).ok();
    assert!(far.stderr.contains("bad address") && !far.stdout.contains("reached"), "{far:?}");
    let two = machine.shell(
        &["--network", "other", "--network", "web"],
        "timeout 30 wget -q -O - http://server/; ls /sys/class/net",
    );
    assert_eq!(two.ok().stdout.split_whitespace().collect::<Vec<_>>(), ["server", "eth0", "eth1", "lo"]);
    let six = machine.shell(&["--network", "other"], "ip -6 addr show eth0 | grep -c 'inet6 fd'").ok().stdout;
    assert_eq!(six, "1\n");
    machine.run(&["network", "rm", "web"]).fails(1, "server");
    server.stop();
    machine.run(&["network", "rm", "web", "other"]).ok();
    machine.is_as_it_was(&before);
}

#[test]
fn who_is_started_again_at_once_has_its_network_again() {
    let Some(machine) = machine() else { return };
    // Somebody else keeps the network, and with it what the kernel has not yet taken away.
    let server = machine.serve("server", &[]);
    machine.run(&["create", "--name", "again", "base", "true"]).ok();
    for _ in 0..12 {
        let ran = machine.run(&["start", "-a", "again"]).ok();
        assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    }
    machine.run(&["rm", "again"]).ok();
    server.stop();
}

#[test]
fn runtime_n03_a_published_port_is_reached_where_it_was_published() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    let server = machine.serve("server", &["-p", "8080:80", "-p", "0.0.0.0:8081:80"]);
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "server\n");
    assert_eq!(machine.page("127.0.0.1:8081").ok().stdout, "server\n");
    let gateway =
        machine.run(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}}{{end}}", "bridge"]).ok();
    let gateway = gateway.stdout.trim().to_owned();
    assert_eq!(machine.page(&format!("{gateway}:8081")).ok().stdout, "server\n");
    assert_ne!(machine.page(&format!("{gateway}:8080")).code, 0);
    // From a container by the machine's address, too.
    let script = format!("timeout 20 wget -q -O - http://{gateway}:8081/");
    assert_eq!(machine.shell(&["--network", "bridge"], &script).ok().stdout, "server\n");
    server.stop();
    machine.is_as_it_was(&before);
    assert_ne!(machine.page("127.0.0.1:8080").code, 0);
}

#[test]
fn ranges_udp_and_what_the_image_exposes_are_published() {
    let Some(machine) = machine() else { return };
    let script =
        "nc -lp 90 -e echo ninety & until netstat -ltn | grep -q ':90 '; do sleep 0.1; done; echo ready; sleep 600";
    let flags = ["-p", "127.0.0.1:9000-9010:80-90", "-p", "5353:53/udp"];
    let _server = machine.start(&[&flags[..], &["base", "sh", "-c", script]].concat());
    let ask = |script: &str| {
        let ran = machine.inside("timeout").args(["10", "bash", "-c", script]).output().unwrap();
        Ran::from(ran).ok().stdout
    };
    assert_eq!(ask("exec 3<>/dev/tcp/127.0.0.1/9010; head -n 1 <&3"), "ninety\n");
    machine.dunnage.build("FROM base\nEXPOSE 80 53/udp\n");
    let shown = machine.start(&["-P", "--name", "all", "app", "sh", "-c", "echo ready; sleep 60"]);
    let sockets = machine.inside("busybox").args(["netstat", "-ltun"]).output().unwrap();
    let sockets = String::from_utf8(sockets.stdout).unwrap();
    assert_eq!(sockets.matches("127.0.0.1:").count(), 11 + 1 + 2, "{sockets}");
    shown.stop();
}

#[test]
fn runtime_n05_a_taken_port_ends_it_before_it_starts() {
    let Some(machine) = machine() else { return };
    let holder = machine.serve("holder", &["-p", "8080:80"]);
    let (held, leases) = (machine.look(), machine.dunnage.leftovers());
    let ran = machine.run(&["run", "--rm", "-p", "8081:80", "-p", "8080:80", "base", "echo", "started"]);
    assert_eq!(ran.stdout, "");
    ran.fails(125, "port 127.0.0.1:8080/tcp is in use by dunnage");
    assert_eq!(machine.look(), held);
    assert_eq!(machine.dunnage.leftovers(), leases);
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "holder\n");
    // The other port was given back.
    let _other = machine.serve("other", &["-p", "8081:80"]);
    drop(holder);
}

#[test]
fn runtime_n07_names_that_nobody_has_are_told_at_once() {
    let Some(machine) = machine() else { return };
    for (flags, name) in
        [(&[][..], "nosuch"), (&["--dns", "127.0.0.1"], "nosuch"), (&["--dns", "127.0.0.1"], "x.bridge")]
    {
        let begun = Instant::now();
        let ran = machine.shell(flags, &format!("nslookup {name}"));
        assert!(ran.stdout.contains("NXDOMAIN"), "{ran:?}");
        // Who is not answered asks three times, five seconds each.
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    }
}

#[test]
fn runtime_n09_names_and_resolvers_are_in_the_files() {
    let Some(machine) = machine() else { return };
    let flags = [
        "--hostname",
        "own",
        "--add-host",
        "a:1.2.3.4",
        "--add-host",
        "gate:host-gateway",
        "--dns-search",
        "x.org",
        "--dns-option",
        "timeout:1",
    ];
    let text = machine.shell(&flags, "cat /etc/hosts /etc/resolv.conf; ip route").ok().stdout;
    let gateway = text.lines().find_map(|line| line.strip_prefix("default via ")).unwrap();
    let gateway = gateway.split(' ').next().unwrap();
    for line in [
        "1.2.3.4\ta",
        &format!("{gateway}\tgate"),
        "nameserver 127.0.0.11",
        "search x.org",
        "options ndots:0 timeout:1",
    ] {
        assert!(text.lines().any(|known| known == line), "no {line:?} in\n{text}");
    }
    assert!(text.lines().any(|line| line.ends_with("\town")), "{text}");
    let none = [&["--network", "none", "--dns", "9.9.9.9"], &flags[..4]].concat();
    let text = machine.shell(&none, "cat /etc/hosts /etc/resolv.conf").ok().stdout;
    assert!(text.contains("1.2.3.4\ta") && text.contains("nameserver 9.9.9.9"), "{text}");
}

#[test]
fn addresses_are_those_that_were_asked_for() {
    let Some(machine) = machine() else { return };
    let subnet = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "--gateway", "10.77.0.9"];
    machine.run(&[&["network", "create", "--ip-range", "10.77.0.64/28"], &subnet[..], &["own"]].concat()).ok();
    let script = "ip addr show eth0; ip route";
    let text = machine.shell(&["--network", "own"], script).ok().stdout;
    assert!(text.contains("inet 10.77.0.64/24") && text.contains("via 10.77.0.9"), "{text}");
    let flags = ["--network", "own", "--ip", "10.77.0.5", "--ip6", "fd77::5", "--mac-address", "02:00:00:00:00:05"];
    let text = machine.shell(&flags, script).ok().stdout;
    for part in ["inet 10.77.0.5/24", "inet6 fd77::5/64", "link/ether 02:00:00:00:00:05"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let _holder = machine.start(&[&flags[..], &["base", "sh", "-c", "echo ready; sleep 60"]].concat());
    machine.shell(&flags, "true").fails(125, "10.77.0.5 is taken by container");
    machine.shell(&["--network", "own", "--ip", "10.78.0.5"], "true").fails(125, "10.77.0.0/24");
    machine.run(&["network", "create", "--subnet", "10.77.0.128/25", "more"]).fails(2, "`own`");
    machine.run(&["network", "create", "--subnet", "127.0.0.0/16", "more"]).fails(2, "reaches already");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let Some(machine) = machine() else { return };
    machine.run(&["network", "create", "--internal", "data"]).ok();
    let server = machine.serve("server", &["--network", "data"]);
    assert_eq!(machine.shell(&["--network", "data"], "timeout 30 wget -q -O - http://server/").ok().stdout, "server\n");
    let text = machine.shell(&["--network", "data"], "ip route; nslookup www.example.org").stdout;
    assert!(!text.contains("default") && text.contains("NXDOMAIN"), "{text}");
    server.stop();
}

#[test]
fn bad_input_is_one_sentence() {
    let Some(machine) = machine() else { return };
    let run = |flags: &[&str], text: &str| {
        machine.shell(flags, "true").fails(125, text);
    };
    run(&["--network", "nosuch"], "no network `nosuch`");
    run(&["--network", "../x"], "no network `../x`");
    run(&["-p", "99999:80"], "`99999` is no port");
    run(&["-p", "80/sctp"], "tcp and udp are");
    run(&["-p", "80:80", "--network", "none"], "--network none");
    run(&["--network", "none", "--network", "host"], "stands alone");
    run(&["--network", "host", "--ip", "10.0.0.1"], "--network host");
    run(&["--mac-address", "01:00:00:00:00:00"], "no address of one device");
    run(&["--add-host", "a"], "NAME:ADDRESS");
    run(&["--dns", "x"], "x");
    run(&["--ip6", "fd00::1"], "no IPv6 addresses");
    run(&["-p", "1-600:1-600"], "at most 512");
    let network = |args: &[&str], text: &str| {
        let ran = machine.run(&[&["network"], args].concat());
        let code = ran.code;
        assert!(matches!(code, 1 | 2), "{ran:?}");
        ran.fails(code, text);
    };
    network(&["create", "bridge"], "always there");
    network(&["create", "a b"], "invalid network name");
    network(&["create", "--subnet", "10.1.0.1/24", "x"], "10.1.0.0/24");
    network(&["create", "--opt", "x=y", "x"], "`x` is not supported");
    network(&["create", "--gateway", "10.9.9.9", "x"], "none of the network's subnets");
    network(&["create", "--driver", "overlay", "x"], "overlay");
    network(&["rm", "host"], "always there");
    network(&["inspect", "nosuch"], "no network `nosuch`");
    network(&["ls", "--filter", "x"], "filters are");
}

#[test]
fn networks_are_listed_filtered_and_pruned() {
    let Some(machine) = machine() else { return };
    machine.run(&["network", "create", "--label", "k=v", "one"]).ok();
    machine.run(&["network", "create", "two"]).ok();
    machine.run(&["network", "create", "two"]).fails(1, "there already");
    let names = |args: &[&str]| {
        let all = [&["network", "ls", "--format", "{{.Name}} {{.Driver}}"], args].concat();
        machine.run(&all).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["bridge bridge", "host host", "none null", "one bridge", "two bridge"]);
    assert_eq!(names(&["--filter", "label=k=v"]), ["one bridge"]);
    assert_eq!(names(&["--filter", "type=custom", "--filter", "name=tw"]), ["two bridge"]);
    let server = machine.serve("server", &["--network", "two"]);
    assert_eq!(names(&["--filter", "dangling=true"]), ["one bridge"]);
    assert_eq!(machine.run(&["network", "prune", "--force"]).ok().stdout, "Deleted Networks:\none\n\n");
    server.stop();
    assert_eq!(machine.run(&["network", "ls", "-q"]).ok().stdout.lines().count(), 4);
    machine.run(&["network", "rm", "-f", "two", "nosuch"]).ok();
    machine.run(&["network", "create", "three"]).ok();
    let pruned = machine.run(&["system", "prune", "--force"]).ok().stdout;
    assert!(pruned.contains("Deleted Networks:\nthree\n"), "{pruned}");
    let info = machine.run(&["info"]).ok().stdout;
    assert!(info.contains("Networks: bridge, host, none\n"), "{info}");
}

#[test]
fn many_containers_come_and_go_at_once() {
    let Some(machine) = machine() else { return };
    let before = machine.look();
    let children: Vec<Child> = (0..12)
        .map(|_| {
            let args = ["run", "--rm", "base", "sh", "-c", "ip -4 addr show eth0 | grep inet; sleep 0.2"];
            machine.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let ran = Ran::from(child.wait_with_output().unwrap()).ok();
        assert!(ran.stdout.contains("inet 10.") && ran.stderr.is_empty(), "{ran:?}");
    }
    machine.is_as_it_was(&before);
}

#[test]
fn a_port_is_free_again_at_once() {
    let Some(machine) = machine() else { return };
    let server = machine.serve("server", &["-p", "8080:80"]);
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "server\n");
    server.stop();
    // The same port, at once, by another container.
    let server = machine.serve("next", &["-p", "8080:80"]);
    assert_eq!(machine.page("127.0.0.1:8080").ok().stdout, "next\n");
    drop(server);
}

#[test]
fn runtime_n11_the_network_of_another_container() {
    let Some(machine) = machine() else { return };
    machine.run(&["run", "-d", "--name", "own", "base", "sleep", "600"]).ok();
    let inside = machine.run(&["exec", "own", "readlink", "/proc/self/ns/net"]).ok().stdout;
    let joined = machine.shell(&["--network", "container:own"], "readlink /proc/self/ns/net").ok().stdout;
    assert_eq!(joined, inside);
    machine.shell(&["--network", "container:own", "-p", "80:80"], "true").fails(125, "container");
    machine.run(&["rm", "-f", "own"]).ok();
}

#[test]
fn who_shares_a_network_finds_what_its_owner_finds() {
    let Some(machine) = machine() else { return };
    machine.run(&["network", "create", "web"]).ok();
    let server = machine.serve("server", &["--network", "web"]);
    let flags = ["--network", "web", "--add-host", "far:192.0.2.7", "--dns-search", "example.org"];
    machine.run(&[&["run", "-d", "--name", "own", "-h", "owner"][..], &flags, &["base", "sleep", "600"]].concat()).ok();
    let files = "hostname; cat /etc/hosts /etc/resolv.conf";
    let own = machine.run(&["exec", "own", "sh", "-c", files]).ok().stdout;
    assert!(own.contains("owner\n") && own.contains("192.0.2.7\tfar") && own.contains("search example.org"), "{own}");
    let shared = ["--network", "container:own"];
    assert_eq!(machine.shell(&shared, files).ok().stdout, own);
    let page = machine.shell(&shared, "timeout 30 wget -q -O - http://server/").ok().stdout;
    assert_eq!(page, "server\n");
    // By way of a third one too, which has the same network.
    machine.run(&["run", "-d", "--name", "beside", "--network", "container:own", "base", "sleep", "600"]).ok();
    assert_eq!(machine.shell(&["--network", "container:beside"], files).ok().stdout, own);
    for flag in [["--hostname", "x"], ["--dns", "192.0.2.1"], ["--add-host", "x:192.0.2.1"]] {
        machine.shell(&[&shared[..], &flag].concat(), "true").fails(125, "contradicts --network container:own");
    }
    machine.run(&["rm", "-f", "beside", "own"]).ok();
    drop(server);
}

#[test]
fn runtime_n03_port_ps_and_inspect_tell_what_is_published() {
    let Some(machine) = machine() else { return };
    machine
        .run(&["run", "-d", "--name", "own", "-p", "127.0.0.1:0:80", "-p", "0.0.0.0::53/udp", "base", "sleep", "600"])
        .ok();
    let all = machine.run(&["port", "own"]).ok().stdout;
    let one = machine.run(&["port", "own", "80"]).ok().stdout;
    let one = one.trim();
    assert!(one.starts_with("127.0.0.1:") && all.contains(&format!("80/tcp -> {one}\n")), "{all}{one}");
    assert!(all.contains("53/udp -> 0.0.0.0:"), "{all}");
    machine.run(&["port", "own", "81"]).fails(1, "port 81/tcp of container `own` is not published");
    machine.run(&["port", "own", "80-81"]).fails(2, "not one port");
    let listed = machine.run(&["ps", "--format", "{{.Ports}}"]).ok().stdout;
    assert!(listed.contains(&format!("{one}->80/tcp")), "{listed}");
    let inspected = machine.run(&["inspect", "own"]).ok().stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let settings = &inspected[0]["NetworkSettings"];
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostIp"], "127.0.0.1");
    assert!(settings["Networks"]["bridge"]["IPAddress"].as_str().unwrap().starts_with("10."), "{settings}");
    machine.run(&["rm", "-f", "own"]).ok();
}

/// Whether a process is in this network namespace or has a descriptor of it.
fn is_held(namespace: &str) -> bool {
    let leads_there = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target == Path::new(namespace));
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.any(|process| {
        let mut descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        leads_there(&process.join("ns/net")) || descriptors.any(|entry| leads_there(&entry.path()))
    })
}

/// A real server, from beginning to end.
#[test]
fn redis_runs_detached_is_found_restarts_stops_and_leaves_nothing() {
    let Some(machine) = machine() else { return };
    if skipped(&[Need::Program("mmdebstrap")]) {
        return;
    }
    machine.dunnage.run(["bootstrap", "--from", "debian:bookworm", "debian:bookworm"]).ok();
    let install = "apt-get update && apt-get install -y --no-install-recommends redis-server";
    let command = r#"["redis-server", "--protected-mode", "no", "--dir", "/var/lib/redis", "--appendonly", "yes"]"#;
    machine.dunnage.build(&format!("FROM debian:bookworm\nRUN {install}\nEXPOSE 6379\nCMD {command}\n"));
    let (before, host) = (machine.look(), Host::look(&machine.dunnage.root()));
    machine.run(&["network", "create", "data"]).ok();
    machine.run(&["run", "-d", "--name", "redis", "--network", "data", "-p", "6379:6379", "app"]).ok();
    let script = "for i in $(seq 100); do exec 3<>/dev/tcp/127.0.0.1/6379 && break; sleep 0.1; done 2>/dev/null
                  echo PING >&3; head -n 1 <&3";
    let ping = || {
        let ran = machine.inside("timeout").args(["20", "bash", "-c", script]).output().unwrap();
        Ran::from(ran).ok().stdout
    };
    // Until it has read its files it answers that it is loading.
    until("redis answers", || ping() == "+PONG\r\n");
    let client = |words: &[&str]| {
        let all = [&["run", "--rm", "--network", "data", "app", "redis-cli", "-h", "redis"], words].concat();
        machine.run(&all).ok().stdout
    };
    assert_eq!(client(&["set", "key", "value"]), "OK\n");
    machine.run(&["restart", "redis"]).ok();
    // Until it has read its files it answers that it is loading.
    until("redis answers", || ping() == "+PONG\r\n");
    assert_eq!(client(&["get", "key"]), "value\n");
    let namespace = machine.run(&["exec", "redis", "readlink", "/proc/self/ns/net"]).ok().stdout;
    assert!(is_held(namespace.trim()));
    let begun = Instant::now();
    machine.run(&["stop", "--time", "30", "redis"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(30), "it was killed");
    let code = machine.run(&["inspect", "-f", "{{.State.ExitCode}}", "redis"]).ok().stdout;
    assert_eq!(code, "0\n", "it was not asked to end");
    machine.run(&["rm", "redis"]).ok();
    machine.run(&["network", "rm", "data"]).ok();
    machine.is_as_it_was(&before);
    host.expect(&machine.dunnage.root());
    while is_held(namespace.trim()) {
        assert!(begun.elapsed() < 2 * SOON, "{namespace} is left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}
