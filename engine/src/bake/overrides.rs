//! `--set TARGET.KEY=VALUE`: values of the command line over those of the files.

use super::Project;
use super::model::{BakeTarget, Fields};
use crate::error::{Error, Result};

pub(super) fn apply(project: &mut Project, overrides: &[String]) -> Result<()> {
    for text in overrides {
        let one = Override::parse(text)?;
        let mut fits = false;
        for (name, target) in &mut project.targets {
            if grammar::glob_match(one.pattern, name).unwrap_or(false) {
                fits = true;
                one.apply(target)?;
            }
        }
        if !fits {
            let near = grammar::nearest(one.pattern, project.targets.keys().map(String::as_str));
            let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(one.wrong(format!("no target is named `{}`{help}", one.pattern)));
        }
    }
    Ok(())
}

struct Override<'a> {
    text: &'a str,
    pattern: &'a str,
    key: &'a str,
    /// What follows the key, as in `args.NAME`.
    part: Option<&'a str>,
    value: Option<&'a str>,
    /// `+=`: added to the list.
    adds: bool,
}

impl<'a> Override<'a> {
    fn parse(text: &'a str) -> Result<Override<'a>> {
        let (path, value) = text.split_once('=').map_or((text, None), |(path, value)| (path, Some(value)));
        let (path, adds) = path.strip_suffix('+').map_or((path, false), |path| (path, true));
        let mut parts = path.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(pattern), Some(key), part) if !pattern.is_empty() && !key.is_empty() => {
                Ok(Override { text, pattern, key, part, value, adds })
            }
            _ => {
                Err(Error::Usage(format!("--set {text}: it must be like TARGET.KEY=VALUE, such as app.args.VERSION=2")))
            }
        }
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> Error {
        Error::Usage(format!("--set {}: {reason}", self.text))
    }

    fn value(&self) -> Result<String> {
        self.value.map(str::to_owned).ok_or_else(|| self.wrong("it needs a value after `=`"))
    }

    fn part(&self) -> Result<String> {
        self.part
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| self.wrong(format!("`{}` needs a name, as in {}.{}.NAME", self.key, self.pattern, self.key)))
    }

    fn flag(&self) -> Result<bool> {
        match self.value.unwrap_or("true") {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(self.wrong(format!("`{other}` is neither true nor false"))),
        }
    }

    fn list<T>(&self, list: &mut Vec<T>, item: impl Fn(String) -> T) -> Result<()> {
        if !self.adds {
            list.clear();
        }
        let value = self.value()?;
        if !value.is_empty() {
            list.push(item(value));
        }
        Ok(())
    }

    fn apply(&self, target: &mut BakeTarget) -> Result<()> {
        match self.key {
            "args" => drop(target.args.insert(self.part()?, self.value.map(str::to_owned))),
            "labels" => drop(target.labels.insert(self.part()?, Some(self.value()?))),
            "contexts" => drop(target.contexts.insert(self.part()?, self.value()?)),
            "extra-hosts" => drop(target.extra_hosts.insert(self.part()?, self.value()?)),
            "context" => target.context = Some(self.value()?),
            "dockerfile" => target.dockerfile = Some(self.value()?),
            "dockerfile-inline" => target.dockerfile_inline = Some(self.value()?),
            "target" => target.target = Some(self.value()?),
            "network" => target.network = Some(self.value()?),
            "shm-size" => target.shm_size = Some(self.value()?),
            "call" => target.call = Some(self.value()?),
            "no-cache" => target.no_cache = Some(self.flag()?),
            "pull" => target.pull = Some(self.flag()?),
            "tags" => self.list(&mut target.tags, |text| text)?,
            "platform" | "platforms" => {
                let value = self.value()?;
                if !self.adds {
                    target.platforms.clear();
                }
                target.platforms.extend(value.split(',').map(str::to_owned));
            }
            "annotations" => self.list(&mut target.annotations, |text| text)?,
            "entitlements" => self.list(&mut target.entitlements, |text| text)?,
            "no-cache-filter" => self.list(&mut target.no_cache_filter, |text| text)?,
            "ulimits" => self.list(&mut target.ulimits, |text| text)?,
            "output" => self.list(&mut target.output, Fields)?,
            "cache-from" => self.list(&mut target.cache_from, Fields)?,
            "cache-to" => self.list(&mut target.cache_to, Fields)?,
            "secret" | "secrets" => self.list(&mut target.secret, Fields)?,
            "ssh" => self.list(&mut target.ssh, Fields)?,
            "attest" => self.list(&mut target.attest, Fields)?,
            other => return Err(self.wrong(format!("a target has no `{other}`"))),
        }
        Ok(())
    }
}
