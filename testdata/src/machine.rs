//! A machine that a test makes: a store, and a network namespace with nothing but loopback.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Dunnage, Need, Ran, skipped};

/// Longest time in which the kernel takes away what nobody holds.
const SOON: Duration = Duration::from_secs(60);

/// A store, and a network namespace that stands for the machine.
#[derive(Debug)]
pub struct Machine {
    /// The store.
    pub dunnage: Dunnage,
    holder: Child,
}

/// A container in the foreground of a process that the test has in the background.
#[derive(Debug)]
pub struct Foreground(Child);

impl Machine {
    /// A new one with the image `base`; `None`, with a word of why, where the machine lacks something.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(binary: &str) -> Option<Machine> {
        let needs = ["busybox", "nsenter", "unshare", "nft"].map(Need::Program);
        if skipped(&[&[Need::Root][..], &needs].concat()) {
            return None;
        }
        let dunnage = Dunnage::new(binary);
        dunnage.busybox();
        let mut holder = Command::new("unshare")
            .args(["--net", "busybox", "sh", "-c", "busybox ip link set lo up && echo ready && exec busybox sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        holder.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Some(Machine { dunnage, holder })
    }

    /// A program inside.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "--net", "--", program]);
        command
    }

    /// The command inside, not yet started.
    ///
    /// # Panics
    /// When it is no text.
    pub fn command(&self, args: &[&str]) -> Command {
        let own = self.dunnage.command(args);
        let mut command = self.inside(own.get_program().to_str().unwrap());
        command.args(own.get_args()).current_dir(own.get_current_dir().unwrap()).stdin(Stdio::null());
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When the binary cannot be started.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Starts a container whose first line of output says that it is ready.
    ///
    /// # Panics
    /// When it does not say so.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Foreground {
        let all = [&["run", "--rm"], args].concat();
        let mut child = self.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{args:?}");
        Foreground(child)
    }

    /// A web server that says its name.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn serve(&self, name: &str, flags: &[&str]) -> Foreground {
        let script =
            format!("mkdir /w; echo {name} > /w/index.html; httpd -p 80 -h /w && echo ready && exec sleep 600");
        self.start(&[&["--name", name], flags, &["base", "sh", "-c", &script]].concat())
    }

    /// What a container prints that is started with these flags.
    ///
    /// # Panics
    /// When the binary cannot be started.
    #[track_caller]
    pub fn shell(&self, flags: &[&str], script: &str) -> Ran {
        self.run(&[&["run", "--rm"], flags, &["base", "sh", "-c", script]].concat())
    }

    /// Devices and tables of the packet filter.
    ///
    /// # Panics
    /// When it cannot be looked at.
    pub fn look(&self) -> (Vec<String>, String) {
        let text = std::fs::read_to_string(format!("/proc/{}/net/dev", self.holder.id())).unwrap();
        let devices = text.lines().skip(2).filter_map(|line| Some(line.split(':').next()?.trim().to_owned())).collect();
        let tables = self.inside("nft").args(["list", "tables"]).output().unwrap();
        (devices, String::from_utf8(tables.stdout).unwrap())
    }

    /// Waits until all is as it was.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn is_as_it_was(&self, before: &(Vec<String>, String)) {
        let begun = Instant::now();
        while self.look() != *before {
            assert!(begun.elapsed() < SOON, "{:?} is not {before:?}", self.look());
            std::thread::sleep(Duration::from_millis(10));
        }
        // What a killed process left in the store goes with the next command.
        self.run(&["network", "ls"]).ok();
        assert!(self.dunnage.leftovers().is_empty());
    }

    /// A page from a port of the machine.
    ///
    /// # Panics
    /// When there is no busybox.
    pub fn page(&self, address: &str) -> Ran {
        self.inside("busybox")
            .args(["timeout", "20", "busybox", "wget", "-q", "-O", "-", &format!("http://{address}/")])
            .output()
            .unwrap()
            .into()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Foreground {
    /// As Ctrl-C does, and waits for the end.
    pub fn stop(mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
