//! Snapshots of services on disk, for a process that starts while the registry is down.
//!
//! Each service of each registry has one file, named by a hash, with mode `0600`. A write replaces the file
//! atomically. A file that is damaged, owned by another user, or not a regular file is ignored with one
//! warning; a full disk causes one warning too. A directory that other users control is refused: they could
//! decide which instances this process uses, and where it writes.
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
    /// Fails with [`ErrorKind::InvalidArgument`] if the directory cannot be created, and with
    /// [`ErrorKind::PermissionDenied`] if other users control it.
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
        check_directory(Path::new(directory)).map_err(|e| {
            let text = format!("option cache: the directory {directory:?} is not used");
            Error::caused_by(ErrorKind::PermissionDenied, text, e)
        })?;
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
        check_directory(&self.directory)?;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(self.file_of(service))?;
        let metadata = file.metadata()?;
        let is_private =
            metadata.is_file() && metadata.uid() == own_user() && metadata.mode() & 0o077 == 0;
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
        check_directory(&self.directory)?;
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

/// Checks that the directory, and a link in its place, belong to this user or to root, and that not everyone can
/// replace its files.
fn check_directory(directory: &Path) -> io::Result<()> {
    const STICKY: u32 = 0o1000;
    let (link, target) = (fs::symlink_metadata(directory)?, fs::metadata(directory)?);
    for owner in [link.uid(), target.uid()] {
        if owner != own_user() && owner != 0 {
            let text = format!(
                "it belongs to user {owner}; it must belong to this user, {}, or to root",
                own_user()
            );
            return Err(io::Error::other(text));
        }
    }
    if target.mode() & 0o002 != 0 && target.mode() & STICKY == 0 {
        return Err(io::Error::other(
            "every user may write to it; chmod it to 700",
        ));
    }
    Ok(())
}

/// Returns the user of this process. Files of other users are ignored.
fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
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

    /// Gives a path to another user. Returns false without the right to do that.
    fn give_away(path: &Path) -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::os::unix::fs::lchown(path, Some(12_345), None).unwrap();
        }
        is_root
    }

    #[test]
    fn a_directory_that_others_control_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("cache");
        let path = directory.to_str().unwrap().to_owned();
        let url = Url::parse("etcd://h:1/p").unwrap();
        let refusal = || {
            let error = Cache::open(&path, &url).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            error.report()
        };
        let cache = Cache::open(&path, &url).unwrap();
        cache.write(&web(), &two()).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refusal().contains("every user may write to it"));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(Cache::open(&path, &url).is_ok(), "as /tmp");
        if !give_away(&directory) {
            return;
        }
        assert!(refusal().contains("belongs to user 12345"));
        assert!(cache.read(&web()).is_err() && cache.write(&web(), &two()).is_err());
        std::os::unix::fs::chown(&directory, Some(0), None).unwrap();
        give_away(&cache.file_of(&web()));
        assert!(cache.read(&web()).is_err(), "a file of another user");
        fs::rename(&directory, parent.path().join("real")).unwrap();
        symlink("real", &directory).unwrap();
        give_away(&directory);
        assert!(
            refusal().contains("belongs to user 12345"),
            "a link of another user"
        );
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
