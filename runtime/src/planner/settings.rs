//! Kernel settings of a sandbox: files below /proc, written while they can still be written.
use std::ffi::CString;

use super::Planner;
use crate::error::{Error, Result};
use crate::plan::{Op, Place, Refusal, Slot};
use crate::sandbox::{Namespace, NetworkMode};

/// Settings of the ipc namespace; all others below `kernel` are the machine's.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

impl Planner<'_> {
    pub(super) fn settings(&mut self) -> Result<()> {
        for (name, value) in &self.sandbox.sysctls {
            self.check(name)?;
            let path = format!("sys/{}", name.replace('.', "/"));
            self.setting(&path, value, Refusal::Fail)?;
        }
        if let Some(score) = self.sandbox.oom_score_adj {
            // The process itself, as the new /proc counts.
            self.setting("thread-self/oom_score_adj", &score.to_string(), Refusal::Note)?;
        }
        Ok(())
    }

    fn setting(&mut self, path: &str, value: &str, refusal: Refusal) -> Result<()> {
        let text = |text: &str| CString::new(text).map_err(|_| Error::invalid("sysctl", "contains a zero byte"));
        let at = Place { base: Slot::Proc, path: text(path)? };
        self.push(Op::Setting { at, value: text(value)?, refusal });
        Ok(())
    }

    fn check(&self, name: &str) -> Result<()> {
        let sandbox = self.sandbox;
        let refused = |reason: &str| Err(Error::invalid("sysctl", format!("{name}: {reason}")));
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        if !name.bytes().all(valid) || name.split(['.', '/']).any(|part| part.is_empty() || part == "..") {
            return refused("is no name of a setting; they look like net.ipv4.ip_forward");
        }
        let own_ipc = matches!(sandbox.namespaces.ipc, Namespace::New);
        match name.split_once(['.', '/']) {
            Some(("net", _)) if matches!(sandbox.network, NetworkMode::Host) => {
                refused("the container has the machine's network, whose settings are not its own")
            }
            Some(("net", _)) => Ok(()),
            Some(("kernel", rest)) if IPC.contains(&rest) && own_ipc => Ok(()),
            Some(("fs", rest)) if rest.starts_with("mqueue") && own_ipc => Ok(()),
            Some(("kernel", "domainname")) if matches!(sandbox.namespaces.uts, Namespace::New) => Ok(()),
            _ => refused("is a setting of the whole machine, or of a namespace that is not the container's own"),
        }
    }
}
