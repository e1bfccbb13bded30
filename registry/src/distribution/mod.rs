//! The distribution protocol (OCI distribution-spec 1.1, Docker registry API 2), as a client of it.
//!
//! [`Client`] knows the settings; a [`Repository`] is one repository at one registry: manifests, blobs, tags, referrers.
//! [`pull`] and [`push`] plan what moves, and move it.

mod auth;
mod blob;
mod challenge;
mod copy;
mod endpoint;
mod entries;
mod inline;
mod outbound;
mod pull;
mod push;
mod push_built;
mod ranges;
mod refusal;
mod remote_cache;
mod repository;
mod search;
mod throttle;
mod upload;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cache::Reference;

use crate::error::{Error, Result};
use crate::http::HttpOptions;
use crate::settings::{EndpointSettings, Settings};
use endpoint::Endpoint;
use throttle::Shared;

pub use auth::Credential;
pub use copy::copy_manifest;
pub use entries::{push_index, remote_entries};
pub(crate) use outbound::oci_type;
pub use pull::{PullOptions, Pulled, RemoteImage, pull, remote_image};
pub(crate) use pull::{choose, put_blob};
pub use push::{PushOptions, Pushed, push, push_untagged};
pub(crate) use push::{manifest as own_manifest, original};
pub use push_built::push_built;
pub use refusal::{Cause, Refusal};
pub use remote_cache::RegistryCache;
pub use repository::{RemoteManifest, Repository, wanted};
pub use search::Found;

/// Who we are at registries.
pub trait Credentials: Send + Sync {
    /// For a repository at a host; `docker.io` is docker's own registry.
    ///
    /// # Errors
    /// When what should know cannot be asked.
    fn credential(&self, host: &str, repository: &str) -> Result<Option<Credential>>;
}

/// What a transfer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferEvent {
    /// A blob is about to move, or does not have to.
    Blob {
        /// The hexadecimal beginning of its digest, or of the layer's own where it has none yet.
        id: String,
        /// What becomes of it.
        state: BlobState,
        /// Its bytes, where they are known.
        size: Option<u64>,
    },
    /// So many bytes of a blob more.
    Bytes {
        /// As above.
        id: String,
        /// How many.
        count: u64,
    },
    /// Something worth a line.
    Note(String),
}

/// What becomes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobState {
    /// It will move.
    Waiting,
    /// It moves.
    Moving,
    /// It is there already.
    Present,
    /// It was taken over from another repository of the same registry.
    Mounted(String),
    /// It has moved.
    Done,
}

/// Clients of registries, as the settings want them.
pub struct Client {
    http: HttpOptions,
    settings: Settings,
    credentials: Box<dyn Credentials>,
    shared: Shared,
    endpoints: Mutex<Vec<Arc<Known>>>,
}

struct Known {
    credential: Option<Credential>,
    endpoint: Arc<Endpoint>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is asked before something is wanted. `cancelled` is looked at between pieces.
    pub fn new(
        http: HttpOptions,
        settings: Settings,
        credentials: Box<dyn Credentials>,
        cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Client {
        let shared = Shared::new(cancelled, settings.transfers().bandwidth);
        Client { http, settings, credentials, shared, endpoints: Mutex::default() }
    }

    /// How transfers are done.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The repository that a name means, at its registry itself.
    ///
    /// # Errors
    /// When the settings block it, or cannot be used.
    pub fn repository(&self, reference: &Reference, doing: &str) -> Result<Repository> {
        let mut all = self.repositories(reference, doing)?;
        all.pop().ok_or_else(|| Error::Network("a registry has no place".to_owned()))
    }

    /// All places where a name is asked for: mirrors, then the registry itself.
    pub(crate) fn repositories(&self, reference: &Reference, doing: &str) -> Result<Vec<Repository>> {
        self.refuse_blocked(reference, doing)?;
        let settings = self.settings.endpoints(reference)?;
        settings.into_iter().map(|settings| self.open(settings, None, reference, doing)).collect()
    }

    fn refuse_blocked(&self, reference: &Reference, doing: &str) -> Result<()> {
        match self.settings.blocked_by(reference) {
            None => Ok(()),
            Some(file) => Err(Error::Refused(Box::new(Refusal {
                doing: doing.to_owned(),
                registry: reference.registry().to_owned(),
                cause: Cause::Blocked(file.display().to_string()),
            }))),
        }
    }

    /// Checks a credential at a registry.
    ///
    /// # Errors
    /// When the registry does not take it, or cannot be asked.
    pub fn log_in(&self, host: &str, credential: &Credential) -> Result<()> {
        let name: Reference = format!("{host}/login").parse()?;
        let settings = self.settings.endpoints(&name)?.pop().unwrap_or_default();
        let doing = format!("log in to {host}");
        let repository = self.open(settings, Some(credential.clone()), &name, &doing)?;
        repository.endpoint.check().map_err(|cause| repository.refused(cause))
    }

    fn open(
        &self,
        settings: EndpointSettings,
        given: Option<Credential>,
        reference: &Reference,
        doing: &str,
    ) -> Result<Repository> {
        let credential = match given {
            Some(credential) => Some(credential),
            None => self.credentials.credential(&settings.host, &settings.repository)?,
        };
        let name = settings.repository.clone();
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let known = endpoints.iter().find(|known| {
            let there = &known.endpoint.settings;
            there.host == settings.host && there.insecure == settings.insecure && known.credential == credential
        });
        let endpoint = match known {
            Some(known) => Arc::clone(&known.endpoint),
            None => {
                let endpoint = Endpoint::new(&self.http, settings, credential.clone(), self.shared.clone())?;
                let endpoint = Arc::new(endpoint);
                endpoints.push(Arc::new(Known { credential, endpoint: Arc::clone(&endpoint) }));
                endpoint
            }
        };
        Ok(Repository { endpoint, name, place: reference.place(), doing: doing.to_owned() })
    }
}
