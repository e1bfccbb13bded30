//! Flags of an instruction: which it knows, once or often, with or without a value.

use std::time::Duration;

use super::{Reader, Result};
use crate::nearest::nearest;
use crate::syntax::Flag;
use crate::values::parse_duration;
use crate::word::Word;

/// Flags that may stand more than once.
const REPEATED: [&str; 3] = ["mount", "exclude", "device"];
/// Flags that need no value.
const SWITCHES: [&str; 5] = ["link", "parents", "keep-git-dir", "unpack", "submodules"];

/// The checked flags of one instruction.
#[derive(Clone, Copy)]
pub(super) struct Flags<'a> {
    reader: Reader<'a>,
}

impl<'a> Reader<'a> {
    /// Checks the flags against those that the instruction has.
    pub(super) fn flags(self, known: &[&str]) -> Result<Flags<'a>> {
        for (index, flag) in self.node.flags.iter().enumerate() {
            let name = flag.name.as_str();
            if !known.contains(&name) {
                let diagnostic = self.at(flag.span, "K0126", format!("unknown flag: --{name}"));
                return Err(match nearest(name, known.iter().copied()) {
                    Some(near) => diagnostic.help(format!("did you mean `--{near}`?")),
                    None if known.is_empty() => {
                        diagnostic.help("this instruction takes no flags; `--` before the text ends them")
                    }
                    None => diagnostic.help(format!("its flags are: --{}", known.join(", --"))),
                });
            }
            let earlier = self.node.flags.get(..index).unwrap_or_default();
            if !REPEATED.contains(&name) && earlier.iter().any(|other| other.name == name) {
                let diagnostic = self.at(flag.span, "K0127", format!("Duplicate flag specified: {name}"));
                return Err(diagnostic.help("keep one of them"));
            }
            if flag.value.is_none() && !SWITCHES.contains(&name) {
                let diagnostic = self.at(flag.span, "K0128", format!("Missing a value on flag: {name}"));
                return Err(diagnostic.help(format!("write `--{name}=VALUE`")));
            }
        }
        Ok(Flags { reader: self })
    }
}

impl<'a> Flags<'a> {
    pub(super) fn take(self, name: &str) -> Option<&'a Flag> {
        self.reader.node.flags.iter().find(|flag| flag.name == name)
    }

    pub(super) fn all(self, name: &str) -> impl Iterator<Item = &'a Flag> {
        self.reader.node.flags.iter().filter(move |flag| flag.name == name)
    }

    pub(super) fn texts(self, name: &str) -> Vec<String> {
        self.all(name).filter_map(|flag| flag.value.clone()).collect()
    }

    pub(super) fn word(self, name: &str) -> Option<Word> {
        let flag = self.take(name)?;
        Some(Word::new(flag.value.as_deref()?, self.reader.escape, flag.value_span))
    }

    pub(super) fn switch(self, name: &str) -> Result<Option<bool>> {
        let Some(flag) = self.take(name) else { return Ok(None) };
        match flag.value.as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                let message = format!("expecting boolean value for flag {name}, not: {other}");
                Err(self.reader.at(flag.span, "K0129", message).help("write `true` or `false`"))
            }
        }
    }

    /// A time that is nothing, or a millisecond at least.
    pub(super) fn duration(self, name: &str) -> Result<Option<Duration>> {
        let Some(flag) = self.take(name) else { return Ok(None) };
        let error = |message: String| self.reader.at(flag.span, "K0124", message);
        let duration = parse_duration(flag.value.as_deref().unwrap_or_default())
            .map_err(|cause| error(cause.to_string()).help("write a unit, as in 30s or 1m30s"))?;
        if !duration.is_zero() && duration < Duration::from_millis(1) {
            return Err(error(format!("Interval \"{name}\" cannot be less than 1ms")).help("write `1ms` or more"));
        }
        Ok(Some(duration))
    }
}
