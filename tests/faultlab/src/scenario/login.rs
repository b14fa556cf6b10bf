//! Expiring authentication tokens.

use std::path::Path;
use std::process::Command;

use crate::etcd::Cluster;
use crate::lab::{Evidence, Lab};
use crate::netns::run;
use crate::scenario::Scenario;
use discover_testkit::clock::pause;

/// Lifetime of a token, in seconds.
const TOKEN: f64 = 3.0;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("token-expiry", "B14", expiry)
            .proxied()
            .login(),
        Scenario::new("token-lost", "B14", lost)
            .login()
            .reachable(2.0)
            .writes(5),
        Scenario::new("authentication-toggled", "B14", toggled)
            .login()
            .reachable(1.0)
            .always_registered()
            .writes(5),
    ]
}

/// Returns the arguments of etcd for short-lived tokens, signed with a fresh key.
pub fn tokens(directory: &Path) -> Result<Vec<String>, String> {
    let (private, public) = (directory.join("token.key"), directory.join("token.pub"));
    run(Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(&private)
        .arg("2048"))?;
    run(Command::new("openssl")
        .args(["rsa", "-pubout", "-in"])
        .arg(&private)
        .arg("-out")
        .arg(&public))?;
    let (private, public) = (private.display(), public.display());
    let token = format!("jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={TOKEN}s");
    // Passwords are checked so often here that the check must be cheap.
    let cheap = ["--bcrypt-cost".to_owned(), "4".to_owned()];
    Ok([vec!["--auth-token".to_owned(), token], cheap.to_vec()].concat())
}

/// Enables authentication, and returns a login.
pub fn enable(cluster: &Cluster) -> Result<(String, String), String> {
    cluster.ctl(&["user", "add", "root:secret"])?;
    cluster.ctl(&["user", "grant-role", "root", "root"])?;
    cluster.ctl(&["auth", "enable"])?;
    cluster.log_in("root:secret");
    Ok(("root".to_owned(), "secret".to_owned()))
}

/// The tokens have expired when the connections break, so nothing can be opened again with them.
fn expiry(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    let unauthenticated = lab.cluster.refuses_anonymous();
    pause(TOKEN + 1.0);
    lab.fault(|| {
        let before = proxy.affected();
        for _ in 0..2 {
            proxy.reset();
            pause(TOKEN + 1.0);
        }
        Ok(vec![
            (
                "connections reset after the tokens expired",
                proxy.affected() - before,
            ),
            ("anonymous requests refused", unauthenticated.into()),
        ])
    })
}

/// Authentication is disabled and enabled again while everything runs.
fn toggled(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let mut toggles = 0;
        for _ in 0..3 {
            lab.cluster.ctl(&["auth", "disable"])?;
            toggles += u64::from(!lab.cluster.refuses_anonymous());
            pause(TOKEN);
            lab.cluster.ctl(&["auth", "enable"])?;
            toggles += u64::from(lab.cluster.refuses_anonymous());
            pause(TOKEN);
        }
        Ok(vec![("times switched, all six", (toggles == 6).into())])
    })
}

/// Each member restarts after the tokens have expired.
fn lost(lab: &Lab) -> Result<Evidence, String> {
    let unauthenticated = lab.cluster.refuses_anonymous();
    pause(TOKEN + 1.0);
    lab.fault(|| {
        for member in lab.cluster.all() {
            lab.cluster.kill(member);
            lab.cluster.start_member(member);
            lab.wait_healthy()?;
        }
        Ok(vec![
            ("members restarted", lab.cluster.size() as u64),
            ("anonymous requests refused", unauthenticated.into()),
        ])
    })
}
