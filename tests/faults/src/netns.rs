//! A network of one's own: a namespace for each machine, joined by a bridge in one more. Nothing is
//! added to the host's network, so any number of labs run at once, and all of it is gone with its
//! namespaces.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Begins the name of everything that a lab makes; the process id of the lab follows.
pub const TAG: &str = "dlab";

/// Where `ip netns exec` finds the files that it lays over those in `/etc`.
const NAMES: &str = "/etc/netns";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The machines of one lab. Removed with all that runs on them when dropped.
pub struct Network {
    tag: String,
    hosts: Vec<Host>,
}

/// One machine: a namespace with one address.
#[derive(Clone)]
pub struct Host {
    namespace: String,
    /// What the others reach it by.
    pub address: Ipv4Addr,
}

/// Why there can be no lab here, if there cannot. Tried once in each process.
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

/// Says loudly that a test is skipped, or fails it where the lab is required.
pub fn skipped() -> bool {
    let Some(why) = unavailable() else {
        return false;
    };
    let required = std::env::var("DISCOVER_REQUIRE_SERVERS").unwrap_or_default();
    assert!(
        !required.contains("netns"),
        "the fault lab is required: {why}"
    );
    // Past the capture of the test runner, so that the skip is counted.
    let line = format!("SKIPPED: fault lab: {why}\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("stdout");
    true
}

impl Network {
    /// Makes `count` machines that reach each other.
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

    /// The machine number `at`.
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
    /// A command that runs there, and is killed by the kernel with the thread that starts it.
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

    /// Runs a shell script there that must succeed, and gives what it printed.
    pub fn shell(&self, script: &str) -> Result<String, String> {
        let mut command = self.command("sh");
        command.args(["-ec", script]);
        run(&mut command)
    }

    /// Says what address a name has there, in a file that only programs started after the first time see.
    pub fn resolve(&self, name: &str, address: Ipv4Addr) -> Result<(), String> {
        let folder = Path::new(NAMES).join(&self.namespace);
        let lines = format!("127.0.0.1 localhost\n{address} {name}\n");
        // Written in place: the programs have this very file, and no other of its name.
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("hosts"), lines))
            .map_err(|error| format!("{}: {error}", folder.display()))
    }

    /// Moves the calling thread there: the sockets that it opens from now on are of that machine.
    pub fn enter(&self) -> std::io::Result<()> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace))?;
        Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Removes what is left of labs whose process is gone.
fn remove_stale() {
    let stale = |name: &str| {
        let pid = name.split('-').nth(1).unwrap_or_default();
        !Path::new("/proc").join(pid).exists()
    };
    remove(stale);
    remove_folders(stale);
}

/// Removes all labs of this process, for who must leave at once.
pub fn remove_own() {
    let own = format!("{TAG}-{}-", std::process::id());
    remove(|name| name.starts_with(&own));
    remove_folders(|name| name.starts_with(&own));
}

/// Removes the namespaces of labs that are chosen, and kills what runs in them.
fn remove(chosen: impl Fn(&str) -> bool) {
    for name in of_labs(Path::new("/run/netns")).filter(|name| chosen(name)) {
        let script = format!("ip netns pids {name} | xargs -r kill -KILL; ip netns del {name}");
        // Somebody else may be removing the same.
        let _ = Command::new("sh")
            .args(["-c", &script])
            .stderr(Stdio::null())
            .status();
    }
    remove_folders_in(Path::new(NAMES), chosen);
}

/// Removes the folders of labs that are chosen.
fn remove_folders(chosen: impl Fn(&str) -> bool) {
    remove_folders_in(&std::env::temp_dir(), chosen);
}

fn remove_folders_in(place: &Path, chosen: impl Fn(&str) -> bool) {
    for name in of_labs(place).filter(|name| chosen(name)) {
        let _ = std::fs::remove_dir_all(place.join(name));
    }
}

/// What is in a folder and has the name of a lab.
fn of_labs(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("{TAG}-")))
}

fn shell(script: &str) -> Result<String, String> {
    run(Command::new("sh").args(["-ec", script]))
}

/// Runs a command that must succeed, and gives what it printed.
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
