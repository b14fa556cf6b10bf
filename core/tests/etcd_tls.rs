//! etcd behind TLS, with certificates made for the test.

mod support;

use std::path::Path;
use std::process::Command;

use discover_core::{Client, ErrorKind, Registration, SetState};
use support::etcd::{Etcd, EtcdOptions, Tls};
use support::{PATIENCE, eventually};

/// Runs openssl in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority and a certificate of it for 127.0.0.1, good for both ends.
fn certificates(folder: &Path, name: &str) -> Tls {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        folder,
        &format!(
            "req -x509 {key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name} -days 2"
        ),
    );
    openssl(
        folder,
        &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN=node"),
    );
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -out {name}.pem -days 2 -extfile san"
        ),
    );
    let path = |file: String| folder.join(file).display().to_string();
    Tls {
        ca: path(format!("{name}-ca.pem")),
        cert: path(format!("{name}.pem")),
        key: path(format!("{name}.key")),
    }
}

/// S3.15.
#[tokio::test(flavor = "multi_thread")]
async fn both_ends_prove_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (own, foreign) = (
        certificates(folder.path(), "own"),
        certificates(folder.path(), "foreign"),
    );
    let Some(etcd) = EtcdOptions::default().tls(own.clone()).v2().start() else {
        return;
    };
    for scheme in ["etcd", "etcd2"] {
        proves_itself(scheme, &etcd, &own, &foreign).await;
    }
}

async fn proves_itself(scheme: &str, etcd: &Etcd, own: &Tls, foreign: &Tls) {
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
        .wait(1, PATIENCE)
        .await
        .unwrap();

    // A server we do not trust, a server that does not trust us, and a word in clear.
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

/// B16: when authority, certificates and keys are exchanged on disk, the next connection uses the new
/// ones; nobody has to start anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_exchanged_on_disk_is_used_for_the_next_connection() {
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
    set.wait(1, PATIENCE).await.unwrap();
    etcd.kill();
    eventually("the loss is noticed", async || {
        set.status().state == SetState::Stale
    })
    .await;
    // Files of the same names, of an authority that is a stranger to the old one.
    certificates(folder.path(), "own");
    etcd.restart();
    eventually("the new ones are used", async || {
        set.status().state == SetState::Current
    })
    .await;
    assert_eq!(set.online().len(), 1);
}
