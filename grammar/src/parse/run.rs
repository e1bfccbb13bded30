//! RUN.

use super::{MountFlag, Reader, Result};
use crate::instruction::Run;
use crate::nearest::nearest;
use crate::word::Word;

impl Reader<'_> {
    pub(super) fn run(self) -> Result<Run> {
        let flags = self.flags(&["mount", "network", "security", "device"])?;
        let mount = |flag: &crate::syntax::Flag| MountFlag {
            text: flag.value.clone().unwrap_or_default(),
            escape: self.escape,
            span: flag.value_span,
        };
        Ok(Run {
            command: self.command(),
            heredocs: self.node.heredocs.clone(),
            mounts: flags.all("mount").map(mount).collect(),
            network: self.one_of("network", &["default", "none", "host"])?,
            security: self.one_of("security", &["sandbox", "insecure"])?,
            devices: flags
                .all("device")
                .map(|flag| Word::new(flag.value.as_deref().unwrap_or_default(), self.escape, flag.value_span))
                .collect(),
        })
    }

    /// A flag whose value is one of a few.
    fn one_of(self, name: &str, values: &[&str]) -> Result<Option<String>> {
        let Some(flag) = self.node.flags.iter().find(|flag| flag.name == name) else { return Ok(None) };
        let value = flag.value.as_deref().unwrap_or_default();
        if values.contains(&value) {
            return Ok(Some(value.to_owned()));
        }
        let article = if name == "network" { "network mode" } else { "security mode" };
        let diagnostic = self.at(flag.value_span, "K0130", format!("invalid {article} {value:?}"));
        Err(match nearest(value, values.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `--{name}={near}`?")),
            None => diagnostic.help(format!("it is one of: {}", values.join(", "))),
        })
    }
}
