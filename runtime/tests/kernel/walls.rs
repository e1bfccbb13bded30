//! What a sandbox cannot see or do.
use std::fs;

use dunnage_runtime::{CapabilitySet, NetworkMode, Seccomp, UserIds};

use crate::fixture::run;
use crate::image;

fn status(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {text}"));
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn runtime_r14_namespaces_are_not_the_hosts() {
    let image = image!();
    for init in [false, true] {
        let mut sandbox = image.sandbox(["sh", "-c", "for n in /proc/self/ns/*; do readlink $n; done"]);
        sandbox.init = init;
        let text = run(sandbox).unwrap().stdout;
        for name in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            assert!(!text.contains(host.to_str().unwrap()), "{name} is shared");
            assert!(text.contains(&format!("{name}:[")), "{text}");
        }
    }
}

#[test]
fn runtime_r15_the_hosts_network_can_be_asked_for() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "readlink /proc/self/ns/net; cat /etc/resolv.conf"]);
    sandbox.network = NetworkMode::Host;
    let text = run(sandbox).unwrap().stdout;
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let resolvers = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(text, format!("{}\n{resolvers}", host.display()));
}

#[test]
fn runtime_n01_without_a_network_there_is_only_lo_and_it_is_up() {
    let image = image!();
    let text = image.shell("ls /sys/class/net; ifconfig lo").stdout;
    assert!(text.starts_with("lo\n"), "{text}");
    assert!(text.contains("UP LOOPBACK RUNNING") && text.contains("127.0.0.1"), "{text}");
    assert_eq!(image.shell("cat /proc/net/dev | wc -l").stdout, "3\n");
}

#[test]
fn runtime_c01_security_s06_capabilities_are_the_fourteen() {
    let image = image!();
    let text = image.shell("cat /proc/self/status").stdout;
    for key in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&text, key), "00000000a80425fb", "{key}");
    }
    for key in ["CapInh", "CapAmb"] {
        assert_eq!(status(&text, key), "0000000000000000", "{key}");
    }
    assert_eq!(status(&text, "NoNewPrivs"), "0");
}

#[test]
fn runtime_c02_a_smaller_set_is_kept() {
    let image = image!();
    let mut sandbox = image.sandbox(["cat", "/proc/self/status"]);
    sandbox.capabilities = CapabilitySet::DOCKER.adjusted(&["ALL"], &["NET_RAW"]).unwrap();
    let text = run(sandbox).unwrap().stdout;
    assert_eq!(
        (status(&text, "CapEff"), status(&text, "CapBnd")),
        ("0000000000002000".into(), "0000000000002000".into())
    );
}

#[test]
fn security_s06_another_user_has_no_capability_in_hand() {
    let image = image!();
    let mut sandbox = image.sandbox(["cat", "/proc/self/status"]);
    sandbox.user = UserIds { uid: 1000, gid: 1000, groups: Vec::new() };
    let text = run(sandbox).unwrap().stdout;
    for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&text, key), "0000000000000000", "{key}");
    }
    assert_eq!(status(&text, "CapBnd"), "00000000a80425fb");
}

#[test]
fn runtime_c05_privileged_has_all_that_the_host_process_has() {
    let image = image!();
    let mut sandbox = image.sandbox([
        "sh",
        "-c",
        "cat /proc/self/status; ls /dev | wc -l; touch /proc/sys/kernel/hostname && echo writable",
    ]);
    sandbox.privileged = true;
    let outcome = run(sandbox).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(status(&outcome.stdout, "CapEff"), status(&own, "CapPrm"));
    assert_eq!(status(&outcome.stdout, "Seccomp:"), status(&own, "Seccomp:"));
    assert!(outcome.stdout.contains("writable"), "{outcome:?}");
}

#[test]
fn runtime_c06_system_calls_are_filtered_unless_asked() {
    let image = image!();
    let script = "grep ^Seccomp: /proc/self/status; unshare -U true && echo unshared";
    let outcome = image.shell(script);
    assert_eq!(status(&outcome.stdout, "Seccomp:"), "2");
    assert!(!outcome.stdout.contains("unshared") && outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
    let mut sandbox = image.sandbox(["sh", "-c", script]);
    sandbox.seccomp = Seccomp::Unconfined;
    assert_eq!(status(&run(sandbox).unwrap().stdout, "Seccomp:"), "0");
}

#[test]
fn runtime_c09_no_new_privileges_is_set_on_request() {
    let image = image!();
    let mut sandbox = image.sandbox(["cat", "/proc/self/status"]);
    sandbox.no_new_privileges = true;
    assert_eq!(status(&run(sandbox).unwrap().stdout, "NoNewPrivs"), "1");
}

#[test]
fn runtime_m01_masked_paths_are_empty() {
    let image = image!();
    let text = image.shell("for f in kcore keys timer_list interrupts; do [ -e /proc/$f ] && cat /proc/$f | wc -c; done; ls /sys/firmware | wc -l");
    assert!(text.stdout.lines().count() >= 2, "{text:?}");
    assert!(text.stdout.lines().all(|line| line.trim() == "0"), "{text:?}");
    let text = image.shell("touch /sys/firmware/x").stderr;
    assert!(text.contains("Read-only"), "{text}");
}

#[test]
fn runtime_m04_kernel_settings_cannot_be_written() {
    let image = image!();
    for path in ["/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness", "/sys/kernel/uevent_seqnum"] {
        let outcome = image.shell(&format!("echo x > {path}"));
        assert!(outcome.stderr.contains("Read-only"), "{path}: {outcome:?}");
    }
}

#[test]
fn security_s04_an_image_cannot_redirect_masks_and_devices() {
    let image = image!();
    fs::create_dir_all(image.lower("dev")).unwrap();
    std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", image.lower("dev/null")).unwrap();
    let text =
        image.shell("cat /proc/kcore | wc -c; echo x > /proc/sys/kernel/core_pattern; echo x > /dev/null && echo fine");
    assert_eq!(text.stdout, "0\nfine\n");
    assert!(text.stderr.contains("Read-only"), "{text:?}");
}

#[test]
fn an_image_whose_dev_is_a_link_is_refused() {
    let image = image!();
    for name in ["dev", "proc", "sys"] {
        std::os::unix::fs::symlink("/tmp", image.lower(name)).unwrap();
        assert_eq!(run(image.sandbox(["true"])).unwrap_err().exit_code(), 125);
        fs::remove_file(image.lower(name)).unwrap();
    }
}

#[test]
fn device_nodes_can_be_made_but_not_opened() {
    let image = image!();
    let script = "mknod /tmp/a c 1 5 && mknod /dev/b c 1 5 && mknod /dev/shm/c c 1 5; cat /tmp/a; cat /dev/b; cat /dev/shm/c; test -c /dev/zero && echo usual";
    let outcome = image.shell(script);
    assert_eq!(outcome.stderr.matches("Permission denied").count(), 3, "{outcome:?}");
    assert_eq!(outcome.stdout, "usual\n");
}

#[test]
fn the_usual_devices_work() {
    let image = image!();
    let script = "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T %F' /dev/$d; done; ls /dev; readlink /dev/ptmx; readlink /dev/fd; df /dev/shm | wc -l";
    let text = image.shell(script).stdout;
    assert!(text.contains("/dev/null 666 1:3 character special file"), "{text}");
    assert!(text.contains("/dev/tty 666 5:0 character special file"), "{text}");
    for name in ["fd", "full", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"] {
        assert!(text.lines().any(|line| line == name), "{name} in {text}");
    }
    assert!(text.contains("pts/ptmx\n/proc/self/fd\n"), "{text}");
}

#[test]
fn the_host_is_not_in_the_mount_table() {
    let image = image!();
    let text = image.shell("cat /proc/self/mountinfo").stdout;
    assert_eq!(text.lines().filter(|line| line.split_whitespace().nth(4) == Some("/")).count(), 1, "{text}");
    assert!(!text.contains("/dev/vda") && !text.contains(" ext4 "), "{text}");
    assert!(!text.contains("shared:") && !text.contains("master:"), "{text}");
}

#[test]
fn runtime_m13_shared_memory_has_its_size() {
    let image = image!();
    assert!(image.shell("df -k /dev/shm").stdout.contains(" 65536 "));
    let mut sandbox = image.sandbox(["df", "-k", "/dev/shm"]);
    sandbox.shm_size = 1 << 20;
    assert!(run(sandbox).unwrap().stdout.contains(" 1024 "));
}
