//! Connections to etcd over TLS, with certificates made for the test.

mod support;

use discover_core::{Client, ErrorKind, Registration, SetState};
use discover_testkit::certificates::certificates;
use support::etcd::{Etcd, EtcdOptions, Tls};
use support::{WAIT_TIMEOUT, eventually};

/// S3.15: both ends verify the certificate of the other end.
#[tokio::test(flavor = "multi_thread")]
async fn both_ends_verify_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (own, foreign) = (
        certificates(folder.path(), "own"),
        certificates(folder.path(), "foreign"),
    );
    let Some(etcd) = EtcdOptions::default().tls(own.clone()).v2().start() else {
        return;
    };
    for scheme in ["etcd", "etcd2"] {
        verifies_certificates(scheme, &etcd, &own, &foreign).await;
    }
}

async fn verifies_certificates(scheme: &str, etcd: &Etcd, own: &Tls, foreign: &Tls) {
    let url = |ca: &str, tls: &Tls| {
        let (host, Tls { cert, key, .. }) = (etcd.endpoint(), tls);
        format!("{scheme}s://{host}/?connect_timeout=1s&ca={ca}&cert={cert}&key={key}")
    };
    let client = Client::connect(&url(&own.ca, own)).await.unwrap();
    let _lease = client
        .register(Registration::new("web", 1).unwrap())
        .await
        .unwrap();
    client
        .services("web")
        .unwrap()
        .wait(1, WAIT_TIMEOUT)
        .await
        .unwrap();

    // An untrusted server, an untrusted client, a client without a certificate, and a client without TLS.
    for wrong in [
        url(&foreign.ca, own),
        url(&own.ca, foreign),
        format!(
            "{scheme}s://{}/?connect_timeout=1s&ca={}",
            etcd.endpoint(),
            own.ca
        ),
        format!("{scheme}://{}/?connect_timeout=1s", etcd.endpoint()),
    ] {
        let error = Client::connect(&wrong).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            "{wrong}: {error}"
        );
    }
    let missing = format!("{scheme}s://{}/?ca=/no/such.pem", etcd.endpoint());
    let error = Client::connect(&missing).await.unwrap_err();
    assert!(
        error
            .report()
            .contains("option ca: cannot read \"/no/such.pem\""),
        "{error}"
    );
}

/// B16: when authority, certificates and keys are replaced on disk, the next connection uses the new files
/// without a restart of the client.
#[tokio::test(flavor = "multi_thread")]
async fn files_replaced_on_disk_are_used_for_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificates(folder.path(), "own");
    let Some(mut etcd) = EtcdOptions::default().tls(own.clone()).start() else {
        return;
    };
    let Tls { ca, cert, key } = &own;
    let url = format!("etcds://{}/?ca={ca}&cert={cert}&key={key}", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let _lease = client
        .register(Registration::new("web", 1).unwrap())
        .await
        .unwrap();
    let set = client.services("web").unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    etcd.kill();
    eventually("the set is stale", async || {
        set.status().state == SetState::Stale
    })
    .await;
    // Files of the same names, of a new authority.
    certificates(folder.path(), "own");
    etcd.restart();
    eventually("the new files are used", async || {
        set.status().state == SetState::Current
    })
    .await;
    assert_eq!(set.online().len(), 1);
}

/// A TLS file that cannot be used is an argument error that names the option and the file, before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_files_are_refused_at_once_and_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (own, foreign) = (
        certificates(folder.path(), "own"),
        certificates(folder.path(), "foreign"),
    );
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name).display().to_string();
        std::fs::write(&path, content).unwrap();
        path
    };
    let (empty, garbage) = (file("empty", b""), file("garbage", b"\x00\xff no PEM"));
    let (der, encrypted) = (file("ca.der", b""), file("encrypted.key", b""));
    openssl(&["x509", "-in", &own.ca, "-outform", "DER", "-out", &der]);
    let encrypt = [
        "pkcs8",
        "-topk8",
        "-passout",
        "pass:secret",
        "-in",
        &own.key,
    ];
    openssl(&[&encrypt[..], &["-out", &encrypted]].concat());
    let identity = |cert: &str, key: &str| format!("ca={}&cert={cert}&key={key}", own.ca);
    let cases = [
        (
            "mismatched",
            identity(&own.cert, &foreign.key),
            "options cert and key",
        ),
        ("encrypted", identity(&own.cert, &encrypted), "option key"),
        ("swapped", identity(&own.key, &own.cert), "option cert"),
        (
            "server name",
            format!("ca={}&server_name=a%20b", own.ca),
            "option server_name",
        ),
        ("a key as authority", format!("ca={}", own.key), "option ca"),
        ("empty", format!("ca={empty}"), "option ca"),
        ("garbage", format!("ca={garbage}"), "option ca"),
        ("DER", format!("ca={der}"), "option ca"),
    ];
    for scheme in ["etcds", "etcd2s", "discoverd"] {
        for (what, options, named) in &cases {
            // Nothing answers there, and the time is longer than a test may take.
            let url = format!("{scheme}://127.0.0.1:9/?connect_timeout=1h&{options}");
            let connected = tokio::time::timeout(WAIT_TIMEOUT, Client::connect(&url)).await;
            let error = connected.expect("no error at once").unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidArgument,
                "{scheme}, {what}: {error}"
            );
            let text = error.report();
            assert!(text.contains(named), "{scheme}, {what}: {text}");
        }
    }
}

fn openssl(arguments: &[&str]) {
    let output = std::process::Command::new("openssl")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
