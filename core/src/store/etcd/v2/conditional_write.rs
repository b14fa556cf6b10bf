//! Writes with a precondition, and what v2 can store: text, whole seconds, and names that it does not hide.

use std::time::Duration;

use hyper::Method;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Entry, Key, Node};
use crate::store::etcd::v2::EtcdV2Store;
use crate::store::etcd::v2::http::{self, Http, MAX_KEY_RESPONSE};
use crate::store::etcd::v2::response::ApiResult;

/// A conditional write.
pub(super) struct Write<'a> {
    /// Precondition as a query: `prevExist=false` or `prevIndex=7`. Empty for an unconditional write.
    pub(super) condition: String,
    pub(super) value: &'a str,
    /// Whether the key has this value already, so that only its TTL is renewed.
    pub(super) unchanged: bool,
    /// `None` for a persistent key.
    pub(super) ttl: Option<Duration>,
}

impl EtcdV2Store {
    /// Sends a write.
    pub(super) async fn write(&self, key: &Key, write: Write<'_>) -> Result<ApiResult> {
        let path = match write.condition.as_str() {
            "" => self.path(key),
            condition => format!("{}?{condition}", self.path(key)),
        };
        let put = async |http: Http| {
            // A refresh, where the server supports it, emits no event.
            let mut form = match write.unchanged && http.refreshes {
                true => "refresh=true".to_owned(),
                false => format!("value={}", http::form_value(write.value)),
            };
            if let Some(ttl) = write.ttl {
                form.push_str(&format!("&ttl={}", ttl.as_secs()));
            }
            let pending = http.begin(Method::PUT, &path, Some(form)).await?;
            Ok(pending.read(MAX_KEY_RESPONSE).await?.1)
        };
        self.run(put).await
    }
}

/// Returns the precondition that the key is as it was read, or still does not exist.
pub(super) fn precondition(seen: Option<&Node>) -> String {
    match seen {
        Some(node) => format!("prevIndex={}", node.modified),
        None => "prevExist=false".to_owned(),
    }
}

/// Rounds up to whole seconds, the unit of v2.
pub(super) fn whole_seconds(ttl: Duration) -> Duration {
    let more = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(ttl.as_secs().saturating_add(more).max(1))
}

/// Returns the value as text: v2 stores nothing else.
pub(super) fn value_text(entry: &Entry) -> Result<&str> {
    let invalid = |e| {
        let text = format!("the value of {}", entry.key);
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    };
    std::str::from_utf8(&entry.value).map_err(invalid)
}

/// Rejects keys that v2 cannot store: `.` and `..` are directories there, and names with a leading `_` are
/// hidden.
pub(super) fn check_key(key: &Key) -> Result<()> {
    let mut segments = key.as_str().split('/');
    if let Some(invalid) = segments.clone().find(|s| matches!(*s, "." | "..")) {
        return Err(Error::invalid(format!(
            "key {key}: {invalid} is no name in etcd v2"
        )));
    }
    if let Some(hidden) = segments.find(|s| s.starts_with('_')) {
        let text = format!("key {key}: etcd v2 hides {hidden}, which begins with _");
        return Err(Error::invalid(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_v2_hides_or_treats_as_directories_are_refused() {
        let key = |path| Key::new(path).unwrap();
        assert!(check_key(&key("/a/b_/c_d")).is_ok());
        for (path, names) in [
            ("/a/_b", "_b"),
            ("/a/_hidden/b", "_hidden"),
            ("/a/../b", ".."),
            ("/a/./b", "."),
        ] {
            let error = check_key(&key(path)).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn a_ttl_is_never_shorter_than_requested() {
        let seconds = |ms| whole_seconds(Duration::from_millis(ms)).as_secs();
        assert_eq!([1, 1000, 1500, 10_000].map(seconds), [1, 1, 2, 10]);
    }
}
