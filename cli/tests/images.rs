//! images, tag, rmi, inspect, history, import, system df and prune.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{BASE, Dunnage};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[test]
fn platform_c26_c29_names_come_and_go() {
    let Some(dunnage) = dunnage() else { return };
    let id = dunnage.build("FROM base\nRUN echo x > /x\n");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let listed = dunnage.run(["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "app"]).ok().stdout;
    assert_eq!(listed.trim(), format!("app:latest {}", id.get(7..19).unwrap()));
    dunnage.run(["tag", "app", "other:2"]).ok();
    assert_eq!(dunnage.run(["rmi", "app"]).ok().stdout, "Untagged: app:latest\n");
    let rest = dunnage.run(["rmi", "other:2"]).ok().stdout;
    assert_eq!(rest, format!("Untagged: other:2\nDeleted: {id}\n"));
    dunnage.run(["run", "other:2"]).fails(125, "other:2");
}

#[test]
fn platform_c31_history_has_a_line_an_instruction() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nENV A=1\nRUN echo x > /x\nCMD [\"true\"]\n");
    let out = dunnage.run(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "app"]).ok().stdout;
    let lines: Vec<&str> = out.lines().take(3).collect();
    assert_eq!(lines, ["CMD [\"true\"]", "RUN /bin/sh -c echo x > /x # buildkit", "ENV A=1"]);
}

#[test]
fn inspect_is_an_array_with_the_configuration() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nENV A=1\nEXPOSE 80\nLABEL k=v\n");
    let out = dunnage.run(["inspect", "app"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json.pointer("/0/Config/Labels/k").unwrap(), "v");
    assert!(json.pointer("/0/Config/ExposedPorts/80~1tcp").is_some(), "{out}");
    assert_eq!(dunnage.run(["inspect", "-f", "{{.Config.Labels.k}}", "app"]).ok().stdout, "v\n");
}

#[test]
fn import_makes_an_image_of_a_tar() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("root/hello", "imported\n");
    let here = dunnage.dir(".");
    let status =
        std::process::Command::new("tar").args(["-cf", "rootfs.tar", "-C", "root", "."]).current_dir(&here).status();
    assert!(status.unwrap().success());
    let id = dunnage.run(["import", "rootfs.tar", "imported:1"]).ok().stdout;
    assert!(id.starts_with("sha256:"), "{id}");
    dunnage.build("FROM base\nCOPY --from=imported:1 /hello /hello\nCMD cat /hello\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "imported\n");
}

#[test]
fn prune_removes_what_nothing_uses_and_keeps_the_rest() {
    let Some(dunnage) = dunnage() else { return };
    let big = "RUN dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null";
    dunnage.build(&format!("FROM base\n{big}\n"));
    dunnage.run(["tag", "app", "keep"]).ok();
    dunnage.build(&format!("FROM base\nENV OTHER=1\n{big}\n"));
    dunnage.run(["rmi", "app"]).ok();
    let before = du(&dunnage);
    // A layer that a cached step gave stays until the cache itself has to go.
    dunnage.run(["system", "prune", "-f"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "keep", "stat", "-c", "%s", "/big"]).ok().stdout, "3145728\n");
    let would = dunnage.run(["system", "prune", "-a", "--dry-run"]).ok().stdout;
    let out = dunnage.run(["system", "prune", "-a", "-f"]).ok().stdout;
    assert!(out.contains("Total reclaimed space") && would.contains("Reclaimable space"), "{out}{would}");
    // Two files of 3 MiB and busybox, less the index, which prune is the first to ask for.
    let freed = before - du(&dunnage);
    assert!((7 << 20..12 << 20).contains(&freed), "freed {freed} bytes");
    assert_eq!(dunnage.run(["images", "-aq"]).ok().stdout, "");
    dunnage.busybox();
}

#[test]
fn system_df_says_what_du_says() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN dd if=/dev/urandom of=/big bs=1M count=5 2>/dev/null\n");
    let out = dunnage.run(["system", "df"]).ok().stdout;
    assert!(out.contains("Images"), "{out}");
}

fn du(dunnage: &Dunnage) -> u64 {
    let output = std::process::Command::new("du").arg("-s").arg("-B1").arg(dunnage.root()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}
