//! Which process it is.

use super::error::LivenessError;
use rustix::fs::stat;
use rustix::process::getpid;
use std::fs;

/// Which process of which start of the machine. Two processes never have the same.
///
/// For people and for the [`PidFd`](super::PidFd); whether it lives is another question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessIdentity {
    /// Its number in its own pid namespace.
    pub pid: u32,
    /// When it was started: clock ticks of the kernel (100 a second) since the machine was, as
    /// /proc/*pid*/stat says in field 22. Not comparable across time namespaces.
    pub start: u64,
    /// Which start of the machine: the two halves of the kernel's random boot id, by exclusive
    /// or.
    pub boot: u64,
    /// Its pid namespace: the number of the inode that /proc/self/ns/pid leads to.
    pub namespace: u64,
}

impl ProcessIdentity {
    /// This process.
    ///
    /// # Errors
    ///
    /// /proc is not mounted, or not one that shows this process.
    pub fn current() -> Result<Self, LivenessError> {
        let namespace = stat("/proc/thread-self/ns/pid")
            .map_err(|_| LivenessError::Proc { file: "thread-self/ns/pid" })?;
        Ok(Self {
            pid: getpid().as_raw_nonzero().get() as u32,
            start: fs::read("/proc/self/stat")
                .ok()
                .and_then(|stat| start_of(&stat))
                .ok_or(LivenessError::Proc { file: "self/stat" })?,
            boot: boot()?,
            namespace: namespace.st_ino,
        })
    }

    /// Whether the pid of `other` means to this process what it meant to that one: the same
    /// namespace and the same start of the machine.
    pub fn shares_pids_with(&self, other: &Self) -> bool {
        (self.boot, self.namespace) == (other.boot, other.namespace)
    }
}

/// When a process was started, from what its /proc/*pid*/stat says.
///
/// The second field is the program's name in parentheses, and may itself hold spaces and
/// parentheses, and bytes that are no text: what follows is counted from the last one.
pub(super) fn start_of(stat: &[u8]) -> Option<u64> {
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = str::from_utf8(&stat[name_ends + 1..]).ok()?;
    // The first of them is field 3.
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn boot() -> Result<u64, LivenessError> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|id| u128::from_str_radix(&id.trim().replace('-', ""), 16).ok())
        .map(|id| id as u64 ^ (id >> 64) as u64)
        .ok_or(LivenessError::Proc { file: "sys/kernel/random/boot_id" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_of(format!("12 (a) R 1 (b) {rest}").as_bytes()), Some(4711));
        assert_eq!(start_of(format!("12 (sh) {rest}").as_bytes()), Some(4711));
        assert_eq!(start_of(b"12 (sh) S 1 2"), None);
        assert_eq!(start_of(b"12"), None);
    }

    #[test]
    fn this_process_is_itself() {
        let this = ProcessIdentity::current().unwrap();
        assert_eq!(this.pid, std::process::id());
        assert_eq!(this, ProcessIdentity::current().unwrap());
        assert!(this.start > 0 && this.boot != 0 && this.namespace != 0);
    }
}
