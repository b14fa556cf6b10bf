//! Resource usage of a process, read from the kernel.

use std::collections::HashSet;
use std::path::Path;

/// Returns the CPU time of its threads in microseconds.
pub fn cpu(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let run = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    let nanos: u64 = tasks.into_iter().flatten().flatten().filter_map(run).sum();
    nanos / 1000
}

/// Returns its resident memory and its peak in KiB.
pub fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Returns its number of threads.
pub fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Returns its number of connections to a local port.
pub fn connections(pid: u32, port: u16) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let inode = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let name = target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?;
        Some(name.to_owned())
    };
    let own: HashSet<String> = descriptors
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(inode)
        .collect();
    let table = std::fs::read_to_string(Path::new("/proc/net/tcp")).unwrap_or_default();
    let there = format!(":{port:04X}");
    let ours = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() > 9 && words[2].ends_with(&there) && words[3] == "01" && own.contains(words[9])
    };
    table.lines().filter(ours).count()
}
