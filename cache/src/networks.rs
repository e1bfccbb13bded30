//! Networks: what is known of each, and who is on it.
//!
//! `networks/NAME/network.json` is durable. `networks/NAME/endpoints/ID` is one container's place, locked by the process
//! that looks after the container: one whose lock nobody holds is of a process that died, and means nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lease::{entries, remove_tree};
use crate::sealed::{seal, unseal};
use crate::store::{Store, lock_file, random_name, sync_directory, write_durably};

const RECORD: &str = "network.json";
const ENDPOINTS: &str = "endpoints";

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSubnet {
    /// Its first address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub length: u8,
    /// The host's address in it.
    pub gateway: IpAddr,
    /// The part that containers get addresses from, where it is not all of it.
    pub range: Option<(IpAddr, u8)>,
}

/// What is known of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unix seconds when it was made.
    pub created: u64,
    /// No way out of it.
    pub internal: bool,
    /// It was asked for as docker's swarm asks for networks that containers may come on; all here are.
    #[serde(default)]
    pub attachable: bool,
    /// Its addresses: IPv4 first.
    pub subnets: Vec<NetworkSubnet>,
    /// Nobody asked for these addresses: others will do.
    pub automatic: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its driver's options.
    pub options: BTreeMap<String, String>,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The container's id.
    pub container: String,
    /// Its name.
    pub name: Option<String>,
    /// Other names that it has on this network.
    pub aliases: Vec<String>,
    /// Its addresses there: IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its hardware address.
    pub mac: String,
    /// Ports of the host that lead to it, in words.
    pub ports: Vec<String>,
    /// How the network itself is found, in the words of whoever runs it.
    pub hold: serde_json::Value,
}

/// A network while nobody else may change who is on it.
#[derive(Debug)]
pub struct NetworkPlace {
    record: NetworkRecord,
    path: PathBuf,
    _lock: File,
}

/// A container's place, until this ends.
#[derive(Debug)]
pub struct EndpointPlace {
    record: EndpointRecord,
    path: PathBuf,
    _lock: File,
}

impl NetworkPlace {
    /// What is known of it.
    pub fn record(&self) -> &NetworkRecord {
        &self.record
    }

    /// Who is on it. What the dead left is swept.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn endpoints(&self) -> Result<Vec<EndpointRecord>> {
        let mut found = Vec::new();
        for (_, path) in entries(&self.path.join(ENDPOINTS))? {
            match living(&path)? {
                Some(endpoint) => found.push(endpoint),
                None => remove_file(&path)?,
            }
        }
        Ok(found)
    }

    /// Gives it other addresses.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn move_to(&mut self, subnets: Vec<NetworkSubnet>) -> Result<()> {
        let record = NetworkRecord { subnets, ..self.record.clone() };
        write_durably(&self.path.join(RECORD), &self.path.join(".draft"), &seal("the network", &record)?)?;
        self.record = record;
        Ok(())
    }

    /// Puts a container on it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add(&self, record: EndpointRecord) -> Result<EndpointPlace> {
        let directory = self.path.join(ENDPOINTS);
        let path = directory.join(&record.container);
        let draft = directory.join(format!(".{}", record.container));
        let bytes = seal("the container's place on a network", &record)?;
        let write = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
            flock(&file, FlockOperation::LockExclusive)?;
            file.write_all(&bytes)?;
            std::fs::rename(&draft, &path)?;
            Ok(file)
        };
        let lock = write().map_err(Error::path("write", &path))?;
        Ok(EndpointPlace { record, path, _lock: lock })
    }
}

impl EndpointPlace {
    /// What is known of it.
    pub fn record(&self) -> &EndpointRecord {
        &self.record
    }
}

impl Drop for EndpointPlace {
    fn drop(&mut self) {
        // A file that stays means nothing once its lock is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The endpoint of a file that somebody holds.
fn living(path: &Path) -> Result<Option<EndpointRecord>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::path("open", path)(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Ok(()) => return Ok(None),
        Err(errno) => return Err(Error::errno("lock", path)(errno)),
    }
    Ok(std::fs::read(path).ok().and_then(|bytes| unseal(&bytes)))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path("remove", path)(error)),
        _ => Ok(()),
    }
}

impl Store {
    fn network_dir(&self, name: &str) -> PathBuf {
        self.path("networks").join(name)
    }

    /// Where who is on a network is written: it changes whenever somebody comes or goes.
    pub fn network_endpoints_dir(&self, name: &str) -> PathBuf {
        self.network_dir(name).join(ENDPOINTS)
    }

    /// Makes a network, once all that exist were seen: `choose` gets their records, and nobody makes another meanwhile.
    ///
    /// # Errors
    /// When the name is not valid or taken, what `choose` says, or the disk fails.
    pub fn create_network<E: From<Error>>(
        &self,
        name: &str,
        choose: impl FnOnce(&[NetworkRecord]) -> Result<NetworkRecord, E>,
    ) -> Result<NetworkRecord, E> {
        check_name(name)?;
        let parent = self.path("networks");
        let builder = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        builder(&parent).map_err(Error::path("make", &parent))?;
        let _lock = lock(&parent.join(".lock"))?;
        let known = self.networks()?;
        if known.iter().any(|network| network.name == name) {
            return Err(Error::NetworkExists(name.to_owned()).into());
        }
        let record = choose(&known)?;
        let draft = parent.join(format!(".{}", random_name()?));
        builder(&draft.join(ENDPOINTS)).map_err(Error::path("make", &draft))?;
        write_durably(&draft.join(RECORD), &draft.join(".draft"), &seal("the network", &record)?)?;
        let target = self.network_dir(name);
        // What is there without a sound record is no network.
        remove_tree(&target)?;
        std::fs::rename(&draft, &target).map_err(Error::path("make the network", &target))?;
        sync_directory(&parent)?;
        Ok(record)
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>> {
        let found = entries(&self.path("networks"))?;
        Ok(found.into_iter().filter_map(|(_, path)| read_record(&path)).collect())
    }

    /// A network by its name, its id, or the beginning of its id where that is only one's.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn network(&self, name: &str) -> Result<Option<NetworkRecord>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        if let Some(record) = read_record(&self.network_dir(name)) {
            return Ok(Some(record));
        }
        let mut found = self.networks()?.into_iter().filter(|network| network.id.starts_with(name));
        Ok(match (found.next(), found.next()) {
            (Some(network), None) => Some(network),
            _ => None,
        })
    }

    /// Holds a network, so that nobody else comes, goes or removes it meanwhile.
    ///
    /// # Errors
    /// When there is none.
    pub fn lock_network(&self, name: &str) -> Result<NetworkPlace> {
        let path = self.network_dir(name);
        let missing = || Error::NetworkNotFound(name.to_owned());
        if read_record(&path).is_none() {
            return Err(missing());
        }
        let lock = lock(&path.join("lock"))?;
        // It may have gone while this waited.
        let record = read_record(&path).ok_or_else(missing)?;
        Ok(NetworkPlace { record, path, _lock: lock })
    }

    /// Who is on a network.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn endpoints(&self, network: &str) -> Result<Vec<EndpointRecord>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.network_endpoints_dir(network))? {
            if !name.starts_with('.') {
                found.extend(living(&path)?);
            }
        }
        Ok(found)
    }

    /// A container's place on a network, while it is there.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn endpoint(&self, network: &str, container: &str) -> Result<Option<EndpointRecord>> {
        living(&self.network_endpoints_dir(network).join(container))
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When there is none, somebody is on it, or the disk fails.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let place = self.lock_network(name)?;
        let users: Vec<String> = place.endpoints()?.into_iter().map(|endpoint| endpoint.shown_name()).collect();
        if !users.is_empty() {
            return Err(Error::NetworkInUse { name: name.to_owned(), containers: users.join(", ") });
        }
        // First what makes it one: a half removed network is none.
        let record = place.path.join(RECORD);
        std::fs::remove_file(&record).map_err(Error::path("remove", &record))?;
        remove_tree(&place.path)?;
        Ok(())
    }
}

impl EndpointRecord {
    /// The container's name, else the beginning of its id.
    pub fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.container.chars().take(12).collect())
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map_err(Error::errno("lock", path))?;
    Ok(file)
}

fn read_record(directory: &Path) -> Option<NetworkRecord> {
    std::fs::read(directory.join(RECORD)).ok().and_then(|bytes| unseal(&bytes))
}

/// Docker's rule.
fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match first && rest && name.len() <= 255 {
        true => Ok(()),
        false => Err(Error::BadNetworkName(name.chars().take(100).collect())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        (directory, store)
    }

    fn record(name: &str) -> NetworkRecord {
        NetworkRecord {
            name: name.to_owned(),
            id: blake3::hash(name.as_bytes()).to_hex().to_string(),
            created: 1,
            internal: false,
            attachable: false,
            subnets: Vec::new(),
            automatic: true,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    fn endpoint(container: &str) -> EndpointRecord {
        EndpointRecord {
            container: container.to_owned(),
            name: None,
            aliases: Vec::new(),
            addresses: Vec::new(),
            mac: String::new(),
            ports: Vec::new(),
            hold: serde_json::Value::Null,
        }
    }

    fn create(store: &Store, name: &str) -> Result<NetworkRecord> {
        store.create_network(name, |_| Ok::<_, Error>(record(name)))
    }

    #[test]
    fn networks_come_and_go() {
        let (_directory, store) = store();
        let made = create(&store, "web").unwrap();
        assert!(matches!(create(&store, "web"), Err(Error::NetworkExists(_))));
        assert_eq!(store.network("web").unwrap().unwrap(), made);
        assert_eq!(store.network(made.id.get(..12).unwrap()).unwrap().unwrap(), made);
        assert_eq!(store.networks().unwrap(), [made]);
        store.remove_network("web").unwrap();
        assert!(matches!(store.remove_network("web"), Err(Error::NetworkNotFound(_))));
        assert_eq!(store.network("web").unwrap(), None);
        for name in ["", "../x", ".lock", "a/b", "-a"] {
            assert!(matches!(create(&store, name), Err(Error::BadNetworkName(_))), "{name}");
        }
    }

    #[test]
    fn a_place_is_there_while_its_holder_lives() {
        let (_directory, store) = store();
        create(&store, "web").unwrap();
        let held = store.lock_network("web").unwrap().add(endpoint("c1")).unwrap();
        assert_eq!(store.endpoints("web").unwrap(), [endpoint("c1")]);
        assert!(matches!(store.remove_network("web"), Err(Error::NetworkInUse { .. })));
        // As a killed process leaves it.
        let stale = store.network_endpoints_dir("web").join("c2");
        std::fs::write(&stale, seal("x", &endpoint("c2")).unwrap()).unwrap();
        assert_eq!(store.endpoints("web").unwrap().len(), 1);
        assert_eq!(store.lock_network("web").unwrap().endpoints().unwrap().len(), 1);
        assert!(!stale.exists());
        drop(held);
        // A process that a test beside this one starts has its descriptor until it executes something.
        testdata::until("nobody is in it", || store.endpoints("web").unwrap().is_empty());
        store.remove_network("web").unwrap();
    }

    #[test]
    fn security_f12_a_network_with_a_damaged_record_is_none_and_can_be_made_anew() {
        let (_directory, store) = store();
        create(&store, "web").unwrap();
        std::fs::write(store.network_dir("web").join(RECORD), "{").unwrap();
        assert!(store.networks().unwrap().is_empty());
        create(&store, "web").unwrap();
    }
}
