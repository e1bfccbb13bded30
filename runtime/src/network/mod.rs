//! Networks of containers, made of kernel objects that die with their holders: nothing is left to clean when a process is
//! killed, and nothing is written down that could be stale.
//!
//! ```text
//!  host                              namespace of the network              namespace of a container
//!   │ dn-12345678 ═══════ cable ═══════ uplink ─┐
//!   │ 10.88.0.1                                 ├─ bridge ─ port ═══ cable ═══ eth0 10.88.0.2
//!   │ table dunnage-12345678                    │                              127.0.0.11: names
//! ```
//! A `Bridge` is a namespace and a socket that owns a table of the packet filter, both shared by all who have a container
//! on it. The last of them to end, by whatever means, takes bridge, cables and rules along.
//!
//! Without root the host's part is played by a namespace of the user's (`engine/src/networks/realm.rs`), and published ports
//! are carried by a `Proxy`.
mod bridge;
mod dns;
mod firewall;
mod links;
mod namespace;
mod netlink;
mod nft;
mod ports;
mod proxy;
mod pump;
mod share;
mod survey;
mod worker;

pub use bridge::{Bridge, BridgeHandle, BridgeOptions, Port, leave, probe_networks};
pub use dns::{Known, Names, RESOLVER, Resolver};
pub use links::Prefixed;
pub use namespace::{NamespaceAhead, NamespaceLock, NetworkNamespace};
pub use nft::Transport;
pub use ports::{MOST_PORTS, Published, PublishedPort, ReservedPorts};
pub use share::{end_with_last_copy, share_descriptor};
pub use survey::{Survey, overlap};
