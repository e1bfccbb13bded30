//! Hooks of an OCI configuration that run on the container's side: before the root is changed, and before the program starts.
use std::ffi::OsStr;
use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use crate::error::{Error, Result};

/// A program to run at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its whole argv.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// How long it may take.
    pub seconds: Option<u64>,
}

/// Arguments, and variables, that a hook may have: room for them is taken from the stack.
pub(crate) const MOST_WORDS: usize = 255;

/// A hook as the new process can run it.
#[derive(Clone, Debug)]
pub(crate) struct PreparedHook {
    pub(crate) path: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) seconds: Option<i64>,
}

impl PreparedHook {
    pub(crate) fn new(call: &HookCall) -> Result<PreparedHook> {
        let text =
            |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| Error::invalid("hook", "contains a zero byte"));
        let all = |words: &[String]| words.iter().map(|word| text(OsStr::new(word))).collect::<Result<Vec<_>>>();
        if !call.path.is_absolute() {
            return Err(Error::invalid("hook", format!("{}: must be an absolute path", call.path.display())));
        }
        if call.argv.len() > MOST_WORDS || call.env.len() > MOST_WORDS {
            return Err(Error::invalid("hook", format!("has more than {MOST_WORDS} arguments or variables")));
        }
        let path = text(call.path.as_os_str())?;
        let argv = if call.argv.is_empty() { vec![path.clone()] } else { all(&call.argv)? };
        let seconds = call.seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        Ok(PreparedHook { path, argv, env: all(&call.env)?, seconds })
    }

    /// Null-terminated, as execve wants it. Does not allocate.
    pub(crate) fn pointers(words: &[CString]) -> [*const c_char; MOST_WORDS + 1] {
        let mut pointers = [ptr::null(); MOST_WORDS + 1];
        for (pointer, word) in pointers.iter_mut().zip(words) {
            *pointer = word.as_ptr();
        }
        pointers
    }
}
