//! A container that runs comes onto a network, or leaves one: `network connect` and `disconnect`.

use runtime::network::Bridge;

use super::attach::{Attachment, Joining, reachable, scopes, short, upstreams, words};
use super::spec::Membership;
use crate::Engine;
use crate::error::{Error, Result};

impl Attachment {
    /// Puts the container on a network more.
    ///
    /// # Errors
    /// When it is on it already, or an address is taken.
    pub(crate) fn connect(&mut self, engine: &Engine, (id, name): (&str, &str), membership: &Membership) -> Result<()> {
        engine.ensure_network(&membership.network)?;
        let taken = |number: &u16| self.links.iter().any(|link| link.port.number == *number);
        let number = (0..u16::MAX).find(|number| !taken(number)).unwrap_or(u16::MAX);
        let ports = words(self.published.ports());
        let joining = Joining { id, name, membership, number, ports: &ports };
        let leads_out = !self.links.iter().any(|link| link.leads_out);
        let (link, endpoint) = engine.join(&joining, &self.namespace, leads_out, self.realm.as_ref())?;
        let before = reachable(&self.links);
        self.links.push(link);
        self.endpoints.push(endpoint);
        self.follow(id, &before)
    }

    /// Takes it off one.
    ///
    /// # Errors
    /// When it is not on it.
    pub(crate) fn disconnect(&mut self, (id, name): (&str, &str), network: &str) -> Result<()> {
        let at = self.links.iter().position(|link| link.network == network);
        let at = at.ok_or_else(|| Error::NotOnNetwork { name: name.to_owned(), network: network.to_owned() })?;
        let before = reachable(&self.links);
        // Nobody is to find what is no longer there.
        drop(self.endpoints.remove(at));
        let link = self.links.remove(at);
        link.bridge.disconnect(&link.port.label)?;
        if link.leads_out
            && let Some(next) = self.links.iter_mut().find(|link| !link.port.gateways.is_empty())
        {
            Bridge::lead_out(&self.namespace, &next.port)?;
            next.leads_out = true;
        }
        self.follow(id, &before)
    }

    /// Names and published ports follow.
    fn follow(&mut self, id: &str, before: &[std::net::IpAddr]) -> Result<()> {
        self.scope.set(scopes(&self.links), upstreams(&self.links, &self.servers));
        let now = reachable(&self.links);
        let first = |own: &[std::net::IpAddr], ipv4| own.iter().copied().find(|address| address.is_ipv4() == ipv4);
        if [true, false].into_iter().any(|kind| first(before, kind) != first(&now, kind)) {
            self.published.redirect(short(id), &now)?;
        }
        Ok(())
    }
}
