//! A private network: one namespace per host, connected by a bridge in another namespace. Nothing is added to the network of
//! the machine, so any number of labs run at once, and everything disappears with the namespaces.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Prefix of the names of everything that a lab creates; the process id follows.
pub const TAG: &str = "dlab";

/// The directory from which `ip netns exec` bind-mounts files over those in `/etc`.
const NAMES: &str = "/etc/netns";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The hosts of one lab. Removed with all their processes when dropped.
pub struct Network {
    tag: String,
    hosts: Vec<Host>,
}

/// One host: a namespace with one address.
#[derive(Clone)]
pub struct Host {
    namespace: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Returns the reason why a lab cannot run here, if there is one. Checked once per process.
pub fn unavailable() -> Option<String> {
    static TRIED: OnceLock<Option<String>> = OnceLock::new();
    TRIED.get_or_init(try_one).clone()
}

fn try_one() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let probe = format!("{TAG}-{}-probe", std::process::id());
    let script = format!(
        "ip netns add {probe}; ip netns exec {probe} iptables -w -L -n || failed=1; ip netns del {probe}; [ -z \"$failed\" ]"
    );
    match Command::new("sh").args(["-ec", &script]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Returns true and reports a skipped test if network namespaces are unavailable. Panics if `DISCOVER_REQUIRE_SERVERS` lists
/// `netns`.
pub fn skipped() -> bool {
    let Some(why) = unavailable() else {
        return false;
    };
    discover_testkit::skip("netns", &why);
    true
}

impl Network {
    /// Creates `count` connected hosts.
    pub fn new(count: usize) -> Result<Network, String> {
        remove_stale();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{TAG}-{}-{number}", std::process::id());
        let host = |at: usize| Host {
            namespace: format!("{tag}-{at}"),
            address: Ipv4Addr::new(10, 77, 0, at as u8 + 1),
        };
        let network = Network {
            hosts: (0..count).map(host).collect(),
            tag,
        };
        let switch = format!("{}-sw", network.tag);
        let mut script = format!(
            "ip netns add {switch}\nip -n {switch} link add br0 type bridge\nip -n {switch} link set br0 up\n"
        );
        for (at, Host { namespace, address }) in network.hosts.iter().enumerate() {
            script += &format!(
                "ip netns add {namespace}
                 ip -n {namespace} link add eth0 type veth peer name p{at} netns {switch}
                 ip -n {namespace} addr add {address}/24 dev eth0
                 ip -n {namespace} link set lo up
                 ip -n {namespace} link set eth0 up
                 ip -n {switch} link set p{at} master br0
                 ip -n {switch} link set p{at} up\n"
            );
        }
        shell(&script)?;
        Ok(network)
    }

    /// Returns a host by number.
    pub fn host(&self, at: usize) -> &Host {
        &self.hosts[at]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(|namespace| namespace.starts_with(&format!("{}-", self.tag)));
    }
}

impl Host {
    /// Returns a command that runs on the host, and that the kernel kills with the thread that spawns it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "ip",
                "netns",
                "exec",
                &self.namespace,
            ])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script on the host and returns its output; a failure is an error.
    pub fn shell(&self, script: &str) -> Result<String, String> {
        let mut command = self.command("sh");
        command.args(["-ec", script]);
        run(&mut command)
    }

    /// Sets the address of a name on the host, in a file that only programs started after the first call see.
    pub fn resolve(&self, name: &str, address: Ipv4Addr) -> Result<(), String> {
        let folder = Path::new(NAMES).join(&self.namespace);
        let lines = format!("127.0.0.1 localhost\n{address} {name}\n");
        // Written in place: the programs have mounted this inode.
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("hosts"), lines))
            .map_err(|error| format!("{}: {error}", folder.display()))
    }

    /// Moves the calling thread to the host: sockets that it opens from now on belong to that namespace.
    pub fn enter(&self) -> std::io::Result<()> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace))?;
        Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Removes the leftovers of labs whose process is gone.
fn remove_stale() {
    let stale = |name: &str| {
        let pid = name.split('-').nth(1).unwrap_or_default();
        !Path::new("/proc").join(pid).exists()
    };
    remove(stale);
    remove_folders(stale);
}

/// Removes all labs of this process, before it exits early.
pub fn remove_own() {
    let own = format!("{TAG}-{}-", std::process::id());
    remove(|name| name.starts_with(&own));
    remove_folders(|name| name.starts_with(&own));
}

/// Removes the chosen namespaces and kills their processes.
fn remove(chosen: impl Fn(&str) -> bool) {
    for name in of_labs(Path::new("/run/netns")).filter(|name| chosen(name)) {
        let script = format!("ip netns pids {name} | xargs -r kill -KILL; ip netns del {name}");
        // Another process may be removing it too.
        let _ = Command::new("sh")
            .args(["-c", &script])
            .stderr(Stdio::null())
            .status();
    }
    remove_folders_in(Path::new(NAMES), chosen);
}

/// Removes the chosen directories of labs.
fn remove_folders(chosen: impl Fn(&str) -> bool) {
    remove_folders_in(&std::env::temp_dir(), chosen);
}

fn remove_folders_in(place: &Path, chosen: impl Fn(&str) -> bool) {
    for name in of_labs(place).filter(|name| chosen(name)) {
        let _ = std::fs::remove_dir_all(place.join(name));
    }
}

/// Returns the entries of a directory that belong to labs.
fn of_labs(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("{TAG}-")))
}

fn shell(script: &str) -> Result<String, String> {
    run(Command::new("sh").args(["-ec", script]))
}

/// Runs a command and returns its output; a failure is an error.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{text}{errors}", output.status))
}
