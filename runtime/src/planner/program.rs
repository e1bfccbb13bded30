//! What is executed in the end: the program and where it may be, its words and its environment.
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Planner, c_string};
use crate::error::{Error, Result};
use crate::plan::Program;
use crate::sandbox::{DEFAULT_PATH, Sandbox};

impl Planner<'_> {
    pub(super) fn program(&self) -> Result<Program> {
        let Sandbox { argv, env, .. } = self.sandbox;
        let name = argv.first().ok_or_else(|| Error::invalid("command", "is empty; give a program to run"))?;
        let env = env.iter().map(|(name, value)| environment(name, value)).collect::<Result<_>>()?;
        Ok(Program {
            name: name.to_string_lossy().escape_debug().to_string(),
            candidates: self.candidates(name)?,
            argv: argv.iter().map(|word| c_string("command", word)).collect::<Result<_>>()?,
            env,
        })
    }

    /// Relative entries of PATH are passed over: what they mean would depend on the working directory.
    fn candidates(&self, name: &OsStr) -> Result<Vec<CString>> {
        if name.as_bytes().contains(&b'/') {
            return Ok(vec![c_string("command", name)?]);
        }
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.sandbox.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
        path.unwrap_or(OsStr::new(DEFAULT_PATH))
            .as_bytes()
            .split(|byte| *byte == b':')
            .filter(|directory| directory.starts_with(b"/"))
            .map(|directory| c_string("command", Path::new(OsStr::from_bytes(directory)).join(name).as_os_str()))
            .collect()
    }
}

fn environment(name: &OsString, value: &OsString) -> Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(Error::invalid("environment", format!("{name:?} is no name; names are not empty and have no '='")));
    }
    let mut entry = name.clone();
    entry.push("=");
    entry.push(value);
    c_string("environment", &entry)
}
