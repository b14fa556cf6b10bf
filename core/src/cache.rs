//! Snapshots of services on disk, for a process that starts while the registry is down.
//!
//! Each service of each registry has one file, named by a hash, with mode `0600`. A write replaces the file
//! atomically. A file that is damaged, owned by another user, or not a regular file is ignored with one
//! warning; a full disk causes one warning too.
//!
//! Format: the line `libdiscover-cache 1 CHECKSUM`, then JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::error::{Error, ErrorKind, Result};
use crate::instance_json;
use crate::model::{ServiceName, View};
use crate::url::Url;

/// Longer files are ignored.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Shortest time between two writes of a file.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
const FORMAT: &str = "libdiscover-cache 1";

/// The cache directory of one registry.
#[derive(Clone)]
pub(crate) struct Cache {
    directory: Arc<Path>,
    /// Identity of the registry: its URL without secrets and without options that do not change the contents.
    registry: Arc<str>,
}

impl Cache {
    /// Opens a directory, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] if the directory cannot be created.
    pub(crate) fn open(directory: &str, url: &Url) -> Result<Cache> {
        let unusable = |e: io::Error| {
            let text = format!("option cache: cannot create the directory {directory:?}");
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        };
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(unusable)?;
        let hosts: Vec<&str> = url.hosts().collect();
        let layout = url.option("layout").unwrap_or("native");
        // Options with a dot in their names set the folders of layouts.
        let folders = url.options().filter(|(name, _)| name.contains('.'));
        let folders: String = folders
            .map(|(name, value)| format!("&{name}={value}"))
            .collect();
        let registry = format!(
            "{}://{}{}?layout={layout}{folders}",
            url.scheme(),
            hosts.join(","),
            url.path()
        );
        Ok(Cache {
            directory: PathBuf::from(directory).into(),
            registry: registry.into(),
        })
    }

    /// Returns the cached view of the service and when it was written, or `None` without a usable file.
    pub(crate) async fn load(&self, service: &ServiceName) -> Option<(View, SystemTime)> {
        let (cache, service) = (self.clone(), service.clone());
        let load = move || match cache.read(&service) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let file = cache.file_of(&service);
                tracing::warn!(%service, %error, file = %file.display(), "cannot read the cache file, ignoring it");
                None
            }
        };
        tokio::task::spawn_blocking(load).await.ok().flatten()
    }

    /// Starts a task that writes the latest view sent to the returned channel, at most once a second, until the
    /// sender is dropped.
    pub(crate) fn start_writer(&self, service: &ServiceName) -> watch::Sender<Option<View>> {
        let (sender, mut views) = watch::channel(None);
        let (cache, service) = (self.clone(), service.clone());
        tokio::spawn(async move {
            let (mut has_warned, named) = (false, service.clone());
            while views.changed().await.is_ok() {
                let Some(view) = views.borrow_and_update().clone() else {
                    continue;
                };
                let (cache, service) = (cache.clone(), service.clone());
                let write = move || {
                    let error = cache.write(&service, &view).err()?;
                    Some((error, cache.file_of(&service)))
                };
                let failed = tokio::task::spawn_blocking(write).await.ok().flatten();
                if let Some((error, file)) = failed
                    && !std::mem::replace(&mut has_warned, true)
                {
                    tracing::warn!(service = %named, %error, file = %file.display(), "cannot write the cache file");
                }
                sleep(WRITE_INTERVAL).await;
            }
        });
        sender
    }

    fn file_of(&self, service: &ServiceName) -> PathBuf {
        let name = checksum(format!("{} {service}", self.registry).as_bytes());
        self.directory.join(format!("{name:016x}.cache"))
    }

    fn read(&self, service: &ServiceName) -> io::Result<(View, SystemTime)> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(self.file_of(service))?;
        let metadata = file.metadata()?;
        let is_private = metadata.is_file()
            && metadata.uid() == owner_of(&self.directory)?
            && metadata.mode() & 0o077 == 0;
        if !is_private || metadata.len() > MAX_FILE_BYTES {
            return Err(io::Error::other(
                "it is not a regular file that only this user can access",
            ));
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        let body = text
            .split_once('\n')
            .and_then(|(head, body)| (head == header_of(body)).then_some(body));
        let body = body.ok_or_else(|| io::Error::other("it is damaged or of another version"))?;
        let value: Value = serde_json::from_str(body)?;
        let is_this = value["registry"] == *self.registry && value["service"] == service.as_str();
        let at = value["at_ms"]
            .as_u64()
            .map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        match (is_this, at, view(service, &value)) {
            (true, Some(at), Some(view)) => Ok((view, at)),
            _ => Err(io::Error::other(
                "its contents are of another service or incomplete",
            )),
        }
    }

    fn write(&self, service: &ServiceName, view: &View) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let body = json!({
            "registry": &*self.registry,
            "service": service.as_str(),
            "at_ms": now.as_millis() as u64,
            "instances": view.instances.values().map(|i| instance_json::encode(i)).collect::<Vec<_>>(),
        })
        .to_string();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = self.file_of(service);
        let fresh = file.with_extension(format!("{}-{count}", std::process::id()));
        let written = write_new(&fresh, &body).and_then(|()| fs::rename(&fresh, &file));
        if written.is_err() {
            // The temporary file is incomplete.
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}

/// Returns the first line of a file with this body.
fn header_of(body: &str) -> String {
    format!("{FORMAT} {:016x}", checksum(body.as_bytes()))
}

fn write_new(path: &Path, body: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file: File = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    writeln!(file, "{}", header_of(body))?;
    file.write_all(body.as_bytes())?;
    file.sync_data()
}

/// Returns the owner of the directory. Files of other users in it are ignored.
fn owner_of(directory: &Path) -> io::Result<u32> {
    fs::metadata(directory).map(|metadata| metadata.uid())
}

fn view(service: &ServiceName, value: &Value) -> Option<View> {
    let instances = value["instances"].as_array()?.iter().map(|found| {
        let instance = instance_json::decode(service, found)?;
        Some((instance.order(), Arc::new(instance)))
    });
    Some(View {
        instances: instances.collect::<Option<_>>()?,
        ..View::default()
    })
}

/// Computes the FNV-1a hash. It detects accidental damage; file permissions keep attackers out.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Registration;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn cache(directory: &Path) -> Cache {
        let url = Url::parse("etcd://u:secret@h:1/p").unwrap();
        Cache::open(directory.to_str().unwrap(), &url).unwrap()
    }

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn two() -> View {
        let instance = |port: u16| {
            let made = Registration::new("web", port).unwrap().host("::1").unwrap();
            let made = made
                .attributes([("zone", "eu")])
                .unwrap()
                .tags(["a"])
                .unwrap();
            Arc::new(made.instance(u64::from(port) + 7))
        };
        let both = [instance(1), instance(2)];
        View {
            revision: 9,
            instances: both.into_iter().map(|i| (i.order(), i)).collect(),
            ..View::default()
        }
    }

    #[test]
    fn a_written_view_is_read_back_and_only_the_owner_can_access_it() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        cache.write(&web(), &two()).unwrap();
        let (read, at) = cache.read(&web()).unwrap();
        assert_eq!(read.instances, two().instances);
        assert!(at.elapsed().unwrap() < Duration::from_secs(60));
        let file = cache.file_of(&web());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!fs::read_to_string(&file).unwrap().contains("secret"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // Another registry has another file.
        let url = Url::parse("etcd://h:1/q").unwrap();
        let other = Cache::open(directory.path().to_str().unwrap(), &url).unwrap();
        assert!(other.read(&web()).is_err());
    }

    #[test]
    fn a_damaged_foreign_or_irregular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        cache.write(&web(), &two()).unwrap();
        let file = cache.file_of(&web());
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(cache.read(&web()).is_err(), "cut at {cut}");
            let mut bent = whole.clone();
            bent[cut] ^= 0x10;
            fs::write(&file, &bent).unwrap();
            assert!(cache.read(&web()).is_err(), "bent at {cut}");
        }
        fs::write(&file, &whole).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(cache.read(&web()).is_err(), "others can read it");
        let real = directory.path().join("real");
        fs::rename(&file, &real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&real, &file).unwrap();
        assert!(cache.read(&web()).is_err(), "a symbolic link");
        // A write replaces the link and does not follow it.
        cache.write(&web(), &View::default()).unwrap();
        assert_eq!(fs::read(&real).unwrap(), whole);
        assert!(cache.read(&web()).unwrap().0.instances.is_empty());
    }

    #[test]
    fn a_failed_write_is_an_error_and_leaves_no_file() {
        // Every write to this device fails like a write to a full disk.
        assert!(fs::write("/dev/full", "x").is_err());
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        fs::create_dir(cache.file_of(&web())).unwrap();
        assert!(cache.write(&web(), &two()).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
