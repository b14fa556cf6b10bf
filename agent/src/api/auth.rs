//! Access control of the API: the accepted hosts, the origin of web pages, and the bearer token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use discover_core::{Error, ErrorKind};
use tokio::time::{Instant, sleep};

use crate::api::authority::{self, is_same_host};
use crate::api::problem::Problem;
use crate::net::credentials::Credentials;
use crate::net::peer::{Authentication, Peer};
use crate::net::wrong_tokens::{RECOVERY_INTERVAL, WrongTokenLimiter};

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
    /// The wrong tokens that clients have sent.
    pub wrong_tokens: Arc<WrongTokenLimiter>,
}

/// Refuses requests that do not meet the policy of their listener. Adds the [`Authentication`] of the client to the
/// others.
pub async fn check(
    State(policy): State<Arc<AccessPolicy>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    match policy.authorize(&request) {
        Ok(authentication) => {
            request.extensions_mut().insert(authentication);
            next.run(request).await
        }
        Err(problem) => {
            if problem.status() == StatusCode::TOO_MANY_REQUESTS {
                sleep(RECOVERY_INTERVAL).await;
            }
            problem.into_response()
        }
    }
}

impl AccessPolicy {
    fn authorize<B>(&self, request: &Request<B>) -> Result<Authentication, Problem> {
        // The page contains no data; its script asks for the token.
        let is_public = matches!(request.uri().path(), "/" | "/v1/health");
        let headers = request.headers();
        check_framing(headers)?;
        let host = single(headers, HOST.as_str())?;
        let target = request.uri().authority();
        if target.is_some_and(|target| host != Some(target.as_str())) {
            return Err(refusal(
                400,
                "the request target and the Host header name different hosts",
            ));
        }
        if let Some(hosts) = &self.hosts {
            let host = host.ok_or_else(|| refusal(400, "the request has no Host header"))?;
            check_host(host, hosts)?;
            check_origin(headers, host, is_public)?;
        }
        let credentials = self.credentials.as_ref();
        let token = credentials.and_then(|credentials| credentials.token());
        match &token {
            Some(token) if !is_public => {
                let peer = request.extensions().get::<Peer>().copied();
                self.check_token(peer, single(headers, AUTHORIZATION.as_str())?, token)?;
                Ok(Authentication::Authenticated)
            }
            // Without hosts, the policy is that of a Unix socket.
            _ if self.hosts.is_none() => Ok(Authentication::Authenticated),
            _ => Ok(Authentication::Anonymous),
        }
    }

    fn check_token(
        &self,
        peer: Option<Peer>,
        authorization: Option<&str>,
        token: &str,
    ) -> Result<(), Problem> {
        let Some(given) = authorization.and_then(bearer_token) else {
            let text = "the request has no token; send Authorization: Bearer TOKEN";
            return Err(refusal(401, text));
        };
        let (wrong_tokens, now) = (&self.wrong_tokens, Instant::now());
        if peer.is_some_and(|peer| wrong_tokens.refuses(peer, now)) {
            return Err(too_many_wrong_tokens());
        }
        if is_equal(given, token) {
            return Ok(());
        }
        let Some(peer) = peer else {
            return Err(refusal(401, "the token is not the token of this agent"));
        };
        let is_over_limit = wrong_tokens.is_over_limit(peer, now);
        wrong_tokens.record(peer, now);
        match is_over_limit {
            true => Err(too_many_wrong_tokens()),
            false => Err(refusal(401, "the token is not the token of this agent")),
        }
    }
}

/// Refuses bodies whose length the transfer coding determines. A program in front of the agent may determine another
/// length, also from a Content-Length beside it; then it and the agent disagree on where the next request begins.
fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(coding) = headers.get(TRANSFER_ENCODING) else {
        return Ok(());
    };
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match is_chunked && headers.get_all(TRANSFER_ENCODING).iter().count() == 1 {
        true => Err(refusal(
            411,
            "the body has a Transfer-Encoding; send it with a Content-Length instead",
        )),
        false => Err(refusal(
            501,
            "the body has an unknown Transfer-Encoding; send it with a Content-Length instead",
        )),
    }
}

/// Checks that the host is a name of this agent. Protects from DNS rebinding: a page may point a name of its own at
/// this address.
fn check_host(authority: &str, accepted: &[String]) -> Result<(), Problem> {
    let host = authority::host(authority)
        .ok_or_else(|| refusal(400, "the Host header is malformed; send host or host:port"))?;
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let is_accepted =
        |accepted: &String| is_same_host(host, authority::host(accepted).unwrap_or(accepted));
    let is_local = is_loopback || host.eq_ignore_ascii_case("localhost");
    match is_local || accepted.iter().any(is_accepted) {
        true => Ok(()),
        false => Err(refusal(
            421,
            "the request's Host is not a name of this agent; add it to the setting hosts",
        )),
    }
}

/// Checks that no web page of another origin sends the request.
fn check_origin(headers: &HeaderMap, host: &str, is_public: bool) -> Result<(), Problem> {
    let is_foreign = |origin: &str| !is_same_origin(origin, host);
    let is_cross_site = !is_public && is_embedded(single(headers, SEC_FETCH_SITE)?);
    match single(headers, ORIGIN.as_str())?.is_some_and(is_foreign) || is_cross_site {
        true => Err(refusal(
            403,
            "requests from web pages of other origins are refused",
        )),
        false => Ok(()),
    }
}

/// Returns the value of a header that decides about access. Such a header must not be repeated, because programs
/// differ in which of the values they use.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refusal(
            400,
            &format!("the request has several {name} headers"),
        ));
    }
    let text = value.to_str();
    text.map(Some).map_err(|_| {
        refusal(
            400,
            &format!("the header {name} has a character that is not ASCII"),
        )
    })
}

/// Returns the token of the scheme `Bearer`, whose name has no case (RFC 9110).
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
    is_bearer.then(|| token.trim_start_matches(' '))
}

fn too_many_wrong_tokens() -> Problem {
    let text = "too many requests with a wrong token came from this client; retry in a second";
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        Error::new(ErrorKind::Resource, text),
    )
}

fn refusal(status: u16, reason: &str) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let kind = match status {
        StatusCode::BAD_REQUEST | StatusCode::LENGTH_REQUIRED => ErrorKind::InvalidArgument,
        StatusCode::NOT_IMPLEMENTED => ErrorKind::Unsupported,
        _ => ErrorKind::PermissionDenied,
    };
    Problem::new(status, Error::new(kind, reason))
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

    /// Sends a request from 10.0.0.1 and returns the status of the response, 200 if it is admitted.
    fn status(policy: &AccessPolicy, headers: &[(&str, &str)]) -> u16 {
        status_of(policy, "/v1/services", headers)
    }

    fn status_of(policy: &AccessPolicy, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder()
            .uri(target)
            .extension(Peer::Address("10.0.0.1".parse().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let authorized = policy.authorize(&request.body(()).unwrap());
        authorized.map_or_else(|problem| problem.into_response().status().as_u16(), |_| 200)
    }

    fn tcp_policy(token: Option<&str>) -> AccessPolicy {
        AccessPolicy {
            hosts: Some(vec!["agent.example:1111".to_owned()]),
            credentials: token.map(|token| Arc::new(Credentials::from_token(token))),
            wrong_tokens: Arc::default(),
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
            ("", 400),
            ("[::1]evil", 400),
            ("[::1]:x", 400),
            ("[localhost]", 400),
            ("localhost:1111@evil.example", 400),
            ("localhost:99999", 400),
            ("127.1", 421),
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
        let linked = [host, (SEC_FETCH_SITE, "cross-site")];
        assert_eq!(status_of(&tcp_policy(None), "/", &linked), 200);
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
            ("bearer secret", 200),
            ("BEARER  secret", 200),
            ("Bearersecret", 401),
        ] {
            let headers = [host, ("authorization", authorization)];
            assert_eq!(self::status(&policy, &headers), status, "{authorization}");
        }
        assert_eq!(status(&policy, &[host]), 401);
    }
    #[test]
    fn headers_that_decide_about_access_must_not_be_repeated() {
        let policy = tcp_policy(Some("secret"));
        let (host, token) = (("host", "localhost"), ("authorization", "Bearer secret"));
        let origin = ("origin", "http://localhost");
        let site = ("sec-fetch-site", "same-origin");
        assert_eq!(status(&policy, &[host, token, origin, site]), 200);
        for repeated in [host, token, origin, site] {
            let headers = [host, token, origin, site, repeated];
            assert_eq!(status(&policy, &headers), 400, "{repeated:?}");
        }
        assert_eq!(
            status(&AccessPolicy::default(), &[host, host]),
            400,
            "Unix socket"
        );
    }

    #[test]
    fn a_request_target_that_contradicts_the_host_is_refused() {
        let policy = tcp_policy(None);
        let host = [("host", "localhost")];
        assert_eq!(status_of(&policy, "http://localhost/v1/status", &host), 200);
        assert_eq!(
            status_of(&policy, "http://evil.example/v1/status", &host),
            400
        );
        assert_eq!(status_of(&policy, "http://localhost/v1/status", &[]), 400);
    }

    #[test]
    fn bodies_with_a_transfer_coding_are_refused() {
        let host = ("host", "localhost");
        for (headers, expected) in [
            (&[("content-length", "3")][..], 200),
            (&[("transfer-encoding", "chunked")], 411),
            (
                &[("content-length", "3"), ("transfer-encoding", "chunked")],
                411,
            ),
            (&[("transfer-encoding", "gzip, chunked")], 501),
            (&[("transfer-encoding", "xchunked")], 501),
            (
                &[
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "identity"),
                ],
                501,
            ),
        ] {
            let headers = [&[host], headers].concat();
            assert_eq!(status(&tcp_policy(None), &headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn guessing_a_token_is_limited_and_the_response_names_the_scheme() {
        let policy = tcp_policy(Some("secret"));
        let send = |token| status(&policy, &[("host", "localhost"), ("authorization", token)]);
        for _ in 0..10 {
            assert_eq!(send("Bearer guess"), 401);
        }
        assert_eq!(send("Bearer guess"), 429);
        assert_eq!(send("Bearer secret"), 429, "no token is compared any more");
        let response = refusal(401, "").into_response();
        let scheme = response.headers().get("www-authenticate").unwrap();
        assert!(scheme.to_str().unwrap().starts_with("Bearer"));
        let response = too_many_wrong_tokens().into_response();
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    }
    #[test]
    fn the_unix_socket_and_the_token_authenticate_and_loopback_does_not() {
        let authentication = |policy: AccessPolicy| {
            let request = Request::builder()
                .uri("/v1/services")
                .header(HOST, "localhost")
                .header(AUTHORIZATION, "Bearer secret");
            policy.authorize(&request.body(()).unwrap()).unwrap()
        };
        let unix = authentication(AccessPolicy::default());
        assert_eq!(unix, Authentication::Authenticated);
        let token = authentication(tcp_policy(Some("secret")));
        assert_eq!(token, Authentication::Authenticated);
        assert_eq!(authentication(tcp_policy(None)), Authentication::Anonymous);
    }
}
