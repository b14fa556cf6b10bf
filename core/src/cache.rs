//! The last state of a service on disk, for a process that starts while the store is down.
//!
//! One file for each service of each registry, named by a hash, `0600`, replaced whole. A file that is
//! damaged, somebody else's, or no plain file is passed over with one message; so is a full disk.
//!
//! The form: a line `libdiscover-cache 1 CHECKSUM`, then JSON.

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

/// A file that is longer than this is none of ours.
const LONGEST: u64 = 256 * 1024 * 1024;
/// At most one write in this time.
const PACE: Duration = Duration::from_secs(1);
const FORM: &str = "libdiscover-cache 1";

/// See the module.
#[derive(Clone)]
pub(crate) struct Cache {
    directory: Arc<Path>,
    /// Which registry it is, without what does not matter and without secrets.
    registry: Arc<str>,
}

impl Cache {
    /// In this directory, which is made if it is not there.
    pub(crate) fn open(directory: &str, uri: &Url) -> Result<Cache> {
        let bad = |e: io::Error| {
            let text = format!("option cache: cannot use the directory {directory:?}");
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        };
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(bad)?;
        let hosts: Vec<&str> = uri.hosts().collect();
        let layout = uri.option("layout").unwrap_or("native");
        // Where a layout has its folders, the options with a dot say.
        let folders = uri.options().filter(|(name, _)| name.contains('.'));
        let folders: String = folders
            .map(|(name, value)| format!("&{name}={value}"))
            .collect();
        let registry = format!(
            "{}://{}{}?layout={layout}{folders}",
            uri.scheme(),
            hosts.join(","),
            uri.path()
        );
        Ok(Cache {
            directory: PathBuf::from(directory).into(),
            registry: registry.into(),
        })
    }

    /// The last state of the service and when it was written, if there is one that can be used.
    pub(crate) async fn load(&self, service: &ServiceName) -> Option<(View, SystemTime)> {
        let (cache, service) = (self.clone(), service.clone());
        let load = move || match cache.read(&service) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let file = cache.file(&service);
                tracing::warn!(%service, %error, file = %file.display(), "cannot read the cache file, ignoring it");
                None
            }
        };
        tokio::task::spawn_blocking(load).await.ok().flatten()
    }

    /// Keeps the file in line with what is sent, at a measured pace, until the sender is dropped.
    pub(crate) fn keep(&self, service: &ServiceName) -> watch::Sender<Option<View>> {
        let (sender, mut views) = watch::channel(None);
        let (cache, service) = (self.clone(), service.clone());
        tokio::spawn(async move {
            let mut told = false;
            while views.changed().await.is_ok() {
                let Some(view) = views.borrow_and_update().clone() else {
                    continue;
                };
                let (cache, service) = (cache.clone(), service.clone());
                let write = move || {
                    let error = cache.write(&service, &view).err()?;
                    Some((error, cache.file(&service), service))
                };
                let failed = tokio::task::spawn_blocking(write).await.ok().flatten();
                if let Some((error, file, service)) = failed
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!(%service, %error, file = %file.display(), "cannot write the cache file");
                }
                sleep(PACE).await;
            }
        });
        sender
    }

    fn file(&self, service: &ServiceName) -> PathBuf {
        let name = checksum(format!("{} {service}", self.registry).as_bytes());
        self.directory.join(format!("{name:016x}.cache"))
    }

    fn read(&self, service: &ServiceName) -> io::Result<(View, SystemTime)> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(self.file(service))?;
        let about = file.metadata()?;
        let ours = about.is_file()
            && about.uid() == owner_of(&self.directory)?
            && about.mode() & 0o077 == 0;
        if !ours || about.len() > LONGEST {
            return Err(io::Error::other(
                "it is not a plain file that only its owner can use",
            ));
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        let body = text
            .split_once('\n')
            .and_then(|(head, body)| (head == head_of(body)).then_some(body));
        let body = body.ok_or_else(|| io::Error::other("it is damaged, or of another version"))?;
        let value: Value = serde_json::from_str(body)?;
        let mine = value["registry"] == *self.registry && value["service"] == service.as_str();
        let at = value["at_ms"]
            .as_u64()
            .map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        match (mine, at, view(service, &value)) {
            (true, Some(at), Some(view)) => Ok((view, at)),
            _ => Err(io::Error::other("it does not say what it should")),
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
            "instances": view.instances.values().map(|i| instance_json::write(i)).collect::<Vec<_>>(),
        })
        .to_string();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = self.file(service);
        let fresh = file.with_extension(format!("{}-{count}", std::process::id()));
        let done = write_new(&fresh, &body).and_then(|()| fs::rename(&fresh, &file));
        if done.is_err() {
            // What is half written is of no use to anybody.
            let _ = fs::remove_file(&fresh);
        }
        done
    }
}

/// The first line of a file with this body.
fn head_of(body: &str) -> String {
    format!("{FORM} {:016x}", checksum(body.as_bytes()))
}

fn write_new(path: &Path, body: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file: File = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    writeln!(file, "{}", head_of(body))?;
    file.write_all(body.as_bytes())?;
    file.sync_data()
}

/// Who owns the directory: nobody else's file in it is believed.
fn owner_of(directory: &Path) -> io::Result<u32> {
    fs::metadata(directory).map(|about| about.uid())
}

fn view(service: &ServiceName, value: &Value) -> Option<View> {
    let instances = value["instances"].as_array()?.iter().map(|found| {
        let instance = instance_json::read(service, found)?;
        Some((instance.seniority(), Arc::new(instance)))
    });
    Some(View {
        instances: instances.collect::<Option<_>>()?,
        ..View::default()
    })
}

/// FNV-1a: against accidents, not against enemies, who cannot write here.
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
        let uri = Url::parse("etcd://u:secret@h:1/p").unwrap();
        Cache::open(directory.to_str().unwrap(), &uri).unwrap()
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
            instances: both.into_iter().map(|i| (i.seniority(), i)).collect(),
            ..View::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_only_its_owner_can() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        cache.write(&web(), &two()).unwrap();
        let (read, at) = cache.read(&web()).unwrap();
        assert_eq!(read.instances, two().instances);
        assert!(at.elapsed().unwrap() < Duration::from_secs(60));
        let file = cache.file(&web());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!fs::read_to_string(&file).unwrap().contains("secret"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // Another registry, another file.
        let uri = Url::parse("etcd://h:1/q").unwrap();
        let other = Cache::open(directory.path().to_str().unwrap(), &uri).unwrap();
        assert!(other.read(&web()).is_err());
    }

    #[test]
    fn what_is_damaged_foreign_or_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        cache.write(&web(), &two()).unwrap();
        let file = cache.file(&web());
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
        // And it is replaced, not followed, when written.
        cache.write(&web(), &View::default()).unwrap();
        assert_eq!(fs::read(&real).unwrap(), whole);
        assert!(cache.read(&web()).unwrap().0.instances.is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        // Every write to it fails as a full disk does.
        assert!(fs::write("/dev/full", "x").is_err());
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        fs::create_dir(cache.file(&web())).unwrap();
        assert!(cache.write(&web(), &two()).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
