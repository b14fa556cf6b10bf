//! Messages about failed connections: which endpoint, what went wrong, and what to do about it.
//!
//! The errors of sockets, TLS and HTTP libraries come in layers whose texts are made for programmers. This
//! module looks through the layers for the one that decides, and writes the message from that one alone.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::CertificateError;

use crate::error::{Error, ErrorKind};

/// The server at the other end of a connection, as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The program that is expected to listen there: `etcd` or `discoverd`.
    pub(crate) product: &'static str,
    /// One or more addresses, or the path of a socket.
    pub(crate) endpoint: String,
    /// What the program is expected to speak there, for example `HTTP/2 (gRPC)`.
    pub(crate) protocol: &'static str,
    /// Whether the connection uses TLS.
    pub(crate) tls: bool,
    /// Whether this side presents a certificate.
    pub(crate) client_certificate: bool,
    /// How to connect without TLS, or with TLS if the connection is without: `write etcd:// instead of etcds://`.
    pub(crate) toggle_tls: &'static str,
    /// Where else the user may have wanted to connect, if the port turns out to be another program's.
    pub(crate) other_schemes: &'static str,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.endpoint)
    }
}

/// How far a connection got before it failed. Early failures suggest a wrong address or protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Connecting, or waiting for the first response.
    Opening,
    /// In the TLS handshake.
    TlsHandshake,
    /// After the first response.
    Established,
}

/// What went wrong, and what to do about it.
struct Diagnosis {
    cause: String,
    remedy: Option<String>,
}

impl Diagnosis {
    fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Diagnosis {
        Diagnosis {
            cause: cause.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn without_remedy(cause: impl Into<String>) -> Diagnosis {
        Diagnosis {
            cause: cause.into(),
            remedy: None,
        }
    }
}

impl Peer {
    /// Builds the error of a failed connection or request. The message replaces the texts of `error`.
    pub(crate) fn error(
        &self,
        kind: ErrorKind,
        phase: Phase,
        error: &(dyn StdError + 'static),
    ) -> Error {
        let Diagnosis { cause, remedy } = self.diagnose(phase, error);
        match remedy {
            Some(remedy) => self.refusal(kind, &cause, &remedy),
            None => Error::new(kind, format!("{self}: {cause}")),
        }
    }

    /// Builds an error from a cause and its remedy.
    pub(crate) fn refusal(&self, kind: ErrorKind, cause: &str, remedy: &str) -> Error {
        Error::new(kind, format!("{self}: {cause} ({remedy})"))
    }

    /// Builds the error of a server that answers, but not in the expected protocol.
    pub(crate) fn wrong_protocol(&self, kind: ErrorKind) -> Error {
        let Diagnosis { cause, remedy } = self.diagnose_wrong_protocol();
        self.refusal(kind, &cause, &remedy.unwrap_or_default())
    }

    fn diagnose(&self, mut phase: Phase, error: &(dyn StdError + 'static)) -> Diagnosis {
        let mut last = None;
        let mut closed = false;
        for layer in layers(error) {
            if let Some(error) = layer.downcast_ref::<rustls::Error>() {
                return self.diagnose_tls(error);
            }
            if is_protocol_error(layer) {
                return match self.tls || phase == Phase::Established {
                    false => self.diagnose_unclear(),
                    true => self.diagnose_wrong_protocol(),
                };
            }
            if let Some(error) = layer.downcast_ref::<io::Error>() {
                match error.kind() {
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof => closed = true,
                    _ if error.get_ref().is_none() || is_resolver_error(error) => {
                        return self.diagnose_io(error);
                    }
                    _ => {}
                }
            }
            let text = layer.to_string();
            // HTTP/2 keeps the text of TLS errors only.
            if let Some((_, alert)) = text.split_once("received fatal alert: ") {
                return self.diagnose_alert(alert.trim());
            }
            if text.contains("tls handshake eof") {
                phase = Phase::TlsHandshake;
            }
            closed |= is_closed_connection(layer);
            last = Some(text);
        }
        match (closed, phase) {
            (true, Phase::TlsHandshake) => Diagnosis::new(
                "the server closed the connection during the TLS handshake",
                format!("if it does not use TLS, {}", self.toggle_tls),
            ),
            // A server that refuses a certificate closes the connection after the handshake. Its alert may be lost.
            (true, Phase::Opening) if self.tls => Diagnosis::new(
                "the server closed the connection before it answered",
                match self.client_certificate {
                    true => {
                        "the option cert must name a client certificate that the server accepts"
                    }
                    false => "if it requires a client certificate, set the options cert and key",
                },
            ),
            (true, Phase::Opening) => self.diagnose_unclear(),
            (true, Phase::Established) => Diagnosis::without_remedy("the connection was closed"),
            (false, _) => Diagnosis::without_remedy(
                last.unwrap_or_else(|| "the connection failed".to_owned()),
            ),
        }
    }

    fn diagnose_io(&self, error: &io::Error) -> Diagnosis {
        let product = self.product;
        let is_socket_path = self.endpoint.starts_with('/');
        match error.kind() {
            io::ErrorKind::ConnectionRefused if is_socket_path => Diagnosis::new(
                "connection refused",
                format!("is {product} running? the socket may be left over from an earlier run"),
            ),
            io::ErrorKind::ConnectionRefused => Diagnosis::new(
                "connection refused",
                format!("is {product} running there? check the address in the URL"),
            ),
            io::ErrorKind::NotFound if is_socket_path => Diagnosis::new(
                "the socket does not exist",
                format!("is {product} running? check the path in the URL"),
            ),
            io::ErrorKind::PermissionDenied if is_socket_path => Diagnosis::new(
                "no permission to use the socket",
                format!(
                    "run as a user whom the permissions of the socket admit, or change {product}'s settings"
                ),
            ),
            io::ErrorKind::TimedOut => Diagnosis::new(
                "no answer to the connection attempt",
                "check the address in the URL, the network and firewalls",
            ),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Diagnosis::new(
                "the host is unreachable",
                "check the address in the URL and the network",
            ),
            _ if is_resolver_error(error) => {
                let text = error.to_string();
                let detail = text.rsplit(": ").next().unwrap_or_default();
                match detail.contains("emporary") {
                    true => Diagnosis::new(
                        format!("cannot resolve the host name: {detail}"),
                        "check the host in the URL and this machine's name service",
                    ),
                    false => Diagnosis::new(
                        format!("unknown host: {detail}"),
                        "check the host in the URL",
                    ),
                }
            }
            _ => Diagnosis::without_remedy(error.to_string()),
        }
    }

    fn diagnose_tls(&self, error: &rustls::Error) -> Diagnosis {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => diagnose_certificate(error),
            E::AlertReceived(alert) => self.diagnose_alert(&format!("{alert:?}")),
            E::InvalidMessage(_) => Diagnosis::new("the server does not use TLS", self.toggle_tls),
            E::PeerIncompatible(_) => Diagnosis::new(
                "the server supports no TLS version and cipher of this client",
                "TLS 1.2 or 1.3 is required",
            ),
            error => Diagnosis::without_remedy(format!("TLS failed: {error}")),
        }
    }

    /// Diagnoses a TLS alert of the server, by the name of its description.
    fn diagnose_alert(&self, alert: &str) -> Diagnosis {
        match alert {
            "CertificateRequired"
            | "NoCertificate"
            | "BadCertificate"
            | "CertificateUnknown"
            | "UnsupportedCertificate"
            | "AccessDenied" => match self.client_certificate {
                true => Diagnosis::new(
                    "the server refused the client certificate",
                    "the option cert must name a valid certificate from an authority that the server trusts",
                ),
                false => Diagnosis::new(
                    "the server requires a client certificate",
                    "set the options cert and key",
                ),
            },
            "UnknownCA" => Diagnosis::new(
                "the server does not know the authority of the client certificate",
                "the option cert must name a certificate from an authority that the server trusts",
            ),
            "CertificateExpired" => Diagnosis::new(
                "the client certificate has expired",
                "renew the files that the options cert and key name",
            ),
            "HandshakeFailure" if !self.client_certificate => Diagnosis::new(
                "the server refused the TLS handshake",
                "if it requires a client certificate, set the options cert and key",
            ),
            alert => Diagnosis::without_remedy(format!(
                "the server refused TLS with the alert {:?}",
                in_words(alert)
            )),
        }
    }

    /// Diagnoses a server that speaks something else.
    fn diagnose_wrong_protocol(&self) -> Diagnosis {
        Diagnosis::new(
            format!("the server does not speak {}", self.protocol),
            format!("is it {}? {}", self.product, self.other_schemes),
        )
    }

    /// Diagnoses a server without a proper answer on a connection without TLS: the server may expect TLS, or
    /// speak something else.
    fn diagnose_unclear(&self) -> Diagnosis {
        let Diagnosis { cause, .. } = self.diagnose_wrong_protocol();
        Diagnosis::new(
            cause,
            format!(
                "if it uses TLS, {}; is it {}? {}",
                self.toggle_tls, self.product, self.other_schemes
            ),
        )
    }
}

/// Returns the cause of a failed connection in plain words, without an endpoint or a remedy. Looks through the
/// layers of errors of sockets, TLS (rustls) and HTTP (hyper).
pub fn network_error_cause(error: &(dyn StdError + 'static)) -> String {
    let server = Peer {
        product: "the server",
        endpoint: String::new(),
        protocol: "HTTP",
        tls: false,
        client_certificate: false,
        toggle_tls: "",
        other_schemes: "",
    };
    server.diagnose(Phase::Established, error).cause
}

fn diagnose_certificate(error: &CertificateError) -> Diagnosis {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Diagnosis::new(
            "the server's certificate has expired",
            "renew it on the server, or check the clock of this machine",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Diagnosis::new(
                "the server's certificate is not valid yet",
                "check the clocks of this machine and of the one that issued it",
            )
        }
        CertificateError::UnknownIssuer => Diagnosis::new(
            "the server's certificate is signed by an unknown authority",
            "set the option ca to the file of the authority that signed it",
        ),
        CertificateError::NotValidForName => Diagnosis::new(
            "the server's certificate is for another name",
            "use that name as the host, or set the option server_name to it",
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            // The texts have the form `DnsName("a")`.
            let names: Vec<&str> = presented
                .iter()
                .map(|name| name.split('(').nth(1).unwrap_or(name))
                .map(|name| name.trim_matches(|c| matches!(c, '"' | '(' | ')')))
                .collect();
            let names = match names.is_empty() {
                true => "no name".to_owned(),
                false => names.join(", "),
            };
            Diagnosis::new(
                format!("the server's certificate is for {names}, not for {expected}"),
                "use a name of the certificate as the host, or set the option server_name to one",
            )
        }
        CertificateError::Revoked => Diagnosis::new(
            "the server's certificate is revoked",
            "replace it on the server",
        ),
        error if format!("{error:?}").contains("CaUsedAsEndEntity") => Diagnosis::new(
            "the server's certificate is that of an authority",
            "issue a certificate for the server, signed by that authority",
        ),
        error => Diagnosis::without_remedy(format!(
            "the server's certificate is not acceptable: {error}"
        )),
    }
}

/// Iterates over an error and its causes, including those inside of `io::Error`.
fn layers<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| next_layer(*error))
}

fn next_layer<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match inner {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn is_resolver_error(error: &io::Error) -> bool {
    error.to_string().contains("failed to lookup address")
}

/// Returns true for the errors of HTTP libraries about bytes that are not HTTP of the expected version.
fn is_protocol_error(error: &(dyn StdError + 'static)) -> bool {
    if error
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_parse())
    {
        return true;
    }
    let text = error.to_string();
    [
        "frame with invalid size",
        "unspecific protocol error",
        "grpc-status header missing",
    ]
    .iter()
    .any(|known| text.contains(known))
}

/// Returns true for errors which say that the other side closed the connection, whatever their type.
fn is_closed_connection(error: &(dyn StdError + 'static)) -> bool {
    if error.downcast_ref::<hyper::Error>().is_some_and(|error| {
        error.is_incomplete_message() || error.is_closed() || error.is_canceled()
    }) {
        return true;
    }
    let text = error.to_string();
    [
        "stream closed because of a broken pipe",
        "connection closed before",
        "tls handshake eof",
    ]
    .iter()
    .any(|known| text.contains(known))
}

/// `HandshakeFailure` as `handshake failure`.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}
