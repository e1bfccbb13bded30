//! What the user's `config.toml` says of user namespaces: for whom they are the default, and which ids they have.

use std::path::{Path, PathBuf};

use runtime::{IdExtent, IdPool, USUAL_IDS, UserNamespace};
use serde::Deserialize;

use crate::Engine;
use crate::containers::UsernsMode;
use crate::error::{Error, Result};

/// Most ranges in it.
const MOST_RANGES: usize = 340;

/// What the first of the files that says anything of it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsernsSettings {
    /// Of containers.
    pub(crate) run: Option<UsernsMode>,
    /// Of the steps of builds.
    pub(crate) build: Option<UsernsMode>,
    /// Ids, and the file that names them.
    ranges: Option<(Vec<IdExtent>, PathBuf)>,
}

/// The parts of the file that are not about this are read by others.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    userns: Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    run: Option<toml::Spanned<String>>,
    build: Option<toml::Spanned<String>>,
    ranges: Option<Vec<toml::Spanned<String>>>,
}

impl UsernsSettings {
    pub(crate) fn read(files: &[PathBuf]) -> Result<UsernsSettings> {
        let mut settings = UsernsSettings::default();
        for path in files {
            let Some(text) = registry::read_settings(path)? else { continue };
            let found = UsernsSettings::parse(&text, path)?;
            settings.run = settings.run.or(found.run);
            settings.build = settings.build.or(found.build);
            settings.ranges = settings.ranges.or(found.ranges);
        }
        Ok(settings)
    }

    fn parse(text: &str, path: &Path) -> Result<UsernsSettings> {
        let at = |start: usize, reason: &str| {
            let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
            Error::Usage(format!("{}:{line}: {reason}", path.display()))
        };
        let document: Document = toml::from_str(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().trim()))?;
        let mode = |value: Option<toml::Spanned<String>>| {
            let read = |value: toml::Spanned<String>| {
                UsernsMode::parse(value.get_ref()).map_err(|reason| at(value.span().start, &reason))
            };
            value.map(read).transpose()
        };
        let ranges = match document.userns.ranges {
            None => None,
            Some(list) if list.is_empty() || list.len() > MOST_RANGES => {
                return Err(at(0, &format!("userns.ranges must be 1 to {MOST_RANGES} ranges")));
            }
            Some(list) => {
                let read = |value: &toml::Spanned<String>| {
                    extent(value.get_ref()).ok_or_else(|| {
                        at(value.span().start, "a range is FIRST:COUNT, as 2000000:1048576, of ids other than 0")
                    })
                };
                Some((list.iter().map(read).collect::<Result<_>>()?, path.to_owned()))
            }
        };
        Ok(UsernsSettings { run: mode(document.userns.run)?, build: mode(document.userns.build)?, ranges })
    }

    pub(crate) fn pool(&self) -> IdPool {
        match &self.ranges {
            Some((extents, path)) => IdPool::of(extents, path.display().to_string()),
            None => IdPool::of_machine(),
        }
    }
}

/// `FIRST:COUNT`. The machine's root is never one of them.
fn extent(text: &str) -> Option<IdExtent> {
    let (first, count) = text.split_once(':')?;
    let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
    // The last id of all stands for nobody.
    let fits = first.checked_add(count).is_some();
    (first > 0 && count > 0 && fits).then_some(IdExtent { first, count })
}

/// What `--userns auto` has on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsernsRanges {
    /// How many containers can have 65536 ids each.
    pub ranges: u32,
    /// The first id.
    pub first: u32,
    /// Who says so.
    pub origin: String,
}

impl Engine {
    /// Whether a container of this store can have a user namespace of its own, asked by making one.
    pub(crate) fn probe_userns(&self) -> std::result::Result<UsernsRanges, String> {
        if runtime::in_user_namespace() || !runtime::is_superuser() {
            return Err("the kernel shows files with mapped owners to the machine's own root alone".to_owned());
        }
        let probe = || -> Result<UsernsRanges> {
            let pool = self.id_pool()?;
            let ids = pool.take(USUAL_IDS, std::process::id())?;
            let users = std::sync::Arc::new(UserNamespace::new(ids.ids().clone(), false)?);
            let lease = self.store.lease()?;
            let snapshot = self.working_store()?.snapshot(&lease, &[])?;
            builder::rootfs_of(&snapshot, true, &users)?;
            let (ranges, first, origin) = pool.summary();
            Ok(UsernsRanges { ranges, first, origin: origin.to_owned() })
        };
        probe().map_err(|error| match error {
            Error::Sandbox(runtime::Error::UserNamespace { why, .. })
            | Error::Build(builder::Error::Sandbox(runtime::Error::UserNamespace { why, .. })) => why,
            error => error.to_string(),
        })
    }

    /// What the user's files say of user namespaces; read when it is first asked for.
    pub(crate) fn userns(&self) -> Result<&UsernsSettings> {
        if let Some(settings) = self.userns.get() {
            return Ok(settings);
        }
        let settings = UsernsSettings::read(&self.settings)?;
        Ok(self.userns.get_or_init(|| settings))
    }

    /// What each step of a build has its ids from, where the files say that it has its own. Nobody but root can have it so.
    pub(crate) fn build_ids(&self) -> Result<Option<(IdPool, u32)>> {
        if runtime::in_user_namespace() || !runtime::is_superuser() {
            return Ok(None);
        }
        let settings = self.userns()?;
        Ok(match settings.build {
            Some(UsernsMode::Auto { size }) => Some((settings.pool(), size.unwrap_or(USUAL_IDS))),
            Some(UsernsMode::Host) | None => None,
        })
    }

    /// What ids of containers are taken from.
    pub(crate) fn id_pool(&self) -> Result<IdPool> {
        Ok(self.userns()?.pool())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_says_anything_decides() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["one", "none", "two"].map(|name| directory.path().join(name));
        std::fs::write(&files[0], "[registries.x]\ninsecure = true\n[userns]\nbuild = \"auto\"\n").unwrap();
        std::fs::write(
            &files[2],
            "[userns]\nbuild = \"host\"\nrun = \"auto:size=9\"\nranges = [\"5:100\", \"900:10\"]\n",
        )
        .unwrap();
        let settings = UsernsSettings::read(&files).unwrap();
        assert_eq!(settings.build, Some(UsernsMode::Auto { size: None }));
        assert_eq!(settings.run, Some(UsernsMode::Auto { size: Some(9) }));
        assert_eq!(settings.pool().summary().1, 5);
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        for (text, wanted) in [
            ("[userns]\nrun = \"always\"\n", "c.toml:2: modes are host, auto"),
            ("[userns]\n\nruns = \"auto\"\n", "c.toml:3: unknown field `runs`"),
            ("[userns]\nranges = [\n\"1:2\",\n\"0:2\"]\n", "c.toml:4: a range is FIRST:COUNT"),
            ("[userns]\nranges = [\"4294967295:2\"]\n", "c.toml:2: a range is FIRST:COUNT"),
            ("[userns]\nranges = []\n", "must be 1 to 340 ranges"),
        ] {
            let error = UsernsSettings::parse(text, Path::new("c.toml")).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
