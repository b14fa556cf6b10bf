//! A real etcd cluster of one or more members, each in a network namespace of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::netns::{Host, run};
use crate::process;
use discover_testkit::clock::wait_until;

/// The client port of every member.
pub const PORT: u16 = 2379;
const PEERS: u16 = 2380;

/// The cluster. All members are killed when it is dropped.
pub struct Cluster {
    hosts: Vec<Host>,
    admin: Host,
    directory: PathBuf,
    arguments: Vec<String>,
    /// `name:password`, once authentication is enabled.
    login: Mutex<Option<String>>,
    members: Vec<Mutex<Option<Child>>>,
}

impl Cluster {
    /// Starts a member on each host, with further arguments, and waits until all are healthy.
    pub fn start(
        hosts: Vec<Host>,
        admin: Host,
        directory: &Path,
        arguments: &[String],
    ) -> Result<Cluster, String> {
        let cluster = Cluster {
            members: hosts.iter().map(|_| Mutex::new(None)).collect(),
            hosts,
            admin,
            directory: directory.to_owned(),
            arguments: arguments.to_vec(),
            login: Mutex::default(),
        };
        cluster.start_all();
        cluster.wait_healthy()?;
        Ok(cluster)
    }

    /// Returns the number of members.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the numbers of all members.
    pub fn all(&self) -> Vec<usize> {
        (0..self.size()).collect()
    }

    /// Returns the host of a member.
    pub fn host(&self, member: usize) -> &Host {
        &self.hosts[member]
    }

    /// Adds a member in place of a removed one.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.hosts.iter().map(|host| host.address).collect()
    }

    /// Starts a member on its existing data, without waiting.
    pub fn start_member(&self, member: usize) {
        self.start_as(member, "new");
    }

    /// Removes a member from the cluster for good, with its data.
    pub fn remove(&self, member: usize) -> Result<(), String> {
        let id = self.id(member)?;
        self.change_members(&["remove", &id])?;
        self.kill(member);
        self.wipe(member);
        Ok(())
    }

    /// Adds a member where one was removed.
    pub fn add(&self, member: usize) -> Result<(), String> {
        let peer = format!("--peer-urls=http://{}:{PEERS}", self.hosts[member].address);
        self.change_members(&["add", &format!("m{member}"), &peer])?;
        self.start_as(member, "existing");
        Ok(())
    }

    /// Changes the membership, retrying: etcd refuses until all members have been connected for five seconds.
    fn change_members(&self, how: &[&str]) -> Result<(), String> {
        let mut last = Ok(());
        wait_until(15.0, || {
            last = self.ctl(&[&["member"], how].concat()).map(drop);
            last.is_ok()
        });
        last
    }

    fn start_as(&self, member: usize, state: &str) {
        let at = |address: Ipv4Addr, port: u16| format!("http://{address}:{port}");
        let own = self.hosts[member].address;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("m{member}.log")))
            .expect("the lab's folder can be written");
        let mut command = self.hosts[member].command("etcd");
        command
            .args([
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
                "--logger",
                "zap",
            ])
            .args([
                "--name",
                &format!("m{member}"),
                "--initial-cluster-token",
                "lab",
            ])
            .arg("--data-dir")
            .arg(self.data(member))
            .args([
                "--listen-client-urls",
                &at(own, PORT),
                "--advertise-client-urls",
                &at(own, PORT),
            ])
            .args([
                "--listen-peer-urls",
                &at(own, PEERS),
                "--initial-advertise-peer-urls",
                &at(own, PEERS),
            ])
            .args(["--initial-cluster", &self.peers()])
            .args(["--initial-cluster-state", state])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(log);
        *self.member(member) = Some(command.spawn().expect("setpriv is installed"));
    }

    /// Starts all members, without waiting.
    pub fn start_all(&self) {
        self.all()
            .into_iter()
            .for_each(|member| self.start_member(member));
    }

    /// Kills a member (SIGKILL).
    pub fn kill(&self, member: usize) {
        if let Some(mut child) = self.member(member).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Terminates a member (SIGTERM) and waits for it.
    pub fn terminate(&self, member: usize) {
        if let Some(mut child) = self.member(member).take() {
            process::terminate(child.id());
            let _ = child.wait();
        }
    }

    /// Freezes a member.
    pub fn freeze(&self, member: usize) -> bool {
        self.pid(member).is_some_and(process::freeze)
    }

    /// Continues a frozen member.
    pub fn thaw(&self, member: usize) {
        self.pid(member).map(process::thaw).unwrap_or_default();
    }

    /// Deletes the data of a stopped member.
    pub fn wipe(&self, member: usize) {
        let _ = std::fs::remove_dir_all(self.data(member));
    }

    /// Writes a snapshot of the store to a file, and returns its revision.
    pub fn save(&self, file: &Path) -> Result<u64, String> {
        let file = file.display().to_string();
        self.ctl_at(&self.addresses()[..1], &["snapshot", "save", &file])?;
        let status = self.ctl(&["snapshot", "status", &file, "-w", "json"])?;
        let status: Value = serde_json::from_str(&status).map_err(|e| format!("{status}: {e}"))?;
        status["revision"]
            .as_u64()
            .ok_or_else(|| format!("no revision in {status}"))
    }

    /// Restores a snapshot to all members, which must be stopped.
    pub fn restore(&self, file: &Path) -> Result<(), String> {
        for member in self.all() {
            self.wipe(member);
            let own = format!("http://{}:{PEERS}", self.hosts[member].address);
            let mut command = etcdctl(&self.admin);
            command
                .args(["snapshot", "restore"])
                .arg(file)
                .args([
                    "--name",
                    &format!("m{member}"),
                    "--initial-cluster-token",
                    "lab",
                ])
                .args([
                    "--initial-cluster",
                    &self.peers(),
                    "--initial-advertise-peer-urls",
                    &own,
                ])
                .arg("--data-dir")
                .arg(self.data(member));
            run(&mut command)?;
        }
        Ok(())
    }

    /// Returns the leader.
    pub fn leader(&self) -> Result<usize, String> {
        let mut leader = None;
        wait_until(15.0, || {
            leader = self.all().into_iter().find(|member| self.leads(*member));
            leader.is_some()
        });
        leader.ok_or_else(|| "no member leads".to_owned())
    }

    /// Makes a member the leader.
    pub fn lead(&self, member: usize) -> Result<(), String> {
        let id = self.id(member)?;
        let leader = self.leader()?;
        self.ctl_at(&self.addresses()[leader..=leader], &["move-leader", &id])
            .map(drop)
    }

    /// The id of a member, as etcdctl wants it.
    fn id(&self, member: usize) -> Result<String, String> {
        let own = &self.addresses()[member..=member];
        let status = self.ctl_at(own, &["endpoint", "status", "-w", "json"])?;
        let status: Value = serde_json::from_str(&status).map_err(|e| e.to_string())?;
        let id = status[0]["Status"]["header"]["member_id"].as_u64();
        id.map(|id| format!("{id:x}"))
            .ok_or_else(|| "no id of the member".to_owned())
    }

    fn leads(&self, member: usize) -> bool {
        let address = &self.addresses()[member..=member];
        let status = self
            .ctl_at(address, &["endpoint", "status", "-w", "json"])
            .unwrap_or_default();
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    /// Waits until every member answers and takes part in the quorum.
    pub fn wait_healthy(&self) -> Result<(), String> {
        self.wait_healthy_members(&self.all())
    }

    /// Waits until some members are healthy.
    pub fn wait_healthy_members(&self, members: &[usize]) -> Result<(), String> {
        let addresses: Vec<_> = members.iter().map(|m| self.hosts[*m].address).collect();
        let mut last = String::new();
        let healthy = wait_until(30.0, || {
            match self.ctl_at(&addresses, &["endpoint", "health"]) {
                Ok(_) => true,
                Err(why) => {
                    last = why;
                    false
                }
            }
        });
        healthy
            .then_some(())
            .ok_or_else(|| format!("etcd does not become healthy: {last}"))
    }

    /// Makes etcdctl log in from now on.
    pub fn log_in(&self, login: &str) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login.to_owned());
    }

    /// Runs etcdctl against all members and returns its output.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, String> {
        self.ctl_at(&self.addresses(), arguments)
    }

    /// Runs etcdctl against some members and returns its output.
    pub fn ctl_at(&self, addresses: &[Ipv4Addr], arguments: &[&str]) -> Result<String, String> {
        let endpoints: Vec<_> = addresses.iter().map(|a| format!("{a}:{PORT}")).collect();
        let mut command = etcdctl(&self.admin);
        command.args([
            "--dial-timeout=1s",
            "--command-timeout=3s",
            "--endpoints",
            &endpoints.join(","),
        ]);
        if let Some(login) = &*self.login.lock().unwrap_or_else(PoisonError::into_inner) {
            command.args(["--user", login]);
        }
        run(command.args(arguments))
    }

    /// Writes the content of a file to a key.
    pub fn fill(&self, key: &str, file: &Path) -> Result<(), String> {
        let endpoint = format!("{}:{PORT}", self.hosts[0].address);
        let script = format!(
            "ETCDCTL_API=3 etcdctl --endpoints {endpoint} put {key} < {}",
            file.display()
        );
        self.admin.shell(&script).map(drop)
    }

    /// Returns true if requests without a login are refused.
    pub fn refuses_anonymous(&self) -> bool {
        let endpoint = format!("{}:{PORT}", self.hosts[0].address);
        let mut command = etcdctl(&self.admin);
        run(command.args(["--endpoints", &endpoint, "get", "/"])).is_err()
    }

    fn peers(&self) -> String {
        let peer = |(at, host): (usize, &Host)| format!("m{at}=http://{}:{PEERS}", host.address);
        self.hosts
            .iter()
            .enumerate()
            .map(peer)
            .collect::<Vec<_>>()
            .join(",")
    }

    fn data(&self, member: usize) -> PathBuf {
        self.directory.join(format!("m{member}.etcd"))
    }

    fn member(&self, member: usize) -> MutexGuard<'_, Option<Child>> {
        self.members[member]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pid(&self, member: usize) -> Option<u32> {
        self.member(member).as_ref().map(Child::id)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.all().into_iter().for_each(|member| self.kill(member));
    }
}

fn etcdctl(admin: &Host) -> Command {
    let mut command = admin.command("etcdctl");
    command.env("ETCDCTL_API", "3");
    command
}
