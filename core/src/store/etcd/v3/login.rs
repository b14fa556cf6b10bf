//! Login of a connection. etcd's tokens expire, and some are outdated by every change of the permissions; a call that is
//! refused for this logs in again and is repeated.

use std::sync::atomic::{AtomicU64, Ordering};

use etcd_client::{Client, Error as EtcdError};
use tokio::sync::Mutex;

use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::error::{is_authentication_disabled, is_outdated_login};

/// The login of one connection.
pub(super) struct Login {
    /// User name and password.
    credentials: Option<(String, String)>,
    /// Number of logins. Calls that were refused at the same time log in once.
    count: AtomicU64,
    renewal: Mutex<()>,
}

impl Login {
    /// Logs in on a new connection, if the URL has a login.
    pub(super) async fn new(config: &EtcdConfig, client: &Client) -> Result<Login, EtcdError> {
        let login = Login {
            credentials: config.user.clone(),
            count: AtomicU64::new(0),
            renewal: Mutex::default(),
        };
        login.renew(client, 0).await?;
        Ok(login)
    }

    /// Returns the number of logins so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns true if another login may help against this error.
    pub(super) fn may_help(&self, error: &EtcdError) -> bool {
        self.credentials.is_some() && is_outdated_login(error)
    }

    /// Logs in again, unless that was done since there were `count` logins. A server with authentication disabled is
    /// used without a login, as etcdctl does.
    pub(super) async fn renew(&self, client: &Client, count: u64) -> Result<(), EtcdError> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let _renewal = self.renewal.lock().await;
        if self.count() > count {
            return Ok(());
        }
        let mut client = client.clone();
        match client.update_user(Some(credentials.clone())).await {
            Err(error) if is_authentication_disabled(&error) => {
                tracing::debug!("the store has authentication disabled, the login is not used");
                // Such a server refuses the token of an earlier login.
                client.update_user(None).await?;
            }
            renewed => renewed?,
        }
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }
}
