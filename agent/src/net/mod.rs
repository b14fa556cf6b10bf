//! Network access: listeners, the TLS files and the token.

pub mod credentials;
pub mod listener;
pub mod tls;
