//! A base from Debian packages: mmdebstrap where it is installed, debootstrap otherwise.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cache::{Layer, Lease, Store};

use super::SearchPath;
use crate::error::{Error, Result};

/// Lines of a failed tool that the message repeats.
const TAIL: usize = 10;

pub(super) fn layer(
    store: &Store,
    lease: &Lease,
    suite: &str,
    path: &SearchPath,
    events: &dyn Fn(String),
) -> Result<Layer> {
    if let Some(program) = path.find("mmdebstrap") {
        return mmdebstrap(&program, store, lease, suite, events);
    }
    if let Some(program) = path.find("debootstrap") {
        return debootstrap(&program, store, lease, suite, events);
    }
    Err(Error::Bootstrap(
        "neither mmdebstrap nor debootstrap is installed; on Debian install one with `apt-get install mmdebstrap`"
            .to_owned(),
    ))
}

/// Writes the root file system as a tar to its output: nothing is unpacked twice.
fn mmdebstrap(program: &Path, store: &Store, lease: &Lease, suite: &str, events: &dyn Fn(String)) -> Result<Layer> {
    let mut command = Command::new(program);
    command.args(["--variant=apt", "--format=tar", "--mode=root", "--quiet", "--include=ca-certificates"]);
    // The device files of the base are the sandbox's business.
    command.args([
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--skip=output/dev",
    ]);
    command
        .args([suite, "-"])
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::file("run", program, error))?;
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (layer, tail) = std::thread::scope(|scope| {
        let import = scope.spawn(move || stdout.map(|tar| store.import_layer(lease, tar, None)));
        let tail = follow(stderr, events);
        (import.join().ok().flatten(), tail)
    });
    finish(&mut child, program, &tail)?;
    match layer {
        Some(layer) => Ok(layer?),
        None => Err(Error::Bootstrap(format!("{} gave no archive", program.display()))),
    }
}

fn debootstrap(program: &Path, store: &Store, lease: &Lease, suite: &str, events: &dyn Fn(String)) -> Result<Layer> {
    let directory = lease.draft();
    let mut command = Command::new(program);
    command.args(["--variant=minbase", "--include=ca-certificates"]).arg(suite).arg(&directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Error::file("run", program, error))?;
    let tail = follow(child.stdout.take(), events);
    finish(&mut child, program, &tail)?;
    let mut tar = Command::new("tar");
    tar.args(["--one-file-system", "--exclude=./dev/*", "--numeric-owner", "--xattrs", "-C"])
        .arg(&directory)
        .args(["-c", "."]);
    let mut child =
        tar.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| Error::file("run", "tar", error))?;
    let Some(stdout) = child.stdout.take() else { return Err(Error::Bootstrap("tar has no output".to_owned())) };
    let layer = store.import_layer(lease, stdout, None)?;
    finish(&mut child, Path::new("tar"), &[])?;
    Ok(layer)
}

/// Passes lines on as they come, and keeps the last.
fn follow(stream: Option<impl Read>, events: &dyn Fn(String)) -> Vec<String> {
    let mut tail = Vec::new();
    for line in
        stream.into_iter().flat_map(|stream| BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok))
    {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        events(line.clone());
        tail.push(line);
        if tail.len() > TAIL {
            tail.remove(0);
        }
    }
    tail
}

fn finish(child: &mut Child, program: &Path, tail: &[String]) -> Result<()> {
    let status = child.wait().map_err(|error| Error::file("wait for", program, error))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Bootstrap(format!("{} failed ({status}):\n{}", program.display(), tail.join("\n"))))
}
