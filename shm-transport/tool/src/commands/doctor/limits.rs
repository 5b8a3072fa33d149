//! What this process may use.

use super::Finding;
use crate::output::bytes;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::thread::available_parallelism;

/// A node's segment with the lanes of 256 senders is so long, though not so large.
const LONG: u64 = 64 << 20;
/// Less than this is not enough for the members of a domain.
const SHORT: u64 = 1 << 20;
/// Memory that nodes with a few large messages take.
const MEMORY: u64 = 64 << 20;

pub fn check() -> Vec<Finding> {
    vec![cores(), file_size(), descriptors(), addresses(), memory(), umask()]
}

fn cores() -> Finding {
    let name = "cores";
    let usable = available_parallelism().map_or(1, usize::from);
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let all = count_cpus(&online);
    let found = match all {
        Some(all) if all != usable => format!("{usable} of {all} usable"),
        _ => usable.to_string(),
    };
    if usable == 1 {
        let advice = "both sides take turns on one core: no spinning, and each message costs a \
                      change of process; give two cores (taskset, cpuset, the container's --cpus)";
        return Finding::warn(name, found, advice);
    }
    Finding::ok(name, found)
}

/// How many numbers a list such as `0-3,8` has.
fn count_cpus(list: &str) -> Option<usize> {
    let count = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').map(count).sum()
}

fn file_size() -> Finding {
    let name = "file size";
    let Some(limit) = getrlimit(Resource::Fsize).current else {
        return Finding::ok(name, "no limit");
    };
    let found = format!("at most {} to a file", bytes(limit));
    let advice = "segments are files: raise the limit (ulimit -f, RLIMIT_FSIZE, LimitFSIZE= of \
                  systemd)";
    match limit {
        limit if limit < SHORT => Finding::fail(name, found, advice),
        limit if limit < LONG => Finding::warn(name, found, advice),
        _ => Finding::ok(name, found),
    }
}

fn descriptors() -> Finding {
    let name = "descriptors";
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Finding::ok(name, "no limit");
    };
    let found = format!("at most {limit} open at a time");
    if limit < 256 {
        let advice = "a process that talks to many has one for each: raise the limit (ulimit -n)";
        return Finding::warn(name, found, advice);
    }
    Finding::ok(name, found)
}

fn addresses() -> Finding {
    let name = "addresses";
    let Some(limit) = getrlimit(Resource::As).current else {
        return Finding::ok(name, "no limit");
    };
    let found = format!("at most {} mapped", bytes(limit));
    if limit < 1 << 30 {
        let advice = "segments are long, though mostly empty: raise the limit (ulimit -v)";
        return Finding::warn(name, found, advice);
    }
    Finding::ok(name, found)
}

/// Shared memory counts for the control group of whoever touches it first.
fn memory() -> Finding {
    let name = "memory";
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    // In a container the group's own directory is the root of what is seen.
    let paths = [own.unwrap_or("/"), "/"].map(|path| format!("/sys/fs/cgroup{path}/memory.max"));
    let limit = paths.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    match limit {
        Some(limit) if limit < MEMORY => Finding::warn(
            name,
            format!("the control group has {}", bytes(limit)),
            "segments count for it too, and who goes beyond it is killed: give it more",
        ),
        Some(limit) => Finding::ok(name, format!("the control group has {}", bytes(limit))),
        None => Finding::ok(name, "no limit by a control group"),
    }
}

fn umask() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.map_or("unknown", str::trim);
    Finding::ok("umask", format!("{umask}; segments do not depend on it"))
}

#[cfg(test)]
mod tests {
    use super::count_cpus;

    #[test]
    fn lists_of_cores() {
        for (list, count) in [("0\n", Some(1)), ("0-3,8", Some(5)), ("", None), ("3-1", None)] {
            assert_eq!(count_cpus(list), count, "{list:?}");
        }
    }
}
