//! `dunnage registry serve`: the store as a registry.

use builder::Cancel;
use registry::{ServeEvent, ServeOptions};

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// Serves until it is cancelled, then lets requests under way end.
    ///
    /// # Errors
    /// When the address cannot be listened on, or a file of the options cannot be used.
    pub fn serve(
        &self,
        options: &ServeOptions,
        cancel: &Cancel,
        events: Box<dyn Fn(ServeEvent) + Send + Sync>,
    ) -> Result<()> {
        Ok(registry::serve(&self.store, options, &|| cancel.is_cancelled(), events)?)
    }
}
