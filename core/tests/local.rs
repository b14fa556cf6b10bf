//! Faults of processes and files on `local://`.

mod support;

use std::fs;
use std::io;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use discover_core::{Client, ErrorKind, Registration};
use support::{Subscriber, WAIT_TIMEOUT, eventually, web};

/// URL with a TTL so long that no heartbeat plays a part.
fn url(directory: &Path) -> String {
    format!("local://{}?ttl=1h", directory.display())
}

/// Starts another process, which registers an instance and waits.
fn member(directory: &Path, address: &str) -> Child {
    let program = std::env::current_exe()
        .unwrap()
        .with_file_name("../examples/story");
    let mut child = Command::new(program)
        .args([&url(directory), "member", "web", address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// A killed process goes offline without a heartbeat, and its file is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_goes_offline_without_a_heartbeat() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::connect(&url(directory.path())).await.unwrap();
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    for _ in 0..20 {
        let mut child = member(directory.path(), "127.0.0.1:1");
        subscriber
            .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
            .await;
        child.kill().unwrap();
        subscriber
            .expect_events(&["down 127.0.0.1:1", "leader"])
            .await;
        child.wait().unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// A directory that becomes unsafe or unreadable makes the sets stale, and no program writes there. The sets are current
/// again when it can be used again.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_or_unreadable_directory_makes_sets_stale() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("registry");
    let client = Client::connect(&url(&directory)).await.unwrap();
    let lease = client.register(web(1)).await.unwrap();
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1", "current"])
        .await;
    let set_mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode));
    set_mode(0o777).unwrap();
    subscriber.expect_events(&["stale"]).await;
    let fault = set.status().fault.unwrap().error;
    assert!(
        fault.to_string().contains("written by other users"),
        "{fault}"
    );
    assert_eq!(set.online().len(), 1, "the last contents stay");
    for refused in [
        client.register(web(2)).await.unwrap_err(),
        lease.update([("a", "b")]).await.unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    }
    let mut late = Subscriber::new(&Client::services(&client, "web").unwrap());
    assert!(late.next_event().await.starts_with("up"));
    set_mode(0o700).unwrap();
    subscriber.expect_events(&["fresh"]).await;
    let second = client.register(web(2)).await.unwrap();
    subscriber.expect_events(&["up 127.0.0.1:2"]).await;

    lease.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader 127.0.0.1:2"])
        .await;
    second.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:2", "leader"])
        .await;
    // The client creates a missing directory again at once.
    eventually("a file replaces the directory", async || {
        let _ = fs::remove_dir_all(&directory);
        fs::write(&directory, "a file").is_ok()
    })
    .await;
    subscriber.expect_events(&["stale"]).await;
    fs::remove_file(&directory).unwrap();
    subscriber.expect_events(&["fresh"]).await;
}

/// An instance that died while no client was watching is absent for the next client.
#[tokio::test(flavor = "multi_thread")]
async fn dead_instances_are_absent_for_later_clients() {
    let directory = tempfile::tempdir().unwrap();
    let (mut dead, mut alive) = (
        member(directory.path(), "127.0.0.1:1"),
        member(directory.path(), "127.0.0.1:2"),
    );
    dead.kill().unwrap();
    dead.wait().unwrap();
    let client = Client::connect(&url(directory.path())).await.unwrap();
    let online = client
        .services("web")
        .unwrap()
        .wait(0, WAIT_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(
        online.iter().map(|i| i.address()).collect::<Vec<_>>(),
        ["127.0.0.1:2"]
    );
    alive.kill().unwrap();
    alive.wait().unwrap();
}

/// A removed directory is created again, with all registrations of live processes.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_directory_is_created_and_filled_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("registry");
    let client = Client::connect(&url(&directory)).await.unwrap();
    let set = client.services("web").unwrap();
    let _lease = client.register(web(1)).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    // While a process has it as its working directory, the kernel does not report its removal.
    let mut shell = Command::new("sleep")
        .arg("60")
        .current_dir(&directory)
        .spawn()
        .unwrap();
    // A registration may be restored between the removal of its file and that of the directory.
    while let Err(error) = fs::remove_dir_all(&directory) {
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    // Whether it seems offline in between depends on whether the owner or the watcher is faster.
    let is_back = async || fs::read_dir(&directory).is_ok_and(|files| files.count() == 1);
    eventually("the registration is restored", is_back).await;
    let other = Client::connect(&url(&directory)).await.unwrap();
    let found = other
        .services("web")
        .unwrap()
        .wait(1, WAIT_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    let _late = other.register(web(2)).await.unwrap();
    set.wait(2, WAIT_TIMEOUT).await.unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// Foreign files in the directory hide no instance and are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let key = "+discover+services+web+h:1~kept";
    // Names that resemble those of entries, old enough to be removed.
    for name in [
        ".bashrc",
        ".libdiscover-notes",
        "report~20240101.pdf",
        "a~00000000000000ff.1.2",
    ] {
        let file = fs::File::create(path(name)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    let alike = "+x~00000000000000ff.1.00000000000000ff";
    fs::write(path(alike), "libdiscover 1 5 /y\n").unwrap();
    fs::write(path("README"), "hello").unwrap();
    fs::write(path("notes~kept"), "libdiscover 1 x y\n").unwrap();
    fs::write(
        path(key),
        "libdiscover 1 5 /discover/services/web/h:1\n{broken",
    )
    .unwrap();
    fs::create_dir(path("folder~kept")).unwrap();
    symlink("/etc/passwd", path("link~kept")).unwrap();
    let client = Client::connect(&url(directory.path())).await.unwrap();
    let set = client.services("web").unwrap();
    let _lease = client.register(web(2)).await.unwrap();
    assert_eq!(set.wait(1, WAIT_TIMEOUT).await.unwrap()[0].port(), 2);
    assert_eq!(set.status().invalid, 1);
    client.close(WAIT_TIMEOUT).await.unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 10);
}

/// A directory that other users may write, or a path that is no directory, is refused with its name and the
/// remedy.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_directory_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let open = parent.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Client::connect(&url(&open)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.report().contains("chmod"), "{error}");
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(
        Client::connect(&url(&file))
            .await
            .unwrap_err()
            .to_string()
            .contains("not a directory")
    );
    symlink(parent.path(), parent.path().join("link")).unwrap();
    assert!(
        Client::connect(&url(&parent.path().join("link")))
            .await
            .is_err()
    );
}

/// A name too long for a file is refused with the limit, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_too_long_for_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::connect(&url(directory.path())).await.unwrap();
    let long = Registration::new(&"s".repeat(120), 1)
        .unwrap()
        .host(&"h".repeat(120))
        .unwrap();
    let error = client.register(long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.report().contains("255"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The directory and its files are private, and the TTL plays no part while the process lives.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_and_its_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let client = Client::connect(&url(&directory)).await.unwrap();
    let lease = client
        .register(web(1).ttl(Duration::from_secs(1)).unwrap())
        .await
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
    assert!(
        file.file_name()
            .to_string_lossy()
            .starts_with("+discover+services+web+127.0.0.1:1~")
    );
    assert_eq!(mode(&file.path()), 0o600);
    lease.unregister().await.unwrap();
}
