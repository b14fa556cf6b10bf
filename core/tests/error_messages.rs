//! Messages about connections that fail: each names the endpoint, the cause and the remedy, in plain words.

use std::time::Duration;

use discover_core::{Client, Error, ErrorKind, Registration};
use discover_testkit::agent::{Agent, AgentOptions, built_program};
use discover_testkit::certificates::{certificates, issue};
use discover_testkit::etcd::{Etcd, EtcdOptions, Tls, shared, shared_v2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

const TOKEN: &str = "a-token-of-the-tests";

/// Texts of Rust types and of libraries, which no message may contain.
const INTERNAL: [&str; 12] = [
    "Os {",
    "kind:",
    "hyper",
    "h2::",
    "tonic",
    "rustls",
    "transport error",
    "ConnectError",
    "status:",
    "Custom {",
    "BadCertificate",
    "UnknownIssuer",
];

/// Connects to a URL that must fail, and checks kind and parts of the message.
async fn refused(url: &str, kind: ErrorKind, parts: &[&str]) -> Error {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}connect_timeout=1500ms");
    let Err(error) = Client::connect(&url).await else {
        panic!("{url} connects");
    };
    check(&error, kind, parts);
    error
}

fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.report();
    println!("{text}");
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    for internal in INTERNAL {
        assert!(!text.contains(internal), "{internal:?} in: {text}");
    }
    assert!(
        !text.contains("hunter2") && !text.contains(TOKEN),
        "a secret in: {text}"
    );
}

async fn unavailable(url: &str, parts: &[&str]) {
    refused(url, ErrorKind::Unavailable, parts).await;
}

/// An HTTP/1.1 server that answers every request with this status and a web page.
async fn web_server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\n");
                let _ = stream.write_all(format!("{head}<html>").as_bytes()).await;
            });
        }
    });
    address
}

fn agent(arguments: &[&str]) -> Option<Agent> {
    let options = AgentOptions::new(built_program()?).bind("127.0.0.1:0");
    Some(options.arguments(arguments).start())
}

#[tokio::test]
async fn a_refused_connection_asks_whether_the_server_runs() {
    for (scheme, server) in [
        ("etcd", "etcd"),
        ("etcd2", "etcd"),
        ("discoverd", "discoverd"),
    ] {
        let parts = [
            &format!("{server} 127.0.0.1:1: connection refused")[..],
            &format!("is {server} running there? check the address in the URL"),
        ];
        unavailable(&format!("{scheme}://127.0.0.1:1"), &parts).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket").display().to_string();
    let url = format!("discoverd+unix://{path}");
    let missing = format!("discoverd {path}: the socket does not exist (is discoverd running?");
    unavailable(&url, &[&missing]).await;
    drop(UnixListener::bind(&path).unwrap());
    let left = format!("discoverd {path}: connection refused (is discoverd running?");
    unavailable(&url, &[&left]).await;
}

#[tokio::test]
async fn an_unknown_host_is_reported_by_name() {
    for (scheme, server) in [
        ("etcd", "etcd"),
        ("etcd2", "etcd"),
        ("discoverd", "discoverd"),
    ] {
        let url = format!("{scheme}://no-such-host.invalid:5");
        let endpoint = format!("{server} no-such-host.invalid:5: ");
        let Err(error) = Client::connect(&format!("{url}?connect_timeout=300ms")).await else {
            panic!("{url} connects");
        };
        check(
            &error,
            ErrorKind::Unavailable,
            &[&endpoint, "check the host in the URL"],
        );
        let text = error.report();
        // Without a name server, the resolver cannot know.
        let cause = text.contains("unknown host") || text.contains("cannot resolve the host name");
        assert!(cause, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_server_without_it_suggests_the_scheme_without() {
    let Some(etcd) = shared_v2() else { return };
    for scheme in ["etcd", "etcd2"] {
        let url = format!("{scheme}s://{}", etcd.endpoint());
        let remedy = format!("write {scheme}:// instead of {scheme}s://");
        let endpoint = format!("etcd {}: ", etcd.endpoint());
        unavailable(&url, &[&endpoint, "TLS", &remedy]).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let Tls { ca, .. } = certificates(folder.path(), "own");
    let Some(agent) = agent(&[]) else { return };
    let cause = format!("discoverd {}: ", agent.address());
    let parts = [&cause[..], "TLS", "remove the option ca"];
    unavailable(&format!("{}?ca={ca}", agent.url()), &parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tls_to_a_server_that_requires_it_suggests_tls() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificates(folder.path(), "own");
    let Some(etcd) = EtcdOptions::default().v2().tls(own.clone()).start() else {
        return;
    };
    for scheme in ["etcd", "etcd2"] {
        let endpoint = format!("etcd {}: ", etcd.endpoint());
        let remedy = format!("write {scheme}s:// instead of {scheme}://");
        let url = format!("{scheme}://{}", etcd.endpoint());
        unavailable(&url, &[&endpoint, "TLS", &remedy]).await;
    }
    let Some(agent) = agent(&["--tls-cert", &own.cert, "--tls-key", &own.key]) else {
        return;
    };
    let endpoint = format!("discoverd {}: ", agent.address());
    let parts = [
        &endpoint[..],
        "TLS",
        "set the option ca to the file of its authority",
    ];
    unavailable(&agent.url(), &parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_on_the_port_is_reported() {
    let page = web_server("200 OK").await;
    let nothing = web_server("404 Not Found").await;
    let grpc = ["does not speak HTTP/2 with gRPC", "is it etcd?"];
    unavailable(&format!("etcd://{page}"), &grpc).await;
    let v2 = ["does not speak etcd's v2 API", "is it etcd?"];
    unavailable(&format!("etcd2://{page}"), &v2).await;
    let v2 = ["does not offer etcd's v2 API", "--enable-v2"];
    refused(&format!("etcd2://{nothing}"), ErrorKind::Unsupported, &v2).await;
    let api = [
        "does not speak the agent's HTTP API",
        "is it discoverd? for etcd write etcd://",
    ];
    refused(&format!("discoverd://{page}"), ErrorKind::Internal, &api).await;
    refused(&format!("discoverd://{nothing}"), ErrorKind::NotFound, &api).await;
    if let Some(etcd) = shared() {
        let url = format!("discoverd://{}", etcd.endpoint());
        refused(&url, ErrorKind::NotFound, &api).await;
    }
    let Some(agent) = agent(&[]) else { return };
    let endpoint = format!("etcd {}: ", agent.address());
    let parts = [&endpoint[..], grpc[0], "for an agent write discoverd://"];
    unavailable(&format!("etcd://{}", agent.address()), &parts).await;
    let parts = [
        &endpoint[..],
        "discoverd answers there, not etcd",
        "write discoverd://",
    ];
    let url = format!("etcd2://{}", agent.address());
    refused(&url, ErrorKind::Unsupported, &parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_missing_or_wrong_is_reported() {
    let Some(etcd) = Etcd::start() else { return };
    enable_authentication(&etcd);
    let endpoint = format!("etcd {}: ", etcd.endpoint());
    let missing = [
        &endpoint[..],
        "requires a login",
        "set the options user and password",
    ];
    let url = format!("etcd://{}", etcd.endpoint());
    refused(&url, ErrorKind::PermissionDenied, &missing).await;
    let wrong = [
        &endpoint[..],
        "refused the login of user \"app\"",
        "check the user name",
    ];
    let url = format!("etcd://app:hunter2@{}", etcd.endpoint());
    refused(&url, ErrorKind::PermissionDenied, &wrong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_to_the_v2_api_that_is_missing_or_wrong_is_reported() {
    let Some(etcd) = Etcd::start_v2() else { return };
    enable_v2_authentication(&etcd);
    let url = format!("etcd2://{}", etcd.endpoint());
    let missing = ["requires a login", "set the options user and password"];
    refused(&url, ErrorKind::PermissionDenied, &missing).await;
    let url = format!(
        "etcd2://root:hunter2@{}?connect_timeout=20s",
        etcd.endpoint()
    );
    let client = Client::connect(&url).await.unwrap();
    let web = Registration::at("web", "h:1").unwrap();
    let error = client.register(web).await.unwrap_err();
    let parts = [
        "user \"root\" has no permission for key /discover/services/web/",
        "check the user name, the password",
    ];
    check(&error, ErrorKind::PermissionDenied, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_missing_or_wrong_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token").display().to_string();
    std::fs::write(&file, TOKEN).unwrap();
    let Some(agent) = agent(&["--token-file", &file]) else {
        return;
    };
    let endpoint = format!("discoverd {}: ", agent.address());
    let missing = [
        &endpoint[..],
        "the agent requires a token",
        "set the option token, or token_file",
    ];
    refused(&agent.url(), ErrorKind::PermissionDenied, &missing).await;
    let wrong = [
        &endpoint[..],
        "the agent refused the token",
        "check the option token",
    ];
    let url = format!("{}?token=hunter2-hunter2-hunter2", agent.url());
    refused(&url, ErrorKind::PermissionDenied, &wrong).await;
    let right = format!("{}?token={TOKEN}", agent.url());
    assert!(Client::connect(&right).await.is_ok());
    // The token protects the TCP address; the permissions of the file protect the socket.
    assert!(Client::connect(&agent.socket_url()).await.is_ok());
}

/// The user and the key of a denied request are named, for reads and for writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_names_the_user_and_the_key() {
    let Some(etcd) = Etcd::start() else { return };
    enable_authentication(&etcd);
    let url = format!("etcd://app:pw@{}", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let web = Registration::at("web", "h:1").unwrap();
    let error = client.register(web).await.unwrap_err();
    let endpoint = format!("etcd {}: ", etcd.endpoint());
    let write = "user \"app\" has no permission for key /discover/services/web/h:1";
    check(
        &error,
        ErrorKind::PermissionDenied,
        &[&endpoint, write, "etcdctl role grant-permission"],
    );
    let set = client.services("web").unwrap();
    let wait = set.wait(1, Duration::from_secs(2)).await.unwrap_err();
    let read = "user \"app\" has no permission for key /discover/services/web/*";
    let fault = set.status().fault.map(|fault| fault.error);
    check(
        &fault.unwrap_or(wait),
        ErrorKind::PermissionDenied,
        &[&endpoint, read],
    );
}

/// Server certificates that are expired, for another name, or of an unknown authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_certificate_that_is_not_acceptable_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificates(folder.path(), "own");
    let foreign = certificates(folder.path(), "foreign");
    let expired_files = issue(folder.path(), "own", "expired", -1, "IP:127.0.0.1");
    let renamed_files = issue(folder.path(), "own", "renamed", 2, "DNS:db.example");
    let own_files = (own.cert.clone(), own.key.clone());
    let expired = [
        "the server's certificate has expired",
        "renew it on the server",
    ];
    let renamed = [
        "the server's certificate is for db.example, not for 127.0.0.1",
        "or set the option server_name to one",
    ];
    let unknown = [
        "the server's certificate is signed by an unknown authority",
        "set the option ca to the file of the authority",
    ];
    for ((cert, key), ca, parts) in [
        (expired_files, &own.ca, &expired[..]),
        (renamed_files, &own.ca, &renamed[..]),
        (own_files, &foreign.ca, &unknown[..]),
    ] {
        let etcd = EtcdOptions::default()
            .v2()
            .tls(own.clone())
            .server_identity(&cert, &key);
        let Some(etcd) = etcd.start() else { return };
        for scheme in ["etcds", "etcd2s"] {
            let identity = format!("cert={}&key={}", own.cert, own.key);
            let url = format!("{scheme}://{}?ca={ca}&{identity}", etcd.endpoint());
            let endpoint = format!("etcd {}: ", etcd.endpoint());
            unavailable(&url, &[&[&endpoint[..]], parts].concat()).await;
        }
        if let Some(agent) = agent(&["--tls-cert", &cert, "--tls-key", &key]) {
            let endpoint = format!("discoverd {}: ", agent.address());
            let url = format!("{}?ca={ca}", agent.url());
            unavailable(&url, &[&[&endpoint[..]], parts].concat()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_is_required_or_refused_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificates(folder.path(), "own");
    let foreign = certificates(folder.path(), "foreign");
    let Tls { ca, cert, key } = &own;
    let required = ["client certificate", "set the options cert and key"];
    let refusal = ["client certificate", "the option cert must name"];
    let mut servers = Vec::new();
    let etcd = EtcdOptions::default().v2().tls(own.clone()).start();
    if let Some(etcd) = &etcd {
        servers.extend(["etcds", "etcd2s"].map(|scheme| format!("{scheme}://{}", etcd.endpoint())));
    }
    let agent = agent(&["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca]);
    servers.extend(agent.as_ref().map(Agent::url));
    for server in servers {
        unavailable(&format!("{server}?ca={ca}"), &required).await;
        let identity = format!("cert={}&key={}", foreign.cert, foreign.key);
        unavailable(&format!("{server}?ca={ca}&{identity}"), &refusal).await;
    }
}

fn enable_authentication(etcd: &Etcd) {
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "app:pw"]);
    assert!(etcd.ctl(&["auth", "enable"]).contains("Enabled"));
}

fn enable_v2_authentication(etcd: &Etcd) {
    for (path, json) in [
        ("users/root", r#"{"user":"root","password":"secret"}"#),
        ("enable", ""),
    ] {
        let length = json.len();
        let put = format!("PUT /v2/auth/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{json}");
        let answer = etcd.raw(&put);
        assert!(answer.contains(" 20"), "{answer}");
    }
    let login = "Authorization: Basic cm9vdDpzZWNyZXQ=";
    let guest = etcd.raw(&format!(
        "DELETE /v2/auth/roles/guest HTTP/1.0\r\n{login}\r\n\r\n"
    ));
    assert!(guest.contains(" 200 "), "{guest}");
}
