//! Roots and mounts.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use dunnage_runtime::{
    BindSource, Content, Mount, MountPoints, Overlay, OverlayInterface, OverlayOptions, Rootfs, Sandbox, Spares, Stdio,
    mount_point_layer, probe_overlay,
};

use crate::fixture::{Image, finish, run};
use crate::image;

fn bind(image: &Image, target: &str, read_only: bool) -> Mount {
    let source = image.path("source");
    fs::create_dir_all(&source).unwrap();
    Mount::Bind {
        source: BindSource::from(source),
        target: target.into(),
        read_only,
        recursive: true,
        propagation: None,
        mapped: false,
    }
}

#[test]
fn layers_are_stacked_top_first() {
    let image = image!();
    for (name, text) in [("low", "low"), ("top", "top")] {
        fs::create_dir(image.path(name)).unwrap();
        fs::write(image.path(name).join("file"), text).unwrap();
    }
    let lowers = [image.path("top"), image.path("low"), image.path("lower")];
    mount_point_layer(&image.path("points")).unwrap();
    mount_point_layer(&image.path("points")).unwrap();
    let options = OverlayOptions {
        volatile: true,
        mount_points: MountPoints::Shared(image.path("points")),
        ..OverlayOptions::default()
    };
    let rootfs = Rootfs::overlay(&lowers, &image.path("upper"), &image.path("work"), options).unwrap();
    let mut sandbox = Sandbox::new(Arc::new(rootfs), ["cat", "/file"]);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(run(sandbox).unwrap().stdout, "top");
    assert!(image.upper().is_empty(), "{:?}", image.upper());
}

#[test]
fn many_layers_and_long_paths_fit() {
    let image = image!();
    let long = image.path(&"long-name/".repeat(40));
    let mut lowers = vec![image.path("lower")];
    for number in 0..150 {
        let layer = long.join(number.to_string());
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file{number}")), "").unwrap();
        lowers.push(layer);
    }
    let (upper, work) = (long.join("upper"), long.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let rootfs = Rootfs::overlay(&lowers, &upper, &work, OverlayOptions::default()).unwrap();
    let mut sandbox = Sandbox::new(Arc::new(rootfs), ["sh", "-c", "echo /file* | wc -w"]);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(run(sandbox).unwrap().stdout, "150\n");
}

/// Mounts of all kinds are where and as they are elsewhere, whoever it is and however it is connected.
#[test]
fn a_sandbox_in_a_room_that_was_ready_is_like_any_other() {
    let image = image!();
    ["a", "data", "tree"].iter().for_each(|name| fs::create_dir(image.lower(name)).unwrap());
    let spares = Arc::new(Spares::default());
    let stock = Arc::clone(&spares);
    let has_room = || !format!("{spares:?}").contains("rooms: []");
    let script =
        "cut -d' ' -f4-6 /proc/self/mountinfo; pwd; hostname; id; ls -a / /.. /dev; cat /etc/hosts /a/file; ls /tree";
    let outcome = |ready: bool, privileged: bool| {
        let mut sandbox = image.sandbox(["sh", "-c", script]);
        let file = |target: &str| Mount::File {
            content: Content::from(b"file\n".as_slice()),
            target: target.into(),
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let tree = Mount::Tree { rootfs: image.rootfs(), path: "/bin".into(), target: "/tree".into(), read_only: true };
        let tmpfs = Mount::Tmpfs { target: "/a".into(), size: Some(1 << 20), mode: 0o700, executable: false };
        sandbox.mounts = vec![bind(&image, "/data", true), file("/a/file"), tree, tmpfs];
        sandbox.privileged = privileged;
        sandbox.read_only = !privileged;
        sandbox.cwd = "/data".into();
        sandbox.hostname = "room".to_owned();
        if ready {
            sandbox.spares = Some(Arc::clone(&spares));
        }
        run(sandbox).unwrap()
    };
    for privileged in [false, true] {
        let stock = Arc::clone(&stock);
        std::thread::spawn(move || stock.stock_room_and_stay()).join().unwrap();
        assert!(has_room());
        let (ready, usual) = (outcome(true, privileged), outcome(false, privileged));
        assert!(!has_room(), "nobody took it");
        assert_eq!((&ready.stdout, &ready.stderr), (&usual.stdout, &usual.stderr));
        assert!(ready.exit.success() && ready.stdout.contains(" /data ro,"), "{ready:?}");
    }
    // Once it was asked for, another one is made.
    spares.restock();
    assert!(has_room());
}

/// As kernels before 6.5 are told of layers: all in one page, and nothing of it in the host's mount table.
#[test]
fn the_classic_interface_takes_as_many_layers() {
    let image = image!();
    let mut lowers = vec![image.path("lower")];
    for number in 0..498 {
        let layer = image.path(&format!("a-long-name-for-a-layer-{number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file{number}")), "").unwrap();
        fs::write(layer.join("same"), number.to_string()).unwrap();
        lowers.insert(0, layer);
    }
    mount_point_layer(&image.path("points")).unwrap();
    let options = OverlayOptions {
        volatile: true,
        mount_points: MountPoints::Shared(image.path("points")),
        interface: OverlayInterface::Classic,
        users: None,
    };
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let rootfs = Rootfs::overlay(&lowers, &image.path("upper"), &image.path("work"), options).unwrap();
    assert_eq!(table(), before);
    let mut sandbox = Sandbox::new(Arc::new(rootfs), ["sh", "-c", "cat /same; echo /file* | wc -w; rm /same"]);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(run(sandbox).unwrap().stdout, "497498\n");
    assert_eq!(image.upper(), [image.path("upper/same")]);
}

#[test]
fn a_probe_tells_whether_overlay_works() {
    let image = image!();
    let probe = |name: &str| {
        fs::create_dir_all(image.path(name)).unwrap();
        probe_overlay(&image.path(name)).unwrap()
    };
    assert_eq!(probe("probe"), Overlay::Works);
    // On an overlay the kernel stacks no other.
    let rootfs = image.rootfs();
    rustix::fs::mkdirat(rootfs.fd(), "probe", rustix::fs::Mode::RWXU).unwrap();
    let inside =
        std::path::PathBuf::from(format!("/proc/self/fd/{}/probe", std::os::fd::AsRawFd::as_raw_fd(&rootfs.fd())));
    match probe_overlay(&inside).unwrap() {
        Overlay::Missing { why, remedy } => assert!(why.contains("overlay") && remedy.contains("volume"), "{why}"),
        Overlay::Works => panic!("an overlay upon an overlay"),
    }
}

#[test]
fn the_upper_holds_what_the_program_wrote_and_nothing_else() {
    let image = image!();
    image.shell("echo x > /tmp/file; rm /bin/wc; echo nobody > /etc/hosts; cat /etc/resolv.conf");
    let mut names: Vec<_> =
        image.upper().iter().map(|path| path.strip_prefix(image.path("upper")).unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["bin", "bin/wc", "tmp", "tmp/file"].map(Path::new));
}

#[test]
fn one_root_serves_several_sandboxes() {
    let image = image!();
    let rootfs = image.rootfs();
    for number in ["1", "2"] {
        let mut sandbox = Sandbox::new(Arc::clone(&rootfs), ["sh", "-c", "echo x >> /tmp/log; cat /tmp/log | wc -l"]);
        sandbox.stdio = Stdio::Pipes;
        assert_eq!(run(sandbox).unwrap().stdout, format!("{number}\n"));
    }
}

#[test]
fn runtime_m05_a_read_only_root_still_has_writable_devices_and_memory() {
    let image = image!();
    let mut sandbox =
        image.sandbox(["sh", "-c", "touch /x; touch /dev/shm/y && touch /t/z && stat -c %a /t && df -k /t"]);
    sandbox.read_only = true;
    fs::create_dir(image.lower("t")).unwrap();
    sandbox.mounts = vec![Mount::Tmpfs { target: "/t".into(), size: Some(1 << 20), mode: 0o700, executable: false }];
    let outcome = run(sandbox).unwrap();
    assert!(outcome.stderr.contains("Read-only"), "{outcome:?}");
    assert!(outcome.stdout.starts_with("700\n") && outcome.stdout.contains(" 1024 "), "{outcome:?}");
}

#[test]
fn runtime_m06_a_read_only_bind_refuses_writes_also_below() {
    let image = image!();
    let source = image.path("source");
    fs::create_dir_all(source.join("inner")).unwrap();
    rustix::mount::mount("tmpfs", source.join("inner"), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let mut sandbox = image.sandbox(["sh", "-c", "touch /m/a; touch /m/inner/b; ls /m"]);
    sandbox.mounts = vec![bind(&image, "/m", true)];
    let outcome = run(sandbox);
    rustix::mount::unmount(source.join("inner"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let outcome = outcome.unwrap();
    assert_eq!(outcome.stderr.matches("Read-only").count(), 2, "{outcome:?}");
    assert_eq!(outcome.stdout, "inner\n");
}

#[test]
fn writable_binds_reach_the_host_and_files_can_be_bound() {
    let image = image!();
    fs::write(image.path("file"), "content").unwrap();
    let file = Mount::Bind {
        source: image.path("file").into(),
        target: "/deep/er/file".into(),
        read_only: true,
        recursive: false,
        propagation: None,
        mapped: false,
    };
    let mut sandbox = image.sandbox(["sh", "-c", "cat /deep/er/file; echo x > /m/new"]);
    // The inner target is made inside the outer mount, in whatever order they are asked for.
    let inner = Mount::Tmpfs { target: "/m/in/side".into(), size: None, mode: 0o755, executable: true };
    sandbox.mounts = vec![inner, bind(&image, "/m", false), file];
    let container = sandbox.start().unwrap();
    assert_eq!(container.created_mount_points(), ["/m", "/deep", "/deep/er", "/deep/er/file"].map(Path::new));
    assert_eq!(finish(container).unwrap().stdout, "content");
    assert_eq!(fs::read_to_string(image.path("source/new")).unwrap(), "x\n");
    assert!(image.path("source/in/side").is_dir());
}

#[test]
fn security_s13_targets_cannot_lead_out_of_the_root() {
    let image = image!();
    let outside = image.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, image.lower("absolute")).unwrap();
    symlink("../../../../../../..".to_owned() + outside.to_str().unwrap(), image.lower("relative")).unwrap();
    symlink("/proc/sys", image.lower("kernel")).unwrap();
    symlink("/proc/self/root", image.lower("magic")).unwrap();
    for target in ["/absolute/made", "/relative/made", "/kernel", "/magic/made"] {
        let mut sandbox = image.sandbox(["true"]);
        sandbox.mounts = vec![bind(&image, target, false)];
        let error = run(sandbox).unwrap_err();
        assert!(error.to_string().contains(target), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{target}");
    }
}

#[test]
fn runtime_m08_a_missing_source_is_an_error() {
    let image = image!();
    let mut sandbox = image.sandbox(["true"]);
    sandbox.mounts = vec![Mount::Bind {
        source: image.path("nosuch").into(),
        target: "/m".into(),
        read_only: false,
        recursive: true,
        propagation: None,
        mapped: false,
    }];
    let error = run(sandbox).unwrap_err();
    assert!(error.exit_code() == 125 && error.to_string().contains("nosuch"), "{error}");
}

#[test]
fn etc_files_of_the_image_come_back_untouched_and_odd_ones_are_noted() {
    let image = image!();
    fs::write(image.lower("etc/hosts"), "image").unwrap();
    symlink("../run/nosuch/resolv.conf", image.lower("etc/resolv.conf")).unwrap();
    fs::create_dir(image.lower("etc/hostname")).unwrap();
    let container = image.sandbox(["sh", "-c", "cat /etc/hosts; echo more >> /etc/hosts"]).start().unwrap();
    assert_eq!(container.notes().len(), 2, "{:?}", container.notes());
    assert!(container.created_mount_points().is_empty());
    assert!(finish(container).unwrap().stdout.starts_with("127.0.0.1\tlocalhost\n"));
    assert_eq!(fs::read_to_string(image.lower("etc/hosts")).unwrap(), "image");
    assert!(image.upper().is_empty(), "{:?}", image.upper());
}

#[test]
fn a_plain_directory_can_be_the_root() {
    let image = image!();
    let rootfs = Rootfs::directory(image.path("lower")).unwrap();
    let mut sandbox =
        Sandbox::new(Arc::new(rootfs), ["sh", "-c", "echo x > /made; ls /proc/1/comm; test -c /dev/null"]);
    sandbox.stdio = Stdio::Pipes;
    let container = sandbox.start().unwrap();
    let made = container.created_mount_points().to_vec();
    assert_eq!(made, ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(Path::new));
    let outcome = finish(container).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.exit.code), ("/proc/1/comm\n", Some(0)));
    assert!(image.lower("made").exists());
    assert_eq!(fs::metadata(image.lower("etc/hosts")).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_root_can_be_written_by_descriptor_before_the_start() {
    use std::io::Write;
    let image = image!();
    let rootfs = image.rootfs();
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::IN_ROOT;
    let file = rustix::fs::openat2(rootfs.fd(), "/tmp/copied", flags, 0o644.into(), resolve).unwrap();
    fs::File::from(file).write_all(b"copy").unwrap();
    let mut sandbox = Sandbox::new(rootfs, ["cat", "/tmp/copied"]);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(run(sandbox).unwrap().stdout, "copy");
    assert_eq!(image.upper().len(), 2);
}

#[test]
fn bad_targets_are_refused_before_anything_is_made() {
    let image = image!();
    for target in ["/", "relative", "/a/../b", "/proc", "/proc/sys"] {
        let mut sandbox = image.sandbox(["true"]);
        sandbox.mounts = vec![bind(&image, target, false)];
        assert!(sandbox.plan().is_err(), "{target}");
    }
    assert!(image.upper().is_empty());
}

#[test]
fn files_in_memory_have_their_owner_and_mode_and_no_place_on_a_disk() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "stat -c '%a %u:%g' /s/key; cat /s/key; echo x > /s/key"]);
    let content = Content::from(&b"canary"[..]);
    assert!(!format!("{content:?}").contains("canary"));
    sandbox.mounts = vec![
        Mount::Tmpfs { target: "/s".into(), size: None, mode: 0o755, executable: false },
        Mount::File { content, target: "/s/key".into(), mode: 0o400, uid: 7, gid: 8 },
    ];
    let outcome = run(sandbox).unwrap();
    assert_eq!(outcome.stdout, "400 7:8\ncanary");
    assert!(outcome.stderr.contains("Read-only"), "{}", outcome.stderr);
}

#[test]
fn a_part_of_another_root_is_found_inside_that_root() {
    let image = image!();
    let other = image.path("other");
    fs::create_dir_all(other.join("real/in")).unwrap();
    fs::write(other.join("real/in/file"), "inside").unwrap();
    symlink("/real", other.join("link")).unwrap();
    symlink("../../real", other.join("up")).unwrap();
    for (path, shown) in [("/link/in", "/m/file"), ("../../link/in/file", "/m"), ("up/in", "/m/file")] {
        let rootfs = Arc::new(Rootfs::directory(&other).unwrap());
        let mut sandbox = image.sandbox(["sh", "-c", &format!("cat {shown}; echo x > {shown}")]);
        sandbox.mounts = vec![Mount::Tree { rootfs, path: path.into(), target: "/m".into(), read_only: true }];
        let outcome = run(sandbox).unwrap();
        assert_eq!(outcome.stdout, "inside", "{path}");
        assert!(outcome.stderr.contains("Read-only"), "{}", outcome.stderr);
        fs::remove_dir_all(image.path("upper")).unwrap();
        fs::create_dir(image.path("upper")).unwrap();
        fs::remove_dir_all(image.path("work")).unwrap();
        fs::create_dir(image.path("work")).unwrap();
    }
}
