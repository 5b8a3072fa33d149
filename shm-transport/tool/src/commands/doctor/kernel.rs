//! What the kernel can, and lets this process do.

use super::Finding;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create, stat};
use shm_transport::liveness::{PidFd, ProcessIdentity};
use shm_transport::park::FutexPark;
use std::fs;

/// The inodes of the namespaces that the machine itself has; of the kernel's own choice, and the
/// same since 3.8.
const MACHINE_S_PIDS: u64 = 0xeffffffc;
const MACHINE_S_TIME: u64 = 0xeffffffa;

pub fn check() -> Vec<Finding> {
    vec![version(), futex(), memory_files(), pidfd(), proc(), namespaces(), huge_pages()]
}

fn version() -> Finding {
    let name = "kernel";
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let version = (number(), number());
    let found = format!("Linux {release}");
    match version {
        (0, 0) => Finding::warn(name, found, "its version is not known: 5.14 or later is wanted"),
        version if version < (3, 15) => Finding::fail(
            name,
            found,
            "there are no open-file-description locks before 3.15, and so no proof of a death",
        ),
        version if version < (5, 3) => Finding::warn(
            name,
            found,
            "there are no pidfds before 5.3: a death is noticed after 10 ms, not at once",
        ),
        version if version < (5, 14) => Finding::warn(
            name,
            found,
            "memory cannot be populated before 5.14: the first touch of each page is a page fault",
        ),
        _ => Finding::ok(name, found),
    }
}

fn futex() -> Finding {
    match FutexPark::new().check() {
        Ok(()) => Finding::ok("futex", "the kernel wakes and puts to sleep"),
        Err(error) => Finding::warn(
            "futex",
            error,
            "a filter of system calls forbids futexes: waits take a millisecond more; allow futex",
        ),
    }
}

fn memory_files() -> Finding {
    let name = "memfd";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let sealed = memfd_create("shm-doctor", flags)
        .and_then(|file| fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL));
    match sealed {
        Ok(()) => Finding::ok(name, "memory without a name can be made and sealed"),
        Err(error) => Finding::warn(
            name,
            error,
            "memory cannot be passed over a socket, and `shm inspect` has nothing to copy to; \
             allow memfd_create",
        ),
    }
}

fn pidfd() -> Finding {
    let opened = ProcessIdentity::current().and_then(|this| PidFd::open(&this));
    match opened {
        Ok(_) => Finding::ok("pidfd", "the kernel tells of a death at once"),
        Err(error) => Finding::warn(
            "pidfd",
            error,
            "a death is noticed after 10 ms, by its lock; allow pidfd_open to learn it at once",
        ),
    }
}

fn proc() -> Finding {
    let name = "/proc";
    if let Err(error) = ProcessIdentity::current() {
        return Finding::fail(
            name,
            error,
            "no process can join a domain without it: mount proc on /proc",
        );
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match hidepid(&mounts) {
        Some(value) if !matches!(value, "0" | "off") => Finding::warn(
            name,
            format!("mounted with hidepid={value}"),
            "processes of other users are not seen: their deaths are noticed after 10 ms, by \
             their locks",
        ),
        _ => Finding::ok(name, "mounted, and shows other processes"),
    }
}

/// The option of the last mount at /proc, which is the one that is seen.
fn hidepid(mounts: &str) -> Option<&str> {
    let mount = mounts.lines().rfind(|line| {
        let kind = line.split(" - ").nth(1).unwrap_or("");
        line.split(' ').nth(4) == Some("/proc") && kind.starts_with("proc ")
    })?;
    mount.split([',', ' ']).find_map(|option| option.strip_prefix("hidepid="))
}

fn namespaces() -> Finding {
    let name = "namespaces";
    let inode = |kind: &str| stat(format!("/proc/self/ns/{kind}")).ok().map(|found| found.st_ino);
    let own = |kind, machine| inode(kind).is_some_and(|inode| inode != machine);
    let (pids, time) = (own("pid", MACHINE_S_PIDS), own("time", MACHINE_S_TIME));
    match (pids, time) {
        (_, true) => Finding::warn(
            name,
            "a time namespace of its own",
            "its clock is not that of processes outside: their heartbeats look wrong, and pidfds \
             do not work between them; locks do",
        ),
        (true, false) => Finding::ok(
            name,
            "a pid namespace of its own, as in a container: processes outside are proven dead by \
             their locks, within 10 ms",
        ),
        (false, false) => Finding::ok(name, "those of the machine"),
    }
}

fn huge_pages() -> Finding {
    let name = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let setting = fs::read_to_string(path).unwrap_or_default();
    let chosen = setting.split(['[', ']']).nth(1).unwrap_or("unknown");
    Finding::ok(name, format!("{chosen} for shared memory; nothing needs them"))
}

#[cfg(test)]
mod tests {
    use super::hidepid;

    #[test]
    fn the_last_mount_counts() {
        let one = "22 1 0:20 / /proc rw,nosuid - proc proc rw,hidepid=invisible\n";
        let other = "23 1 0:21 / /proc rw - proc proc rw\n";
        let elsewhere = "24 1 0:22 / /mnt rw - proc proc rw,hidepid=2\n";
        assert_eq!(hidepid(one), Some("invisible"));
        assert_eq!(hidepid(&[one, other].concat()), None);
        assert_eq!(hidepid(&[other, one, elsewhere].concat()), Some("invisible"));
        assert_eq!(hidepid(""), None);
    }
}
