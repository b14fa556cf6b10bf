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
