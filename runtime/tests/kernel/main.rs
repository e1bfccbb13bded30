//! Sandboxes against a real kernel. They need root for mounts and namespaces, and a static busybox; elsewhere they say that they are skipped.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod cgroups;
mod fixture;
mod join;
mod mounts;
mod names;
mod network;
mod process;
mod users;
mod walls;
