//! Access control of the API: the accepted hosts, the origin of web pages, and the bearer token.

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
use crate::net::peer::Authentication;

/// The header in which a browser reports how the page that fetches is related to this origin. Unlike `Origin`, the
/// header is also sent with requests for images.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The conditions that requests over one listener must meet.
#[derive(Clone, Default)]
pub struct AccessPolicy {
    /// The accepted host names besides those of the loopback interface. `None` for a Unix socket, which no web page
    /// can reach.
    pub hosts: Option<Vec<String>>,
    /// The source of the token that requests must carry. Without a token, requests need none.
    pub credentials: Option<Arc<Credentials>>,
}

/// Refuses requests that do not meet the policy of their listener. Adds the [`Authentication`] of the client to the
/// others.
pub async fn check(
    State(policy): State<Arc<AccessPolicy>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    // The page contains no data; its script asks for the token.
    let is_public = matches!(request.uri().path(), "/" | "/v1/health");
    match policy.authorize(request.headers(), is_public) {
        Ok(authentication) => {
            request.extensions_mut().insert(authentication);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl AccessPolicy {
    fn authorize(&self, headers: &HeaderMap, is_public: bool) -> Result<Authentication, Problem> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(hosts) = &self.hosts {
            let host = text(HOST.as_str())
                .ok_or_else(|| refusal(400, "the request has no Host header"))?;
            if !is_accepted_host(host, hosts) {
                // Protects from DNS rebinding: a page may point a name of its own at this address.
                return Err(refusal(
                    421,
                    "the request's Host is not a name of this agent; add it to the setting hosts",
                ));
            }
            let is_foreign = |origin: &str| !is_same_origin(origin, host);
            let is_cross_site = !is_public && is_embedded(text(SEC_FETCH_SITE));
            if text(ORIGIN.as_str()).is_some_and(is_foreign) || is_cross_site {
                return Err(refusal(
                    403,
                    "requests from web pages of other origins are refused",
                ));
            }
        }
        let credentials = self.credentials.as_ref();
        let token = credentials.and_then(|credentials| credentials.token());
        match &token {
            Some(token) if !is_public => {
                let given =
                    text(AUTHORIZATION.as_str()).and_then(|given| given.strip_prefix("Bearer "));
                match given {
                    Some(given) if is_equal(given, token) => Ok(Authentication::Authenticated),
                    Some(_) => Err(refusal(401, "the token is not the token of this agent")),
                    None => Err(refusal(
                        401,
                        "the request has no token; send Authorization: Bearer TOKEN",
                    )),
                }
            }
            // Without hosts, the policy is that of a Unix socket.
            _ if self.hosts.is_none() => Ok(Authentication::Authenticated),
            _ => Ok(Authentication::Anonymous),
        }
    }
}

fn refusal(status: u16, reason: &str) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let kind = match status {
        StatusCode::BAD_REQUEST => ErrorKind::InvalidArgument,
        _ => ErrorKind::PermissionDenied,
    };
    Problem::new(status, Error::new(kind, reason))
}

/// Returns true if `Host` names the loopback interface or one of the accepted hosts, with any port.
fn is_accepted_host(host: &str, accepted: &[String]) -> bool {
    let name = without_port(host);
    let is_loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let is_accepted = |accepted: &String| name.eq_ignore_ascii_case(without_port(accepted));
    is_loopback || name.eq_ignore_ascii_case("localhost") || accepted.iter().any(is_accepted)
}

/// Returns the host without its port and brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => match host.rsplit_once(':') {
            Some((name, _)) if !name.contains(':') => name,
            _ => host,
        },
    }
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Returns true if a page of another origin embeds the resource, for example as an image. Such requests have no
/// `Origin`.
fn is_embedded(site: Option<&str>) -> bool {
    matches!(site, Some("cross-site" | "same-site"))
}

/// Compares in a time that does not depend on the position of the first difference.
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

    fn status(policy: &AccessPolicy, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let authorized = policy.authorize(&map, false);
        authorized.map_or_else(|problem| problem.into_response().status().as_u16(), |_| 200)
    }

    fn tcp_policy(token: Option<&str>) -> AccessPolicy {
        AccessPolicy {
            hosts: Some(vec!["agent.example:1111".to_owned()]),
            credentials: token.map(|token| Arc::new(Credentials::from_token(token))),
        }
    }

    #[test]
    fn requests_without_an_accepted_host_are_refused() {
        let policy = tcp_policy(None);
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
            assert_eq!(self::status(&policy, &[("host", host)]), status, "{host}");
        }
        assert_eq!(status(&policy, &[]), 400);
        assert_eq!(status(&AccessPolicy::default(), &[]), 200, "Unix socket");
    }

    #[test]
    fn requests_of_pages_of_other_origins_are_refused() {
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
            let found = self::status(&tcp_policy(None), &[host, (name, value)]);
            assert_eq!(found, status, "{name}: {value}");
        }
        // A link on another site may lead to the page itself.
        let mut linked = HeaderMap::new();
        linked.insert(HOST, "localhost:1111".parse().unwrap());
        linked.insert(SEC_FETCH_SITE, "cross-site".parse().unwrap());
        assert!(tcp_policy(None).authorize(&linked, true).is_ok());
    }

    #[test]
    fn requests_need_the_token_if_one_is_configured() {
        let policy = tcp_policy(Some("secret"));
        let host = ("host", "localhost");
        for (authorization, status) in [
            ("Bearer secret", 200),
            ("Bearer secre", 401),
            ("Bearer secrets", 401),
            ("Basic secret", 401),
        ] {
            let headers = [host, ("authorization", authorization)];
            assert_eq!(self::status(&policy, &headers), status, "{authorization}");
        }
        assert_eq!(status(&policy, &[host]), 401);
    }

    #[test]
    fn the_unix_socket_and_the_token_authenticate_and_loopback_does_not() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost".parse().unwrap());
        headers.insert(AUTHORIZATION, "Bearer secret".parse().unwrap());
        let authentication = |policy: AccessPolicy| policy.authorize(&headers, false).unwrap();
        let unix = authentication(AccessPolicy::default());
        assert_eq!(unix, Authentication::Authenticated);
        let token = authentication(tcp_policy(Some("secret")));
        assert_eq!(token, Authentication::Authenticated);
        assert_eq!(authentication(tcp_policy(None)), Authentication::Anonymous);
    }
}
