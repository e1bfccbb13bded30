//! HEALTHCHECK.

use super::usage::usage;
use super::{Reader, Result, command};
use crate::instruction::{CommandLine, Healthcheck};
use crate::syntax::{Arguments, Flag};

const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];

impl Reader<'_> {
    pub(super) fn healthcheck(self) -> Result<Healthcheck> {
        let Arguments::Probe(kind, probe) = &self.node.arguments else {
            let message = "HEALTHCHECK requires at least one argument";
            return Err(self.whole("K0112", message).help(usage("HEALTHCHECK")));
        };
        let is_none = kind.text.eq_ignore_ascii_case("NONE");
        let flags = self.flags(if is_none { &[] } else { &FLAGS })?;
        if is_none {
            return match **probe {
                Arguments::None => Ok(Healthcheck::None),
                _ => Err(self.whole("K0120", "HEALTHCHECK NONE takes no arguments").help("remove what follows NONE")),
            };
        }
        if !kind.text.eq_ignore_ascii_case("CMD") {
            let message = format!("Unknown type \"{}\" in HEALTHCHECK (try CMD)", kind.text.to_uppercase());
            return Err(self.at(kind.span, "K0121", message).help(usage("HEALTHCHECK")));
        }
        let command = command(probe);
        if command == CommandLine::Shell(String::new()) {
            let message = "Missing command after HEALTHCHECK CMD";
            return Err(self.whole("K0122", message).help(usage("HEALTHCHECK")));
        }
        let retries = |flag: &Flag| {
            let number = flag.value.as_deref().unwrap_or_default().parse::<u32>();
            let message = "--retries must be a whole number from 0";
            number.map_err(|_| self.at(flag.span, "K0123", message).help("write `--retries=3`"))
        };
        let retries = flags.take("retries").map(retries).transpose()?;
        Ok(Healthcheck::Test {
            command,
            interval: flags.duration("interval")?,
            timeout: flags.duration("timeout")?,
            start_period: flags.duration("start-period")?,
            start_interval: flags.duration("start-interval")?,
            retries,
        })
    }
}
