//! Certificates for TLS tests, made with openssl.

use std::path::Path;
use std::process::Command;

use crate::etcd::Tls;

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Creates the authority `NAME-ca.pem` and a certificate `NAME.pem` of it for 127.0.0.1, for servers and for
/// clients, valid for two days.
pub fn certificates(folder: &Path, name: &str) -> Tls {
    let request = format!("req -x509 {NEW_KEY} -keyout {name}-ca.key -out {name}-ca.pem");
    openssl(folder, &format!("{request} -subj /CN={name} -days 2"));
    let (cert, key) = issue(folder, name, name, 2, "IP:127.0.0.1");
    let ca = folder.join(format!("{name}-ca.pem")).display().to_string();
    Tls { ca, cert, key }
}

/// Issues the certificate `NAME.pem` of an authority, valid for a number of days (-1: expired a day ago), with
/// a subject alternative name. Returns the paths of the certificate and of its key.
pub fn issue(
    folder: &Path,
    authority: &str,
    name: &str,
    days: i32,
    alternative_name: &str,
) -> (String, String) {
    let request = format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr");
    openssl(folder, &format!("{request} -subj /CN=node"));
    let extension = format!("subjectAltName={alternative_name}\n");
    std::fs::write(folder.join("extensions"), extension).unwrap();
    let signer = format!("-CA {authority}-ca.pem -CAkey {authority}-ca.key -CAcreateserial");
    let issued = format!("x509 -req -in {name}.csr {signer} -out {name}.pem");
    openssl(
        folder,
        &format!("{issued} -days {days} -extfile extensions"),
    );
    let path = |extension: &str| {
        let file = format!("{name}.{extension}");
        folder.join(file).display().to_string()
    };
    (path("pem"), path("key"))
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}
