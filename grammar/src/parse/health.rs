//! HEALTHCHECK.

use super::{Reader, Result, command};
use crate::instruction::{CommandLine, Healthcheck};
use crate::syntax::Arguments;

const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];

impl Reader<'_> {
    pub(super) fn healthcheck(self) -> Result<Healthcheck> {
        let Arguments::Probe(kind, probe) = &self.node.arguments else {
            return Err(self.whole("K0112", "HEALTHCHECK requires at least one argument"));
        };
        let is_none = kind.text.eq_ignore_ascii_case("NONE");
        let flags = self.flags(if is_none { &[] } else { &FLAGS })?;
        if is_none {
            return match **probe {
                Arguments::None => Ok(Healthcheck::None),
                _ => Err(self.whole("K0120", "HEALTHCHECK NONE takes no arguments")),
            };
        }
        if !kind.text.eq_ignore_ascii_case("CMD") {
            let message = format!("Unknown type \"{}\" in HEALTHCHECK (try CMD)", kind.text.to_uppercase());
            let help = "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`";
            return Err(self.at(kind.span, "K0121", message).help(help));
        }
        let command = command(probe);
        if command == CommandLine::Shell(String::new()) {
            return Err(self.whole("K0122", "Missing command after HEALTHCHECK CMD"));
        }
        let retries = match flags.take("retries") {
            Some(flag) => Some(
                flag.value
                    .as_deref()
                    .unwrap_or_default()
                    .parse::<u32>()
                    .map_err(|_| self.at(flag.span, "K0123", "--retries must be a whole number from 0"))?,
            ),
            None => None,
        };
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
