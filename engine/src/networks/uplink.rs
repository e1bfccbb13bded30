//! A way out for the networks of users without rights: pasta or slirp4netns moves packets between a network namespace and
//! sockets of its own. It ends with the last process that holds the `Uplink`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use runtime::network::{NetworkNamespace, end_with_last_copy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::bootstrap::SearchPath;
use crate::error::{Error, Result};

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const STEP: Duration = Duration::from_millis(2);
/// What both programs give: the address inside, and that of the way out.
const ADDRESS: &str = "10.0.2.100";
const LENGTH: &str = "24";
const GATEWAY: &str = "10.0.2.2";
const DEVICE: &str = "tap0";

/// A program that can be a way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UplinkProgram {
    /// pasta(1).
    Pasta(PathBuf),
    /// slirp4netns(1).
    Slirp(PathBuf),
}

impl UplinkProgram {
    /// Those of this machine. pasta comes second: versions of it that are still about (Debian 12) lose the answers to a
    /// client that has nothing more to say.
    pub(crate) fn all(programs: &SearchPath) -> Vec<UplinkProgram> {
        let slirp = programs.find("slirp4netns").map(UplinkProgram::Slirp);
        let pasta = programs.find("pasta").map(UplinkProgram::Pasta);
        slirp.into_iter().chain(pasta).collect()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            UplinkProgram::Pasta(_) => "pasta",
            UplinkProgram::Slirp(_) => "slirp4netns",
        }
    }

    fn path(&self) -> &Path {
        match self {
            UplinkProgram::Pasta(path) | UplinkProgram::Slirp(path) => path,
        }
    }
}

/// A way out, while any process holds it.
#[derive(Debug)]
pub(super) struct Uplink {
    hold: OwnedFd,
    /// Where this process started the program.
    program: Option<Child>,
}

impl Uplink {
    /// Gives a namespace a way out by one of the programs.
    ///
    /// # Errors
    /// Why the last of them gave none, or that there is none.
    pub(super) fn start(programs: &[UplinkProgram], namespace: &NetworkNamespace) -> Result<Uplink> {
        let mut last = Error::Usage("neither pasta nor slirp4netns is installed".to_owned());
        for program in programs {
            match Uplink::by(program, namespace) {
                Ok(uplink) => return Ok(uplink),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One that another process holds too.
    pub(super) fn shared(hold: OwnedFd) -> Uplink {
        Uplink { hold, program: None }
    }

    /// What another process takes to hold it too.
    pub(super) fn hold(&self) -> &OwnedFd {
        &self.hold
    }

    /// Whether its program runs.
    pub(super) fn lives(&self) -> bool {
        let mut ends = [PollFd::new(&self.hold, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ends, Some(&now)).is_ok() && !ends.iter().any(|end| end.revents().contains(PollFlags::ERR))
    }

    fn by(program: &UplinkProgram, namespace: &NetworkNamespace) -> Result<Uplink> {
        let path = program.path();
        let failed = |source| Error::file("start", path, source);
        let mut command = Command::new(path);
        // A key in the terminal is meant for the container, not for its way out.
        command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
        let uplink = match program {
            UplinkProgram::Pasta(_) => {
                // It may not look into other processes, nor has it other descriptors than these three.
                let inside = namespace.fd().try_clone().map_err(failed)?;
                command.stdin(inside).args(["--config-net", "--netns-only", "--netns", "/proc/self/fd/0"]);
                command.args(["--foreground", "--quiet", "--no-map-gw", "--ns-ifname", DEVICE]);
                command.args(["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"]);
                command.args(["--address", ADDRESS, "--netmask", LENGTH, "--gateway", GATEWAY]);
                let child = command.spawn().map_err(failed)?;
                Uplink { hold: end_with_last_copy(&child)?, program: Some(child) }
            }
            UplinkProgram::Slirp(_) => {
                let (held, hold) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
                let inside = format!("/proc/{}/fd/{}", std::process::id(), namespace.fd().as_raw_fd());
                command.stdin(held).args(["--exit-fd=0", "--configure", "--mtu=65520", "--disable-host-loopback"]);
                command.args(["--enable-sandbox", "--enable-seccomp", "--netns-type=path", &inside, DEVICE]);
                Uplink { hold, program: Some(command.spawn().map_err(failed)?) }
            }
        };
        uplink.wait(program.name(), namespace)
    }

    /// Until there is a way out.
    fn wait(mut self, name: &str, namespace: &NetworkNamespace) -> Result<Uplink> {
        let begun = Instant::now();
        loop {
            if namespace.has_way_out()? {
                return Ok(self);
            }
            let ended = self.program.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || begun.elapsed() > PATIENCE {
                return Err(Error::Usage(format!(
                    "{name} gave no network; look whether this user may open /dev/net/tun"
                )));
            }
            thread::sleep(STEP);
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        // It goes on for others, or ends by itself.
        if let Some(child) = &mut self.program {
            let _ = child.try_wait();
        }
    }
}
