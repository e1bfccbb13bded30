//! Moving images between stores: docker archives and OCI layouts, both ways.
//!
//! The formats are documents that name blobs by digest; [`read`](load) verifies every one of them, [`save`] writes
//! them in a fixed order with fixed times, so that the same images give the same bytes.
#![forbid(unsafe_code)]

mod documents;
mod error;
mod load;
mod save;

pub use error::{Error, Result};
pub use load::{Loaded, load, load_directory};
pub use save::{ArchiveFormat, LayerCompression, NamedImage, SaveOptions, save, save_directory};
