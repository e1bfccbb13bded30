//! `--userns`: in whose user namespace a container is, and its ids while it runs.

use std::sync::Arc;

use cache::Snapshot;
use runtime::{IdLease, Rootfs, USUAL_IDS, UserNamespace};
use serde::{Deserialize, Serialize};

use super::spec::{ContainerSpec, MountKind, NamespaceChoice};
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::NetworkChoice;

/// `--userns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsernsMode {
    /// That of whoever runs it.
    #[default]
    Host,
    /// Its own, with ids that no other container has.
    Auto {
        /// How many ids; 65536 when it is not said.
        size: Option<u32>,
    },
}

impl UsernsMode {
    /// Reads docker's and podman's words.
    ///
    /// # Errors
    /// The sentence to show for all others.
    pub fn parse(text: &str) -> std::result::Result<UsernsMode, String> {
        let (word, option) = text.split_once(':').map_or((text, None), |(word, option)| (word, Some(option)));
        match (word, option) {
            ("host" | "", None) => Ok(UsernsMode::Host),
            ("auto", None) => Ok(UsernsMode::Auto { size: None }),
            ("auto", Some(option)) => match option.strip_prefix("size=").map(str::parse) {
                Some(Ok(size @ 1..)) => Ok(UsernsMode::Auto { size: Some(size) }),
                Some(_) => Err("size= takes a number of ids from 1, as auto:size=65536".to_owned()),
                None => Err(format!("`{option}` is no option of auto: size=N is")),
            },
            ("keep-id", _) => {
                Err("keep-id is not supported: it needs files shown with mapped owners, which the kernel \
                                   grants to root alone; without root, user 0 of a container is the user who runs it"
                    .to_owned())
            }
            ("private" | "nomap" | "ns" | "container", _) => {
                Err(format!("`{word}` is not supported: host, auto and auto:size=N are"))
            }
            _ => Err("modes are host, auto and auto:size=N".to_owned()),
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            UsernsMode::Host => "host".to_owned(),
            UsernsMode::Auto { size: None } => "auto".to_owned(),
            UsernsMode::Auto { size: Some(size) } => format!("auto:size={size}"),
        }
    }
}

/// The user namespace of a container, and its ids, for as long as this lives.
#[derive(Debug)]
pub(super) struct Users {
    pub(super) namespace: Arc<UserNamespace>,
    _lease: IdLease,
}

impl Users {
    /// The tree of a container as those in the namespace see it.
    pub(super) fn rootfs(&self, snapshot: &Snapshot, volatile: bool) -> Result<Rootfs> {
        Ok(builder::rootfs_of(snapshot, volatile, &self.namespace)?)
    }
}

impl Engine {
    /// What the user's files say, where the container asks for nothing that rules it out.
    pub(super) fn default_userns(&self, spec: &ContainerSpec) -> Result<UsernsMode> {
        let mode = self.userns()?.run.unwrap_or_default();
        let asked = ContainerSpec { userns: Some(mode), ..spec.clone() };
        Ok(if asked.check_users().is_ok() { mode } else { UsernsMode::Host })
    }

    /// The user namespace that is asked for, where it is not the machine's.
    pub(super) fn users(&self, spec: &ContainerSpec, id: &str) -> Result<Option<Users>> {
        let Some(UsernsMode::Auto { size }) = spec.userns else { return Ok(None) };
        // Asked for again in another start of the same container, it is most likely free.
        let hint = id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let lease = self.id_pool()?.take(size.unwrap_or(USUAL_IDS), hint)?;
        let network = !matches!(spec.network, NetworkChoice::Host);
        let namespace = Arc::new(UserNamespace::new(lease.ids().clone(), network)?);
        Ok(Some(Users { namespace, _lease: lease }))
    }
}

impl ContainerSpec {
    /// What a user namespace of the container's own rules out.
    pub(super) fn check_users(&self) -> Result<()> {
        let refuse = |sentence: String| Err(Error::Usage(sentence));
        let asks_to_map = |kind: &MountKind| matches!(kind, MountKind::Bind { mapped: true, .. });
        let Some(UsernsMode::Auto { .. }) = self.userns else {
            return match self.mounts.iter().find(|mount| asks_to_map(&mount.kind)) {
                Some(mount) => refuse(format!(
                    "the mount on {} has idmap, which means something with --userns auto alone",
                    mount.target.display()
                )),
                None => Ok(()),
            };
        };
        if runtime::in_user_namespace() || !runtime::is_superuser() {
            return refuse(
                "--userns auto needs the machine's own root: the kernel shows files with mapped owners to nobody else; \
                 without root every container is in a user namespace anyway"
                    .to_owned(),
            );
        }
        if self.privileged {
            return refuse("--privileged contradicts --userns auto: add --userns host".to_owned());
        }
        let shared = [("--pid", &self.pid), ("--ipc", &self.ipc), ("--cgroupns", &self.cgroupns)];
        if let Some((flag, _)) = shared.iter().find(|(_, choice)| **choice == NamespaceChoice::Host) {
            return refuse(format!(
                "{flag} host contradicts --userns auto: the machine's namespaces are not its users'; add --userns host"
            ));
        }
        let uts = [("--uts", &self.uts)];
        let joined = shared.iter().chain(&uts).find_map(|(flag, choice)| match choice {
            NamespaceChoice::Container(name) => Some((*flag, name)),
            _ => None,
        });
        let network = match &self.network {
            NetworkChoice::Container(name) => Some(("--network", name)),
            _ => None,
        };
        if let Some((flag, name)) = joined.or(network) {
            return refuse(format!(
                "{flag} container:{name} contradicts --userns auto: what is another container's belongs to other users; \
                 add --userns host"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_dockers_and_podmans_words() {
        for (text, mode) in [
            ("host", UsernsMode::Host),
            ("auto", UsernsMode::Auto { size: None }),
            ("auto:size=4096", UsernsMode::Auto { size: Some(4096) }),
        ] {
            assert_eq!(UsernsMode::parse(text).unwrap(), mode);
            assert_eq!(mode.word(), text);
        }
        assert_eq!(UsernsMode::parse("").unwrap(), UsernsMode::Host);
        for bad in ["auto:size=0", "auto:size=x", "auto:uidmapping=0:1:2", "host:1", "keep-id", "nomap", "yes", "AUTO"]
        {
            assert!(UsernsMode::parse(bad).is_err(), "{bad}");
        }
    }
}
