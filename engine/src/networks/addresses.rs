//! Which addresses: of a network that nobody gave any, and of a container on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cache::{EndpointRecord, NetworkSubnet};
use runtime::network::{Prefixed, Survey, overlap};

use crate::error::{Error, Result};

/// Networks that are chosen from: the default one, then those that are made by name. Private, and away from what clouds,
/// clusters and other engines take.
const DEFAULT_POOL: [(u8, u8); 2] = [(201, 205), (218, 222)];
const NAMED_POOL: (u8, u8) = (206, 217);
const NAMED_LENGTH: u8 = 24;
const DEFAULT_LENGTH: u8 = 16;
const IPV6_LENGTH: u8 = 64;
/// Addresses of a range that are looked through for a free one.
const MOST_TRIED: u128 = 1 << 16;

/// The network of an address and length.
pub(super) fn prefixed(subnet: &NetworkSubnet) -> Prefixed {
    Prefixed { address: subnet.address, length: subnet.length }
}

/// An IPv4 network that neither the host nor another network has.
pub(super) fn free_subnet(default: bool, survey: &Survey, own: &str, taken: &[Prefixed]) -> Result<NetworkSubnet> {
    let candidates: Box<dyn Iterator<Item = Prefixed>> = if default {
        let second = DEFAULT_POOL.into_iter().flat_map(|(first, last)| first..=last);
        Box::new(second.map(|second| network(second, 0, DEFAULT_LENGTH)))
    } else {
        let (first, last) = NAMED_POOL;
        Box::new((first..=last).flat_map(|second| (0..=255).map(move |third| network(second, third, NAMED_LENGTH))))
    };
    let mut free = candidates
        .filter(|candidate| !taken.iter().any(|taken| overlap(*taken, *candidate)))
        .filter(|candidate| survey.is_free(*candidate, own));
    let found = free
        .next()
        .ok_or_else(|| Error::Usage("no private network is free on this machine: give one with --subnet".to_owned()))?;
    Ok(subnet(found))
}

fn network(second: u8, third: u8, length: u8) -> Prefixed {
    Prefixed { address: Ipv4Addr::new(10, second, third, 0).into(), length }
}

/// A unique local network out of a network's id: nobody else has it.
pub(super) fn local_subnet(id: &str) -> NetworkSubnet {
    let digits = id.get(..14).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let bits = (0xfd_u128 << 120) | (u128::from(digits) << 64);
    subnet(Prefixed { address: Ipv6Addr::from_bits(bits).into(), length: IPV6_LENGTH })
}

/// A network with its first address as the host's.
pub(super) fn subnet(network: Prefixed) -> NetworkSubnet {
    let (gateway, length) = (offset(network, 1), network.length);
    NetworkSubnet { address: network.address, length, gateway, range: None }
}

/// Reads `ADDRESS/LENGTH`; what follows the prefix must be zeros.
pub(super) fn read_subnet(text: &str) -> Result<Prefixed> {
    let bad = || Error::Usage(format!("`{text}` is no network: write it as 10.1.0.0/24 or fd00:1::/64"));
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length: u8 = length.parse().ok().filter(|length| (1..=longest).contains(length)).ok_or_else(bad)?;
    let network = Prefixed { address, length };
    let first = first_of(network);
    if first != address {
        return Err(Error::Usage(format!("`{text}` is an address in a network: the network is {first}/{length}")));
    }
    if longest - length < 2 {
        return Err(Error::Usage(format!("the network {text} has no room for containers: take a shorter prefix")));
    }
    Ok(network)
}

/// Whether a network has this address.
pub(super) fn contains(network: Prefixed, address: IpAddr) -> bool {
    let length = if address.is_ipv4() { 32 } else { 128 };
    overlap(network, Prefixed { address, length })
}

fn first_of(network: Prefixed) -> IpAddr {
    match network.address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(network.length.into()).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & !host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(network.length.into()).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & !host).into()
        }
    }
}

/// How many addresses a network has beside its first.
fn last_offset(network: Prefixed) -> u128 {
    let bits = if network.address.is_ipv4() { 32 } else { 128 };
    u128::MAX.checked_shr(128 - (bits - u32::from(network.length))).unwrap_or(0)
}

fn offset(network: Prefixed, by: u128) -> IpAddr {
    match first_of(network) {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits().wrapping_add(u32::try_from(by).unwrap_or(0))).into()
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_add(by)).into(),
    }
}

/// An address for a container: the one that is asked for, or the lowest that is free.
pub(super) fn choose(
    network: &str,
    subnet: &NetworkSubnet,
    wanted: Option<IpAddr>,
    others: &[EndpointRecord],
) -> Result<IpAddr> {
    let whole = prefixed(subnet);
    let last = offset(whole, last_offset(whole));
    let holder = |address: IpAddr| others.iter().find(|other| other.addresses.contains(&address));
    let reserved = |address: IpAddr| {
        address == subnet.gateway || address == subnet.address || (address.is_ipv4() && address == last)
    };
    if let Some(address) = wanted {
        if !contains(whole, address) || reserved(address) {
            return Err(Error::Usage(format!(
                "{address} is no address for a container in network `{network}`: it is {}/{}, and {} is the host's",
                subnet.address, subnet.length, subnet.gateway
            )));
        }
        return match holder(address) {
            Some(holder) => {
                Err(Error::Usage(format!("{address} is taken by container `{}`: choose another", holder.shown_name())))
            }
            None => Ok(address),
        };
    }
    let range = subnet.range.map_or(whole, |(address, length)| Prefixed { address, length });
    let candidates = (0..=last_offset(range).min(MOST_TRIED)).map(|by| offset(range, by));
    candidates.into_iter().find(|address| !reserved(*address) && holder(*address).is_none()).ok_or_else(|| {
        Error::Usage(format!(
            "network `{network}` has no free address any more: remove containers, or make a larger one"
        ))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> EndpointRecord {
        EndpointRecord {
            container: "c".repeat(64),
            name: Some("holder".to_owned()),
            aliases: Vec::new(),
            addresses: vec![address.parse().unwrap()],
            mac: String::new(),
            ports: Vec::new(),
            hold: serde_json::Value::Null,
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for good in ["10.1.0.0/24", "0.0.0.0/1", "fd00:1::/64", "10.0.0.0/30"] {
            read_subnet(good).unwrap();
        }
        for bad in ["", "10.1.0.0", "10.1.0.0/33", "10.1.0.1/24", "10.1.0.0/31", "x/24", "10.1.0.0/0", "fd00::/129"] {
            assert!(read_subnet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_lowest_free_address_is_chosen() {
        let subnet = subnet(read_subnet("10.1.0.0/29").unwrap());
        assert_eq!(subnet.gateway.to_string(), "10.1.0.1");
        let mut others = Vec::new();
        for last in 2..=6 {
            let chosen = choose("n", &subnet, None, &others).unwrap();
            assert_eq!(chosen.to_string(), format!("10.1.0.{last}"));
            others.push(endpoint(&chosen.to_string()));
        }
        assert!(choose("n", &subnet, None, &others).unwrap_err().to_string().contains("no free address"));
        let wanted = |text: &str| choose("n", &subnet, Some(text.parse().unwrap()), &others);
        assert!(wanted("10.1.0.3").unwrap_err().to_string().contains("`holder`"));
        for bad in ["10.1.0.1", "10.1.0.0", "10.1.0.7", "10.2.0.2"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
        let range = NetworkSubnet { range: Some(("10.1.0.4".parse().unwrap(), 30)), ..subnet };
        assert_eq!(choose("n", &range, None, &[]).unwrap().to_string(), "10.1.0.4");
    }

    #[test]
    fn local_networks_come_out_of_the_id() {
        let one = local_subnet(&"ab".repeat(32));
        assert_eq!((one.address.to_string().as_str(), one.length), ("fdab:abab:abab:abab::", 64));
        assert_eq!(one.gateway.to_string(), "fdab:abab:abab:abab::1");
        assert_ne!(one, local_subnet(&"12".repeat(32)));
    }
}
