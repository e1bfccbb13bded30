//! `dunnage bootstrap`: a base image with no registry at hand.

mod busybox;
mod debian;
mod host;
mod rootfs;

use std::str::FromStr;

use cache::{History, Platform};

use crate::Engine;
use crate::archives::of_one_layer;
use crate::error::{Error, Result};
use crate::images::parse_name;

/// PATH of the images made here.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a base is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootstrapBase {
    /// The shell and the usual programs of this machine, with the libraries that they need.
    Host,
    /// A static busybox found on PATH.
    Busybox,
    /// Debian packages of a suite, by mmdebstrap or debootstrap.
    Debian {
        /// `bookworm` …
        suite: String,
    },
}

impl FromStr for BootstrapBase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("host", "") => Ok(BootstrapBase::Host),
            ("busybox", "") => Ok(BootstrapBase::Busybox),
            ("debian", suite) if is_suite(suite) => Ok(BootstrapBase::Debian { suite: suite.to_owned() }),
            ("debian", "") => Err(Error::Usage("name the suite, as in debian:bookworm".to_owned())),
            _ => Err(Error::Usage(format!(
                "`{text}` is no base: it must be host, busybox, or debian and a suite, as in debian:bookworm"
            ))),
        }
    }
}

/// A suite becomes an argument of another program: letters, digits and dashes, and no dash first.
fn is_suite(suite: &str) -> bool {
    suite.starts_with(|c: char| c.is_ascii_lowercase())
        && suite.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Where programs of this machine are looked for: the caller's PATH.
#[derive(Debug, Clone, Default)]
pub struct SearchPath(pub Vec<std::path::PathBuf>);

impl SearchPath {
    pub(crate) fn find(&self, name: &str) -> Option<std::path::PathBuf> {
        self.0.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
    }
}

impl Engine {
    /// Makes a base image and gives its id. The same machine gives the same image again.
    ///
    /// # Errors
    /// When a program that is needed is not there, or fails.
    pub fn bootstrap(
        &self,
        name: &str,
        base: &BootstrapBase,
        path: &SearchPath,
        events: &dyn Fn(String),
    ) -> Result<String> {
        let name = parse_name(name)?;
        let lease = self.store.lease()?;
        let (layer, made_by) = match base {
            BootstrapBase::Host => {
                (self.pack(&lease, &host::rootfs(path, events)?)?, "this machine's programs".to_owned())
            }
            BootstrapBase::Busybox => (self.pack(&lease, &busybox::rootfs(path)?)?, "busybox".to_owned()),
            BootstrapBase::Debian { suite } => {
                (debian::layer(&self.store, &lease, suite, path, events)?, format!("Debian {suite}"))
            }
        };
        let history = History { created_by: Some(format!("dunnage bootstrap: {made_by}")), ..History::default() };
        let mut config = of_one_layer(Platform::host(), layer.diff_id, history);
        config.config.env.push(PATH.to_owned());
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        Ok(self.store.put_image(&lease, &config, &[name])?.id.to_string())
    }

    fn pack(&self, lease: &cache::Lease, rootfs: &rootfs::RootfsPlan) -> Result<cache::Layer> {
        let draft = lease.draft();
        let mut file = std::fs::File::create_new(&draft).map_err(|error| Error::file("write", &draft, error))?;
        rootfs.write_tar(&mut file)?;
        let file = std::fs::File::open(&draft).map_err(|error| Error::file("read", &draft, error))?;
        Ok(self.store.import_layer(lease, file, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_parsed_and_suites_are_no_options() {
        assert!(matches!("debian:bookworm".parse(), Ok(BootstrapBase::Debian { suite }) if suite == "bookworm"));
        assert!(matches!("host".parse(), Ok(BootstrapBase::Host)));
        for bad in ["debian", "debian:--x", "debian:a b", "alpine", "host:x"] {
            assert!(bad.parse::<BootstrapBase>().is_err(), "{bad}");
        }
    }
}
