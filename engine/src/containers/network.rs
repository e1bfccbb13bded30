//! The network of a container: what `--network` names becomes a namespace and files of /etc, and is given back at the end.

use runtime::{EtcFiles, NetworkMode};

use super::spec::{ContainerSpec, NetworkChoice};
use crate::error::Result;

/// A network that is ready for a container, for as long as this lives.
#[derive(Debug)]
pub(super) struct Network {
    mode: NetworkMode,
    files: EtcFiles,
}

impl Network {
    /// Makes it ready.
    pub(super) fn prepare(spec: &ContainerSpec) -> Result<Network> {
        let mode = match spec.network {
            NetworkChoice::None => NetworkMode::None,
            NetworkChoice::Host => NetworkMode::Host,
        };
        Ok(Network { mode, files: EtcFiles::default() })
    }

    /// What the sandbox joins.
    pub(super) fn mode(&self) -> NetworkMode {
        self.mode.clone()
    }

    /// /etc/hosts and /etc/resolv.conf; what is empty is written by the runtime.
    pub(super) fn files(&self) -> EtcFiles {
        self.files.clone()
    }
}
