//! A base from a static busybox: the one file, and a link for each of its applets.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::SearchPath;
use super::rootfs::{Node, RootfsPlan};
use crate::elf;
use crate::error::{Error, Result};

pub(super) fn rootfs(path: &SearchPath) -> Result<RootfsPlan> {
    let missing = || {
        Error::Bootstrap("no busybox on PATH; install it, on Debian with `apt-get install busybox-static`".to_owned())
    };
    let busybox = path.find("busybox").ok_or_else(missing)?;
    let needs = elf::read(&busybox)?;
    if needs.interpreter.is_some() {
        return Err(Error::Bootstrap(format!(
            "{} is not static; install a static one, on Debian with `apt-get install busybox-static`",
            busybox.display()
        )));
    }
    let mut plan = RootfsPlan::skeleton();
    for name in ["bin", "sbin", "lib"] {
        plan.add(Path::new(name), Node::Link(PathBuf::from("usr").join(name)));
    }
    plan.add(Path::new("usr/bin/busybox"), Node::Copy(busybox.clone(), 0o755));
    for applet in applets(&busybox)? {
        plan.add(&Path::new("usr/bin").join(&applet), Node::Link(PathBuf::from("busybox")));
    }
    Ok(plan)
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output().map_err(|error| Error::file("run", busybox, error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let valid = |name: &&str| !name.is_empty() && !name.contains('/') && *name != "busybox";
    let names: Vec<String> = text.lines().map(str::trim).filter(valid).map(str::to_owned).collect();
    if !output.status.success() || !names.iter().any(|name| name == "sh") {
        return Err(Error::Bootstrap(format!("{} --list does not name a shell", busybox.display())));
    }
    Ok(names)
}
