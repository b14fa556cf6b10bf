//! Network access: listeners, peers, connection limits, TLS and the credentials that may change at run time.

pub mod cidr;
pub mod credentials;
pub mod inherited;
pub mod limits;
pub mod listener;
pub mod occupied;
pub mod peer;
pub mod quota;
pub mod tls;
pub mod wrong_tokens;
