//! A base from this machine: the shell, the usual programs, and the shared libraries that they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::SearchPath;
use super::rootfs::{Node, RootfsPlan};
use crate::elf::{self, Libraries};
use crate::error::{Error, Result};

/// Programs without which it is no base.
const REQUIRED: [&str; 3] = ["sh", "cat", "ls"];

/// What a Dockerfile's RUN lines use most. One that is not here is left out.
const PROGRAMS: [&str; 78] = [
    "awk",
    "base64",
    "basename",
    "bash",
    "bunzip2",
    "bzip2",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "comm",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "expr",
    "false",
    "fgrep",
    "find",
    "fold",
    "getent",
    "grep",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "id",
    "install",
    "kill",
    "ln",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mktemp",
    "more",
    "mv",
    "nl",
    "nproc",
    "od",
    "paste",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sha1sum",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "tty",
    "uname",
    "uniq",
    "wc",
    "whoami",
];

/// More that other machines may have.
const EXTRA: [&str; 8] = ["which", "xargs", "xz", "yes", "zcat", "zstd", "sha512sum", "["];

pub(super) fn rootfs(path: &SearchPath, events: &dyn Fn(String)) -> Result<RootfsPlan> {
    let mut plan = RootfsPlan::skeleton();
    merged_usr(&mut plan);
    let mut libraries = Libraries::of_this_machine();
    let mut absent = Vec::new();
    for name in REQUIRED.iter().chain(&PROGRAMS).chain(&EXTRA) {
        match path.find(name) {
            Some(program) => add_program(&mut plan, &mut libraries, &program)?,
            None if REQUIRED.contains(name) => {
                return Err(Error::Bootstrap(format!("this machine has no `{name}` on PATH")));
            }
            None => absent.push(*name),
        }
    }
    if !absent.is_empty() {
        events(format!("this machine does not have: {}", absent.join(" ")));
    }
    let release = Path::new("/etc/os-release");
    if release.is_file() {
        plan.add(Path::new("etc/os-release"), Node::Copy(release.to_owned(), 0o644));
    }
    Ok(plan)
}

/// `/bin`, `/sbin` and the `/lib*` directories as links into `/usr`, as this machine has them.
fn merged_usr(plan: &mut RootfsPlan) {
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        match std::fs::read_link(&path) {
            Ok(target) => {
                let inside = Path::new("/").join(&target);
                plan.directory(&inside, 0o755);
                plan.add(&path, Node::Link(target));
            }
            Err(_) if path.is_dir() => plan.directory(&path, 0o755),
            Err(_) => {}
        }
    }
}

/// A program under the name that it is found by, its chain of links, and its libraries.
fn add_program(plan: &mut RootfsPlan, libraries: &mut Libraries, program: &Path) -> Result<()> {
    let real = add_with_links(plan, program, 0o755)?;
    let mut open = vec![real];
    let mut seen = BTreeSet::new();
    while let Some(file) = open.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        if let Some(interpreter) = script_interpreter(&file) {
            open.push(add_with_links(plan, &interpreter, 0o755)?);
            continue;
        }
        let needs = elf::read(&file)?;
        if let Some(interpreter) = &needs.interpreter {
            open.push(add_with_links(plan, interpreter, 0o755)?);
        }
        for name in &needs.libraries {
            match libraries.find(name, &needs, &file) {
                Some(library) => open.push(add_with_links(plan, &library, 0o644)?),
                None => {
                    return Err(Error::Bootstrap(format!(
                        "{} needs {name}, which is in no library directory of this machine",
                        file.display()
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Adds a file and each link on the way to it; gives where its bytes are.
fn add_with_links(plan: &mut RootfsPlan, path: &Path, mode: u32) -> Result<PathBuf> {
    let mut path = in_usr(plan, path);
    for _ in 0..40 {
        match std::fs::read_link(&path) {
            Ok(target) => {
                plan.add(&path, Node::Link(target.clone()));
                let next = builder::clean(&path.parent().unwrap_or(Path::new("/")).join(target));
                path = in_usr(plan, &next);
            }
            Err(_) => {
                if !plan.has(&path) {
                    plan.add(&path, Node::Copy(path.clone(), mode));
                }
                return Ok(path);
            }
        }
    }
    Err(Error::Bootstrap(format!("{} is a circle of links", path.display())))
}

/// The path with a leading link of the skeleton (`/bin`) resolved, so that nothing is put below a link.
fn in_usr(plan: &RootfsPlan, path: &Path) -> PathBuf {
    let mut components = path.components();
    components.next();
    let Some(first) = components.next() else { return path.to_owned() };
    match plan.node(Path::new(first.as_os_str())) {
        Some(Node::Link(target)) => builder::clean(&Path::new("/").join(target).join(components.as_path())),
        _ => path.to_owned(),
    }
}

/// `#!/bin/sh` programs need their interpreter, not libraries.
fn script_interpreter(file: &Path) -> Option<PathBuf> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(file).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line).into_owned();
    Some(PathBuf::from(text.split_whitespace().next()?))
}
