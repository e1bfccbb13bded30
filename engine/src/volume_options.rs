//! Options of a volume as docker's local driver takes them: what is mounted in place of the store's own directory.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use runtime::{MountAttributes, NewFilesystem, UserNamespace};

use crate::error::{Error, Result};

/// File systems of servers, whose `addr` the kernel wants as a number.
const OF_SERVERS: [&str; 5] = ["nfs", "nfs4", "cifs", "smb3", "9p"];
/// Options that only mount(8) knows, and what is so anyway.
const MEANT_FOR_OTHERS: [&str; 9] =
    ["", "defaults", "async", "nomand", "auto", "noauto", "_netdev", "nofail", "private"];

/// What a volume is that has options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeMount {
    /// A directory of the machine.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// What is mounted below it is shown too.
        recursive: bool,
        /// No writing.
        read_only: bool,
    },
    /// A file system of its own.
    Filesystem {
        /// Its type.
        kind: String,
        /// What it shows.
        device: String,
        /// Its own options.
        options: Vec<(String, Option<String>)>,
        /// mount(8)'s words for what holds for the mount.
        attributes: Vec<String>,
        /// No writing.
        read_only: bool,
    },
}

impl VolumeMount {
    /// Nothing for a volume without options.
    ///
    /// # Errors
    /// When they say nothing that can be mounted.
    pub(crate) fn read(options: &BTreeMap<String, String>) -> Result<Option<VolumeMount>> {
        let usage = |sentence: String| Err(Error::Usage(sentence));
        if options.is_empty() {
            return Ok(None);
        }
        for name in options.keys() {
            match name.as_str() {
                "type" | "device" | "o" => {}
                "size" => return usage("a volume's `size` needs a quota of its file system, which is not supported: type=tmpfs,device=tmpfs,o=size=BYTES is a volume in memory".to_owned()),
                _ => return usage(format!("`{name}` is no option of a volume: type, device and o are")),
            }
        }
        let (Some(kind), Some(device)) = (options.get("type"), options.get("device")) else {
            return usage(
                "a volume with options needs both type= and device=, as type=tmpfs and device=tmpfs".to_owned(),
            );
        };
        let mut read = Read::default();
        for word in options.get("o").map_or("", String::as_str).split(',') {
            read.add(word)?;
        }
        let Read { bind, recursive, read_only, attributes, rest } = read;
        if !bind {
            if matches!(kind.as_str(), "none" | "bind") {
                return usage(format!("a volume of the type {kind} needs o=bind, which shows its device, a directory"));
            }
            let (kind, device) = (kind.clone(), device.clone());
            return Ok(Some(VolumeMount::Filesystem { kind, device, options: rest, attributes, read_only }));
        }
        if let Some(word) = rest.first().map(|(name, _)| name).or(attributes.first()) {
            return usage(format!("the option `{word}` is not supported with o=bind: ro, rw, bind and rbind are"));
        }
        let source = PathBuf::from(device);
        match source.is_absolute() {
            true => Ok(Some(VolumeMount::Bind { source, recursive, read_only })),
            false => usage(format!("the device `{device}` of a volume with o=bind must be an absolute path")),
        }
    }

    /// Whether its files are there only as long as somebody has it.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, VolumeMount::Filesystem { kind, .. } if matches!(kind.as_str(), "tmpfs" | "ramfs"))
    }
}

/// What `o` says.
#[derive(Debug, Default)]
struct Read {
    bind: bool,
    recursive: bool,
    read_only: bool,
    attributes: Vec<String>,
    rest: Vec<(String, Option<String>)>,
}

impl Read {
    fn add(&mut self, word: &str) -> Result<()> {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            // Nothing that a container can write shows a device.
            "nodev" => {}
            "dev" => {
                return Err(Error::Usage(
                    "devices on a volume are not opened: leave `dev` out, and use --device".to_owned(),
                ));
            }
            _ if MEANT_FOR_OTHERS.contains(&word) => {}
            _ if MountAttributes::option(word).is_some() => self.attributes.push(word.to_owned()),
            _ => {
                let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
                self.rest.push((name.to_owned(), value.map(str::to_owned)));
            }
        }
        Ok(())
    }
}

/// Makes a volume's file system, attached nowhere yet.
pub(crate) fn make(
    (kind, device): (&str, &str),
    options: &[(String, Option<String>)],
    attributes: &[String],
    users: Option<&UserNamespace>,
) -> Result<std::os::fd::OwnedFd> {
    let mut options = options.to_vec();
    if OF_SERVERS.contains(&kind) {
        for (_, value) in options.iter_mut().filter(|(name, _)| matches!(name.as_str(), "addr" | "ip")) {
            *value = value.as_deref().map(numeric).transpose()?;
        }
    }
    let words = ["nodev"].into_iter().chain(attributes.iter().map(String::as_str)).filter_map(MountAttributes::option);
    let attributes = words.fold(MountAttributes::default(), MountAttributes::and);
    Ok(NewFilesystem { kind, source: device, options: &options, attributes }.make(users)?)
}

/// The kernel looks no names up.
fn numeric(address: &str) -> Result<String> {
    if address.parse::<IpAddr>().is_ok() {
        return Ok(address.to_owned());
    }
    let found = (address, 0_u16).to_socket_addrs();
    let first =
        found.map_err(|error| Error::Usage(format!("the server {address} of a volume is not found: {error}")))?.next();
    first
        .map(|found| found.ip().to_string())
        .ok_or_else(|| Error::Usage(format!("the server {address} has no address")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Option<VolumeMount>> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        VolumeMount::read(&options.iter().map(pair).collect())
    }

    #[test]
    fn options_are_those_of_dockers_local_driver() {
        assert_eq!(read(&[]).unwrap(), None);
        let bind = read(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")]).unwrap().unwrap();
        assert_eq!(bind, VolumeMount::Bind { source: "/srv".into(), recursive: false, read_only: true });
        let tmpfs = read(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=5,noatime")]).unwrap().unwrap();
        assert!(tmpfs.is_memory() && !bind.is_memory());
        let VolumeMount::Filesystem { options, attributes, .. } = tmpfs else { unreachable!() };
        assert_eq!(options.len(), 2);
        assert_eq!(attributes, ["noatime"]);
        let nfs =
            read(&[("type", "nfs"), ("device", ":/export"), ("o", "addr=10.0.0.1,rw,nfsvers=4")]).unwrap().unwrap();
        let VolumeMount::Filesystem { options, .. } = nfs else { unreachable!() };
        assert_eq!(options.first().unwrap(), &("addr".to_owned(), Some("10.0.0.1".to_owned())));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for (options, word) in [
            (&[("what", "x")][..], "`what`"),
            (&[("size", "1g")], "quota"),
            (&[("o", "bind")], "both type= and device="),
            (&[("type", "tmpfs")], "both type= and device="),
            (&[("type", "none"), ("device", "/srv")], "o=bind"),
            (&[("type", "none"), ("device", "srv"), ("o", "bind")], "absolute"),
            (&[("type", "none"), ("device", "/srv"), ("o", "bind,noexec")], "`noexec`"),
            (&[("type", "ext4"), ("device", "/dev/x"), ("o", "dev")], "`dev`"),
        ] {
            let error = read(options).unwrap_err().to_string();
            assert!(error.contains(word), "{options:?}: {error}");
        }
    }

    #[test]
    fn servers_are_numbers_for_the_kernel() {
        assert_eq!(numeric("::1").unwrap(), "::1");
        assert!(["127.0.0.1", "::1"].contains(&numeric("localhost").unwrap().as_str()));
    }
}
