//! Labels of the machine's security modules, which the program takes on when it starts.
use std::ffi::CString;

use super::Planner;
use crate::error::{Error, Result};
use crate::plan::{Op, Place, Refusal, Slot};

impl Planner<'_> {
    /// A profile that was asked for and cannot be had is an error: the walls would be lower than they were meant.
    pub(super) fn labels(&mut self) -> Result<()> {
        let sandbox = self.sandbox;
        if let Some(profile) = &sandbox.apparmor {
            if !self.host.apparmor {
                return Err(Error::invalid(
                    "apparmor",
                    format!("{profile}: this machine has no AppArmor; leave the profile out"),
                ));
            }
            self.label("thread-self/attr/apparmor/exec", &format!("exec {profile}"))?;
        }
        if let Some(label) = &sandbox.selinux {
            if !self.host.selinux {
                return Err(Error::invalid(
                    "selinux",
                    format!("{label}: this machine has no SELinux; leave the label out"),
                ));
            }
            self.label("thread-self/attr/exec", label)?;
        }
        Ok(())
    }

    fn label(&mut self, path: &str, value: &str) -> Result<()> {
        let text = |text: &str| CString::new(text).map_err(|_| Error::invalid("label", "contains a zero byte"));
        let at = Place { base: Slot::Proc, path: text(path)? };
        self.push(Op::Setting { at, value: text(value)?, refusal: Refusal::Fail });
        Ok(())
    }
}
