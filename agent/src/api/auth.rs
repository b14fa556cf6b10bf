//! Who may ask at all: the right host, no foreign page, the token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use discover_core::{Error, ErrorKind};

use crate::api::problem::Problem;
use crate::net::credentials::Credentials;

/// What a browser says of the page that asks, though it may leave out its origin.
const SITE: &str = "sec-fetch-site";

/// What is asked of a request that comes over one kind of listener.
#[derive(Clone, Default)]
pub struct AccessPolicy {
    /// The hosts by which this listener may be called, besides the loopback's; none on a socket, which
    /// no page reaches.
    pub hosts: Option<Vec<String>>,
    /// Where the token is from that is asked for; nobody is asked for any where there is none.
    pub secrets: Option<Arc<Credentials>>,
}

pub async fn check(
    State(guard): State<Arc<AccessPolicy>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    // The page itself tells nothing; it asks for a token like everybody.
    let open = matches!(request.uri().path(), "/" | "/v1/health");
    match guard.judge(request.headers(), open) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl AccessPolicy {
    fn judge(&self, headers: &HeaderMap, open: bool) -> Result<(), Problem> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(hosts) = &self.hosts {
            let host =
                text(HOST.as_str()).ok_or_else(|| refused(400, "the request names no Host"))?;
            if !is_ours(host, hosts) {
                // A name that a page made to point here.
                return Err(refused(421, "the request's Host is none of this agent's"));
            }
            let foreign = |origin: &str| !is_same(origin, host);
            if text(ORIGIN.as_str()).is_some_and(foreign) || (!open && is_embedded(text(SITE))) {
                return Err(refused(
                    403,
                    "a page of another origin may ask nothing here, and change nothing",
                ));
            }
        }
        let token = self.secrets.as_ref().and_then(|secrets| secrets.token());
        match &token {
            Some(token) if !open => {
                let given =
                    text(AUTHORIZATION.as_str()).and_then(|given| given.strip_prefix("Bearer "));
                match given {
                    Some(given) if is_equal(given, token) => Ok(()),
                    Some(_) => Err(refused(401, "the token is not the one")),
                    None => Err(refused(
                        401,
                        "a token is needed: Authorization: Bearer TOKEN",
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn refused(status: u16, why: &str) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let kind = match status {
        StatusCode::BAD_REQUEST => ErrorKind::InvalidArgument,
        _ => ErrorKind::PermissionDenied,
    };
    Problem::new(status, Error::new(kind, why))
}

/// Whether `Host` names the loopback or one of ours; the port does not matter.
fn is_ours(host: &str, ours: &[String]) -> bool {
    let name = bare(host);
    let loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback
        || name.eq_ignore_ascii_case("localhost")
        || ours.iter().any(|own| name.eq_ignore_ascii_case(bare(own)))
}

/// The host without its port and brackets.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => match host.rsplit_once(':') {
            Some((name, _)) if !name.contains(':') => name,
            _ => host,
        },
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether a page of another origin fetches this, as an image for instance, which names no origin.
fn is_embedded(site: Option<&str>) -> bool {
    matches!(site, Some("cross-site" | "same-site"))
}

/// In a time that does not tell where they differ.
fn is_equal(given: &str, token: &str) -> bool {
    let (given, token) = (given.as_bytes(), token.as_bytes());
    let differ = given
        .iter()
        .zip(token)
        .fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(guard: &AccessPolicy, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let judged = guard.judge(&map, false);
        judged.map_or_else(
            |problem| problem.into_response().status().as_u16(),
            |()| 200,
        )
    }

    fn on_tcp(token: Option<&str>) -> AccessPolicy {
        AccessPolicy {
            hosts: Some(vec!["agent.example:1111".to_owned()]),
            secrets: token.map(|token| Arc::new(Credentials::from_token(token))),
        }
    }

    #[test]
    fn a_host_that_is_not_ours_is_refused_and_none_too() {
        let guard = on_tcp(None);
        for (host, status) in [
            ("localhost:1111", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1:1111", 200),
            ("[::1]:1111", 200),
            ("agent.example:80", 200),
            ("evil.example", 421),
            ("localhost.evil.example", 421),
            ("10.0.0.1:1111", 421),
            ("", 421),
        ] {
            assert_eq!(judge(&guard, &[("host", host)]), status, "{host}");
        }
        assert_eq!(judge(&guard, &[]), 400);
        assert_eq!(judge(&AccessPolicy::default(), &[]), 200, "a socket");
    }

    #[test]
    fn a_page_of_another_origin_asks_nothing_and_changes_nothing() {
        let host = ("host", "localhost:1111");
        for (name, value, status) in [
            ("origin", "http://localhost:1111", 200),
            ("origin", "http://evil.example", 403),
            ("origin", "http://localhost:9", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            let judged = judge(&on_tcp(None), &[host, (name, value)]);
            assert_eq!(judged, status, "{name}: {value}");
        }
        // Following a link to the page is no crime.
        let mut linked = HeaderMap::new();
        linked.insert(HOST, "localhost:1111".parse().unwrap());
        linked.insert(SITE, "cross-site".parse().unwrap());
        assert!(on_tcp(None).judge(&linked, true).is_ok());
    }

    #[test]
    fn the_token_is_asked_for_where_there_is_one() {
        let guard = on_tcp(Some("secret"));
        let host = ("host", "localhost");
        for (authorization, status) in [
            ("Bearer secret", 200),
            ("Bearer secre", 401),
            ("Bearer secrets", 401),
            ("Basic secret", 401),
        ] {
            let headers = [host, ("authorization", authorization)];
            assert_eq!(judge(&guard, &headers), status, "{authorization}");
        }
        assert_eq!(judge(&guard, &[host]), 401);
    }
}
