//! The engine of one client, kept alive by every Python object that came from that client.

use discover_core::embed::{Engine, Error};

/// The engine of one client and its URL.
pub(crate) struct Owner {
    engine: Engine,
    url: String,
}

impl Owner {
    /// Takes ownership of an open engine.
    ///
    /// # Errors
    ///
    /// `Forked` and `Closed`, as [`Engine::url`].
    pub(crate) fn new(engine: Engine) -> Result<Owner, Error> {
        let url = engine.url()?;
        Ok(Owner { engine, url })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The URL of the registry, with secrets redacted.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
