//! `dunnage pull`, and the pulls of other verbs.

use builder::Cancel;
use cache::{Image, Platform, Reference};
use registry::{Client, PullOptions, TransferEvent};

use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::{Engine, FetchOptions};

/// When an image is asked for at its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Even when it is here.
    Always,
    /// When it is not here.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// What to pull.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// A name; without tag and digest `latest`.
    pub name: String,
    /// All tags of the repository.
    pub all_tags: bool,
    /// Of an index, the image for this platform.
    pub platform: Option<Platform>,
}

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// As docker shows it.
    pub name: Reference,
    /// `sha256:…`
    pub id: String,
    /// What the name stands for at the registry.
    pub digest: String,
    /// It was here already.
    pub up_to_date: bool,
}

/// How an image that may be here is seen to.
#[derive(Clone, Copy)]
pub struct Supply<'a> {
    /// When it is pulled.
    pub policy: PullPolicy,
    /// For which platform it must be.
    pub platform: Option<&'a Platform>,
    /// How the network is reached.
    pub fetch: &'a FetchOptions,
    /// Hears that something is pulled, before it is.
    pub begins: &'a dyn Fn(&Reference),
    /// Hears how it goes.
    pub events: Transfers<'a>,
    /// Stops it.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for Supply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supply").field("policy", &self.policy).field("platform", &self.platform).finish_non_exhaustive()
    }
}

/// Told of transfers.
pub type Transfers<'a> = &'a (dyn Fn(TransferEvent) + Sync);

impl Engine {
    /// Pulls an image, or all of a repository.
    ///
    /// # Errors
    /// When a registry does not give it, with what to do; what was pulled before stays.
    pub fn pull(
        &self,
        request: &PullRequest,
        fetch: &FetchOptions,
        events: Transfers<'_>,
        cancel: &Cancel,
    ) -> Result<Vec<PulledImage>> {
        let reference = parse_name(&request.name)?;
        let client = fetch.registries(cancel)?;
        let mut names = vec![reference.clone()];
        if request.all_tags {
            let bare = request.name.split('/').next_back().unwrap_or(&request.name);
            if bare.contains([':', '@']) {
                return Err(Error::Usage("--all-tags takes a name without tag and digest".to_owned()));
            }
            let doing = format!("list the tags of {}", reference.familiar_name());
            let tags = client.repository(&reference, &doing)?.tags()?;
            names = tags.iter().map(|tag| reference.with_tag(tag)).collect::<Result<_, _>>()?;
        }
        names.iter().map(|name| self.pull_one(&client, name, request.platform.as_ref(), events)).collect()
    }

    fn pull_one(
        &self,
        client: &Client,
        name: &Reference,
        platform: Option<&Platform>,
        events: Transfers<'_>,
    ) -> Result<PulledImage> {
        let lease = self.store.lease()?;
        let options = PullOptions { platform: platform.cloned() };
        let pulled = registry::pull(client, &self.store, &lease, name, &options, events)?;
        Ok(PulledImage {
            name: name.clone(),
            id: pulled.image.id.to_string(),
            digest: pulled.digest.to_string(),
            up_to_date: pulled.up_to_date,
        })
    }

    /// Sees to it that an image is here, as far as the policy allows.
    ///
    /// # Errors
    /// When it is neither here nor to be had.
    pub fn ensure_image(&self, text: &str, supply: &Supply<'_>) -> Result<()> {
        let here = self.store.find_image(text);
        if let Ok(image) = &here
            && supply.policy != PullPolicy::Always
            && supply.platform.is_none_or(|wanted| is_for(image, wanted))
        {
            return Ok(());
        }
        let name = text.parse::<Reference>().ok();
        match (here, name) {
            // What is here under its id has no registry that it could come from.
            (Ok(image), Some(name)) if self.store.resolve(&name)?.as_ref() != Some(&image.id) => Ok::<_, Error>(()),
            (Ok(_), None) => Ok(()),
            (Err(error), _) if supply.policy == PullPolicy::Never => Err(error.into()),
            (Ok(_) | Err(cache::Error::ImageNotFound { .. }), Some(name)) => self.ensure_reference(&name, supply),
            (Err(error), _) => Err(error.into()),
        }?;
        let image = self.find_image(text)?;
        match supply.platform {
            Some(wanted) if !is_for(&image, wanted) => Err(Error::WrongState(format!(
                "image `{text}` is for {}/{}, and not for {wanted}: pull it with --pull always",
                image.config.os, image.config.architecture
            ))),
            _ => Ok(()),
        }
    }

    /// The same of a name.
    pub(crate) fn ensure_reference(&self, name: &Reference, supply: &Supply<'_>) -> Result<()> {
        let Supply { policy, platform, fetch, begins, events, cancel } = *supply;
        let here = match self.store.resolve(name)? {
            Some(id) => self.store.image(&id)?,
            None => None,
        };
        let fits = here.is_some_and(|image| platform.is_none_or(|wanted| is_for(&image, wanted)));
        if policy == PullPolicy::Never || (policy == PullPolicy::Missing && fits) {
            return Ok(());
        }
        begins(name);
        self.pull_one(&fetch.registries(cancel)?, name, platform, events).map(drop)
    }
}

fn is_for(image: &Image, platform: &Platform) -> bool {
    image.config.os == platform.os
        && image.config.architecture == platform.architecture
        && (platform.variant.is_none() || image.config.variant.is_none() || image.config.variant == platform.variant)
}
