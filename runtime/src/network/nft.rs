//! The packet filter's own language: tables, chains and rules as data, and how netlink carries them. A table is owned by
//! its socket: when the last holder of the socket ends, however it ends, the kernel takes the table away.
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::links::{Prefixed, network_of, octets};
use super::netlink::{Batch, CREATE};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The family of tables that see IPv4 and IPv6.
const INET: u8 = 1;
const OWNED: u32 = 2;

/// A table as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) chains: Vec<Chain>,
}

/// Where in a packet's way its rules stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) place: Hook,
    pub(super) rules: Vec<Rule>,
}

/// The places that are used, in the packet's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// All that comes in, before anything is known of it.
    Raw,
    /// New connections that come in.
    Incoming,
    /// New connections of this machine.
    Output,
    /// What is passed on.
    Forward,
    /// New connections that leave.
    Leaving,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Hook::Raw => "raw",
            Hook::Incoming => "incoming",
            Hook::Output => "output",
            Hook::Forward => "forward",
            Hook::Leaving => "leaving",
        }
    }

    /// Number of the hook, priority, and kind of chain.
    fn kernel(self) -> (u32, i32, &'static str) {
        match self {
            Hook::Raw => (0, -300, "filter"),
            Hook::Incoming => (0, -100, "nat"),
            Hook::Output => (3, -100, "nat"),
            Hook::Forward => (2, 0, "filter"),
            Hook::Leaving => (4, 100, "nat"),
        }
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        })
    }
}

impl Transport {
    fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
}

/// What must hold of a packet, and what then happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule(Vec<Expression>);

/// One expression of the kernel's. Values are compared in register 1.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Meta(u32),
    Tracking(u32),
    /// Kind of the destination address.
    DestinationKind,
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    Mask(Vec<u8>),
    Compare(u32, Vec<u8>),
    Load(u32, Vec<u8>),
    Translate {
        family: u32,
        with_port: bool,
    },
    Masquerade,
    Drop,
}

const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
const IN_NAME: u32 = 6;
const OUT_NAME: u32 = 7;
const NETWORK_PROTOCOL: u32 = 15;
const TRANSPORT_PROTOCOL: u32 = 16;
const STATE: u32 = 0;
const STATUS: u32 = 2;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

impl Rule {
    fn with(mut self, expressions: impl IntoIterator<Item = Expression>) -> Rule {
        self.0.extend(expressions);
        self
    }

    pub(super) fn comes_from(self, device: &str) -> Rule {
        self.with([Expression::Meta(IN_NAME), Expression::Compare(EQUAL, name(device))])
    }

    pub(super) fn goes_to(self, device: &str) -> Rule {
        self.with([Expression::Meta(OUT_NAME), Expression::Compare(EQUAL, name(device))])
    }

    pub(super) fn does_not_go_to(self, device: &str) -> Rule {
        self.with([Expression::Meta(OUT_NAME), Expression::Compare(UNEQUAL, name(device))])
    }

    /// It belongs to no connection that is known.
    pub(super) fn unknown(self) -> Rule {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        self.lacks(STATE, ESTABLISHED_OR_RELATED)
    }

    /// It was not sent to a published port.
    pub(super) fn unpublished(self) -> Rule {
        const DESTINATION_TRANSLATED: u32 = 0x20;
        self.lacks(STATUS, DESTINATION_TRANSLATED)
    }

    /// It was sent to a published port.
    pub(super) fn published(self) -> Rule {
        const DESTINATION_TRANSLATED: u32 = 0x20;
        let mask = Expression::Mask(DESTINATION_TRANSLATED.to_ne_bytes().to_vec());
        self.with([Expression::Tracking(STATUS), mask, Expression::Compare(UNEQUAL, vec![0; 4])])
    }

    fn lacks(self, key: u32, bits: u32) -> Rule {
        let mask = Expression::Mask(bits.to_ne_bytes().to_vec());
        self.with([Expression::Tracking(key), mask, Expression::Compare(EQUAL, vec![0; 4])])
    }

    pub(super) fn source(self, network: Prefixed) -> Rule {
        self.family(network.address).address(network, false)
    }

    pub(super) fn destination(self, network: Prefixed) -> Rule {
        self.family(network.address).address(network, true)
    }

    /// It is for one of this machine's addresses of this family, and can be sent elsewhere: what is for the loopback of
    /// IPv6 cannot.
    pub(super) fn for_this_machine(self, family: IpAddr) -> Rule {
        const LOCAL: u32 = 2;
        let kind = Expression::Compare(EQUAL, LOCAL.to_ne_bytes().to_vec());
        let rule = self.family(family).with([Expression::DestinationKind, kind]);
        match family {
            IpAddr::V4(_) => rule,
            IpAddr::V6(_) => {
                let loopback = Expression::Compare(UNEQUAL, Ipv6Addr::LOCALHOST.octets().to_vec());
                rule.with([Expression::Payload { base: NETWORK_HEADER, offset: 24, length: 16 }, loopback])
            }
        }
    }

    fn family(self, address: IpAddr) -> Rule {
        let (family, _) = octets(address);
        self.with([Expression::Meta(NETWORK_PROTOCOL), Expression::Compare(EQUAL, vec![family])])
    }

    fn address(self, network: Prefixed, destination: bool) -> Rule {
        let (_, bytes) = octets(network_of(network));
        let length = bytes.len();
        let (source, size) = if network.address.is_ipv4() { (12, 4) } else { (8, 16) };
        let offset = if destination { source + size } else { source };
        let mut rule = self.with([Expression::Payload { base: NETWORK_HEADER, offset, length: size }]);
        if usize::from(network.length) < length * 8 {
            rule = rule.with([Expression::Mask(mask(network.length, length))]);
        }
        rule.with([Expression::Compare(EQUAL, bytes)])
    }

    /// It is for a port from `first` to `last`.
    pub(super) fn port(self, transport: Transport, first: u16, last: u16) -> Rule {
        let rule = self.with([
            Expression::Meta(TRANSPORT_PROTOCOL),
            Expression::Compare(EQUAL, vec![transport.number()]),
            Expression::Payload { base: TRANSPORT_HEADER, offset: 2, length: 2 },
        ]);
        let compare = |how, port: u16| Expression::Compare(how, port.to_be_bytes().to_vec());
        match first == last {
            true => rule.with([compare(EQUAL, first)]),
            false => rule.with([compare(AT_LEAST, first), compare(AT_MOST, last)]),
        }
    }

    /// It goes to this address, and to this port instead of its own.
    pub(super) fn translate(self, to: IpAddr, port: Option<u16>) -> Rule {
        let (family, bytes) = octets(to);
        let mut rule = self.with([Expression::Load(1, bytes)]);
        if let Some(port) = port {
            rule = rule.with([Expression::Load(2, port.to_be_bytes().to_vec())]);
        }
        rule.with([Expression::Translate { family: family.into(), with_port: port.is_some() }])
    }

    /// It seems to come from this machine's address on the device by which it leaves.
    pub(super) fn masquerade(self) -> Rule {
        self.with([Expression::Masquerade])
    }

    /// It goes no further.
    pub(super) fn drop(self) -> Rule {
        self.with([Expression::Drop])
    }
}

/// A device's name fills its register.
fn name(device: &str) -> Vec<u8> {
    let mut bytes = device.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn mask(length: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| {
            0xff_u8.checked_shl(8_u32.saturating_sub(u32::from(length).saturating_sub(at as u32 * 8))).unwrap_or(0)
        })
        .collect()
}

/// One transaction that makes a table, instead of the one of this name where `replaces` is set.
pub(super) fn transaction(table: &Table, replaces: bool) -> Batch {
    let mut batch = Batch::default();
    batch.message("a transaction", BATCH_BEGIN, 0, &transaction_head());
    if replaces {
        deletion(&mut batch, &table.name);
    }
    batch.message("making a table of the packet filter", NEW_TABLE, CREATE, &[INET, 0, 0, 0]);
    batch.put_text(1, &table.name).put_be32(2, OWNED);
    for chain in &table.chains {
        let (hook, priority, kind) = chain.place.kernel();
        batch.message("making a chain of the packet filter", NEW_CHAIN, CREATE, &[INET, 0, 0, 0]);
        batch.put_text(1, &table.name).put_text(3, chain.place.name());
        batch.nest(4, |place| {
            place.put_be32(1, hook).put_be32(2, priority as u32);
        });
        batch.put_text(7, kind);
    }
    for (chain, rule) in table.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule))) {
        const APPEND: u16 = 0x800;
        batch.message("making a rule of the packet filter", NEW_RULE, CREATE | APPEND, &[INET, 0, 0, 0]);
        batch.put_text(1, &table.name).put_text(2, chain.place.name());
        batch.nest(4, |list| rule.0.iter().for_each(|expression| expression.write(list)));
    }
    batch.message("a transaction", BATCH_END, 0, &transaction_head());
    batch
}

/// One transaction that takes a table away.
pub(super) fn removal(table: &str) -> Batch {
    let mut batch = Batch::default();
    batch.message("a transaction", BATCH_BEGIN, 0, &transaction_head());
    deletion(&mut batch, table);
    batch.message("a transaction", BATCH_END, 0, &transaction_head());
    batch
}

fn deletion(batch: &mut Batch, table: &str) {
    batch.message("removing a table of the packet filter", DELETE_TABLE, 0, &[INET, 0, 0, 0]).put_text(1, table);
}

fn transaction_head() -> [u8; 4] {
    let [high, low] = 10_u16.to_be_bytes();
    [0, 0, high, low]
}

impl Expression {
    fn write(&self, list: &mut Batch) {
        let element = |list: &mut Batch, name: &str, fill: &dyn Fn(&mut Batch)| {
            list.nest(1, |element| {
                element.put_text(1, name).nest(2, |data| fill(data));
            });
        };
        match self {
            Expression::Meta(key) => element(list, "meta", &|data| {
                data.put_be32(1, 1).put_be32(2, *key);
            }),
            Expression::Tracking(key) => element(list, "ct", &|data| {
                data.put_be32(1, 1).put_be32(2, *key);
            }),
            Expression::DestinationKind => element(list, "fib", &|data| {
                const KIND: u32 = 3;
                const OF_DESTINATION: u32 = 2;
                data.put_be32(1, 1).put_be32(2, KIND).put_be32(3, OF_DESTINATION);
            }),
            Expression::Payload { base, offset, length } => element(list, "payload", &|data| {
                data.put_be32(1, 1).put_be32(2, *base).put_be32(3, *offset).put_be32(4, *length);
            }),
            Expression::Mask(mask) => element(list, "bitwise", &|data| {
                data.put_be32(1, 1).put_be32(2, 1).put_be32(3, u32::try_from(mask.len()).unwrap_or(0));
                value(data, 4, mask);
                value(data, 5, &vec![0; mask.len()]);
            }),
            Expression::Compare(how, bytes) => element(list, "cmp", &|data| {
                data.put_be32(1, 1).put_be32(2, *how);
                value(data, 3, bytes);
            }),
            Expression::Load(register, bytes) => element(list, "immediate", &|data| {
                data.put_be32(1, *register);
                value(data, 2, bytes);
            }),
            Expression::Translate { family, with_port } => element(list, "nat", &|data| {
                const DESTINATION: u32 = 1;
                data.put_be32(1, DESTINATION).put_be32(2, *family).put_be32(3, 1);
                if *with_port {
                    data.put_be32(5, 2);
                }
            }),
            Expression::Masquerade => element(list, "masq", &|_| {}),
            Expression::Drop => element(list, "immediate", &|data| {
                data.put_be32(1, 0).nest(2, |data| {
                    data.nest(2, |verdict| {
                        verdict.put_be32(1, 0);
                    });
                });
            }),
        }
    }
}

fn value(data: &mut Batch, kind: u16, bytes: &[u8]) {
    data.nest(kind, |data| {
        data.put(1, bytes);
    });
}
