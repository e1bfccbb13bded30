//! `network connect` and `disconnect`: of a container that runs by its monitor, which holds its networks; of one that does
//! not for its next start.

use serde::{Deserialize, Serialize};

use super::spec::ContainerSpec;
use super::state::ContainerInfo;
use super::wire::{Frame, Hello};
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::{DEFAULT, Membership, NetworkChoice};

/// What is to become of a container's networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NetworkChange {
    /// One more.
    Connect(Membership),
    /// One less.
    Disconnect(String),
}

impl NetworkChange {
    /// What the container asks for from now on.
    pub(super) fn applied(&self, choice: &NetworkChoice, name: &str) -> Result<NetworkChoice> {
        let mut memberships = match choice {
            NetworkChoice::Default => vec![Membership { network: DEFAULT.to_owned(), ..Membership::default() }],
            NetworkChoice::Networks(memberships) => memberships.clone(),
            NetworkChoice::None if *self == NetworkChange::Disconnect("none".to_owned()) => Vec::new(),
            other => {
                return Err(Error::WrongState(format!(
                    "container {name} has --network {}: it is on no network that could be changed",
                    other.name()
                )));
            }
        };
        match self {
            NetworkChange::Connect(new) if memberships.iter().any(|old| old.network == new.network) => {
                return Err(Error::WrongState(format!("container {name} is on network `{}` already", new.network)));
            }
            NetworkChange::Connect(new) => memberships.push(new.clone()),
            NetworkChange::Disconnect(network) => {
                let before = memberships.len();
                memberships.retain(|membership| membership.network != *network);
                if memberships.len() == before && *choice != NetworkChoice::None {
                    return Err(Error::NotOnNetwork { name: name.to_owned(), network: network.clone() });
                }
            }
        }
        Ok(NetworkChoice::Networks(memberships))
    }
}

impl Engine {
    /// Puts a container on a network.
    ///
    /// # Errors
    /// When one of the two is not there, it is on it already, or an address cannot be had.
    pub fn connect_to_network(&self, container: &str, membership: Membership) -> Result<()> {
        let network = self.network(&membership.network)?.record.name;
        if matches!(network.as_str(), "none" | "host") {
            return Err(Error::Usage(format!("a container has --network {network} from its beginning, or not at all")));
        }
        self.change_network(container, &NetworkChange::Connect(Membership { network, ..membership }))
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// When it is not on it.
    pub fn disconnect_from_network(&self, container: &str, network: &str) -> Result<()> {
        let network = self.network(network)?.record.name;
        self.change_network(container, &NetworkChange::Disconnect(network))
    }

    fn change_network(&self, container: &str, change: &NetworkChange) -> Result<()> {
        let info = self.container(container)?;
        let choice = change.applied(&info.spec.network, &info.name())?;
        if info.held {
            info.running()?;
            return self.ask_for_change(&info, change);
        }
        // Nobody starts it meanwhile.
        let _place = self.store.lock_container(&info.record.id)?;
        self.respecify(&info.record.id, |spec| spec.network = choice)
    }

    fn ask_for_change(&self, info: &ContainerInfo, change: &NetworkChange) -> Result<()> {
        let failed = |source| Error::Monitor { doing: "talking to it", source };
        let mut conversation = self.converse(info, Hello::default())?;
        conversation.send(&Frame::Network(change.clone())).map_err(failed)?;
        loop {
            match conversation.next().map_err(failed)? {
                Some(Frame::Done) => return Ok(()),
                Some(Frame::Failed(sentence, code)) => return Err(Error::Unstarted { sentence, code }),
                Some(Frame::Exited(_)) | None => return Err(Error::NotRunning { name: info.name(), status: "exited" }),
                Some(_) => {}
            }
        }
    }

    /// Changes what is asked of a container, for its next start and for whoever looks.
    pub(super) fn respecify(&self, id: &str, change: impl FnOnce(&mut ContainerSpec)) -> Result<()> {
        let mut spec = self.container(id)?.spec;
        change(&mut spec);
        let document = serde_json::to_value(&spec).map_err(|error| Error::Usage(error.to_string()))?;
        Ok(self.store.respecify_container(id, document)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_and_go() {
        let on = |names: &[&str]| {
            let one = |name: &&str| Membership { network: (*name).to_owned(), ..Membership::default() };
            NetworkChoice::Networks(names.iter().map(one).collect())
        };
        let connect =
            |name: &str| NetworkChange::Connect(Membership { network: name.to_owned(), ..Membership::default() });
        let disconnect = |name: &str| NetworkChange::Disconnect(name.to_owned());
        assert_eq!(connect("a").applied(&NetworkChoice::Default, "c").unwrap(), on(&["bridge", "a"]));
        assert_eq!(disconnect("bridge").applied(&NetworkChoice::Default, "c").unwrap(), on(&[]));
        assert_eq!(disconnect("a").applied(&on(&["a", "b"]), "c").unwrap(), on(&["b"]));
        assert_eq!(disconnect("none").applied(&NetworkChoice::None, "c").unwrap(), on(&[]));
        assert!(connect("a").applied(&on(&["a"]), "c").is_err() && disconnect("x").applied(&on(&["a"]), "c").is_err());
        assert!(connect("a").applied(&NetworkChoice::Host, "c").is_err());
        assert!(connect("a").applied(&NetworkChoice::None, "c").is_err());
    }
}
