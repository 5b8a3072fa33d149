//! Workers that this process has started and does not supervise any more. Their ends are waited for,
//! so that none stays a zombie.

use super::recover::TARGET;
use super::spawn::Running;
use crate::event::without_signals;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::thread;
use std::time::Duration;

/// How long to wait when the kernel does not say who has ended.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for them in a thread, which ends with the last of them.
pub(super) fn reap(left: Vec<Running>) {
    let left = not_ended(left);
    if left.is_empty() {
        return;
    }
    let thread = thread::Builder::new().name("shm-reaper".into());
    if let Err(error) = without_signals(|| thread.spawn(move || wait_for(left))) {
        tracing::warn!(target: TARGET, %error, "workers that end stay zombies");
    }
}

fn wait_for(mut left: Vec<Running>) {
    while !left.is_empty() {
        let ended = |running| PollFd::from_borrowed_fd(Running::as_fd(running), PollFlags::IN);
        match poll(&mut left.iter().map(ended).collect::<Vec<_>>(), None) {
            Ok(_) => left = not_ended(left),
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                thread::sleep(PAUSE);
                left = not_ended(left);
            }
        }
    }
}

fn not_ended(mut running: Vec<Running>) -> Vec<Running> {
    running.retain_mut(|it| it.ended(Duration::ZERO).is_none());
    running
}
