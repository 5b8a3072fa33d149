//! Workers that are at one call for too long.
//!
//! A worker's [monitor](shm_primitives::monitor) says since when it has had its call in hand. One
//! that is over the threshold is *noted*; if it still is a while later, without any report of
//! progress, it is *suspect*: clients give it no new calls. Then it is asked, harder each time: the
//! call is given up by its cancel word; SIGABRT, which leaves a core file; SIGKILL. Its death is
//! then a death like any other.
//!
//! A worker that is stopped (SIGSTOP, a debugger) is suspect too, but while it is stopped nothing
//! is done to it, and the time does not count. One in an uninterruptible sleep hears nothing before
//! it is back: it is asked all the same, and what was sent waits for it. If it still lives a while
//! after SIGKILL it is [*stuck*](super::supervise), and another place gets its successor.
//!
//! Nothing in [`Watch`] reads a clock or sends a signal.

use shm_primitives::monitor::Transaction;
use std::fs;
use std::time::Duration;

/// What is done to workers that are at one call for too long. See [`Server`](super::Server#hangs).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hang {
    /// How long a call may take, or go without a report of progress, for functions that say
    /// nothing else; `None`: for ever.
    pub threshold: Option<Duration>,
    /// How much later it is looked at again, before it is suspect.
    pub confirm: Duration,
    /// How long it is suspect before its call is asked to end.
    pub cancel: Duration,
    /// How long after that it gets SIGABRT.
    pub abort: Duration,
    /// How long after that it gets SIGKILL.
    pub kill: Duration,
    /// How long a worker may take from its start until it serves, before it gets SIGKILL.
    pub boot: Duration,
    /// How long a worker may live on after SIGKILL, whatever that was for, before it is *stuck*: the
    /// kernel has it in an uninterruptible sleep. Its place gets no new calls until it is dead, and
    /// its successor is started at a [spare place](super::ServerBuilder::spares).
    pub stuck: Duration,
}

impl Default for Hang {
    /// Suspect after 30 seconds and one, asked to end at once, aborted 5 seconds later and killed
    /// after 5 more, and stuck 5 seconds after that. 30 seconds to start.
    fn default() -> Self {
        Self {
            threshold: Some(Duration::from_secs(30)),
            confirm: Duration::from_secs(1),
            cancel: Duration::ZERO,
            abort: Duration::from_secs(5),
            kill: Duration::from_secs(5),
            boot: Duration::from_secs(30),
            stuck: Duration::from_secs(5),
        }
    }
}

/// What the kernel says that a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// Something, or waiting for it, if in an uninterruptible sleep.
    Running,
    /// Nothing: somebody has stopped it, or traces it.
    Stopped,
}

impl Doing {
    /// What process `pid` of this pid namespace is doing. One that cannot be looked at is running.
    pub fn of(pid: u32) -> Self {
        fs::read(format!("/proc/{pid}/stat")).map_or(Self::Running, |stat| Self::parse(&stat))
    }

    /// The third field. The second is a name in parentheses, which may have any bytes.
    fn parse(stat: &[u8]) -> Self {
        let after_name = stat.iter().rposition(|byte| *byte == b')').map(|at| &stat[at + 1..]);
        match after_name.and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace())) {
            Some(b'T' | b't') => Self::Stopped,
            _ => Self::Running,
        }
    }
}

/// What is to be done to a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// It is suspect from now on.
    Suspect,
    /// It is suspect no more.
    Clear,
    /// Give up this call of its.
    Cancel(Transaction),
    /// SIGABRT.
    Abort,
    /// SIGKILL.
    Kill,
}

impl Action {
    /// What is done, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "no new calls go there",
            Self::Clear => "new calls go there again",
            Self::Cancel(_) => "its call is given up",
            Self::Abort => "SIGABRT",
            Self::Kill => "SIGKILL",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Calm,
    Noted,
    Suspect,
    Cancelled,
    Aborted,
    Killed,
}

/// How far one worker is.
#[derive(Debug)]
pub(super) struct Watch {
    /// What its monitor said last.
    record: Option<Transaction>,
    /// Since when it says so, or was last known to get on.
    since: Duration,
    stage: Stage,
    /// Since when it is at this stage; later by as long as it was stopped.
    stage_since: Duration,
    looked: Duration,
}

impl Watch {
    /// Of a worker just started.
    pub fn new() -> Self {
        Self {
            record: None,
            since: Duration::ZERO,
            stage: Stage::Calm,
            stage_since: Duration::ZERO,
            looked: Duration::ZERO,
        }
    }

    /// Whether it is suspect.
    pub fn is_suspect(&self) -> bool {
        self.stage >= Stage::Suspect
    }

    /// Looks at it: `record` is what its monitor says it has in hand, `now` by the clock of the
    /// record's start. `doing` is asked for if it matters. One thing to be done at a time.
    pub fn look(
        &mut self,
        now: Duration,
        record: Option<Transaction>,
        threshold: Option<Duration>,
        hang: &Hang,
        doing: impl FnOnce() -> Doing,
    ) -> Option<Action> {
        let passed = now.saturating_sub(self.looked);
        self.looked = now;
        if record != self.record {
            // Of another call its start counts; the same one has reported progress now.
            let same = |a: Transaction, b: Transaction| (a.seq_id, a.lane) == (b.seq_id, b.lane);
            self.since = match (self.record, record) {
                (Some(before), Some(after)) if same(before, after) => now,
                (_, Some(after)) => Duration::from_nanos(after.start).min(now),
                _ => now,
            };
            self.record = record;
            let was_suspect = self.is_suspect();
            self.enter(Stage::Calm, now);
            if was_suspect {
                return Some(Action::Clear);
            }
        }
        let (record, threshold) = (self.record?, threshold?);
        if self.stage == Stage::Calm {
            if now.saturating_sub(self.since) < threshold {
                return None;
            }
            self.enter(Stage::Noted, now);
        }
        if self.stage == Stage::Killed {
            return None;
        }
        if self.stage > Stage::Noted && doing() == Doing::Stopped {
            self.stage_since = (self.stage_since + passed).min(now);
            return None;
        }
        let for_long = now.saturating_sub(self.stage_since);
        let (after, next, action) = match self.stage {
            Stage::Noted => (hang.confirm, Stage::Suspect, Action::Suspect),
            Stage::Suspect => (hang.cancel, Stage::Cancelled, Action::Cancel(record)),
            Stage::Cancelled => (hang.abort, Stage::Aborted, Action::Abort),
            _ => (hang.kill, Stage::Killed, Action::Kill),
        };
        (for_long >= after).then(|| {
            self.enter(next, now);
            action
        })
    }

    fn enter(&mut self, stage: Stage, now: Duration) {
        (self.stage, self.stage_since) = (stage, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_primitives::monitor::Group;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn call(seq_id: u64, reply_position: u32, start_ms: u64) -> Option<Transaction> {
        Some(Transaction {
            seq_id,
            group: Group::Normal,
            worker: 0,
            lane: 3,
            lane_epoch: 1,
            reply_position,
            start: start_ms * 1_000_000,
        })
    }

    const HANG: Hang = Hang {
        threshold: None,
        confirm: ms(10),
        cancel: ms(20),
        abort: ms(30),
        kill: ms(40),
        boot: ms(1000),
        stuck: ms(50),
    };

    /// What is done to one that is at one call, looked at each `step` milliseconds from `from` on.
    fn escalation(
        watch: &mut Watch,
        from: u64,
        step: u64,
        doing: impl Fn(u64) -> Doing,
    ) -> Vec<(u64, Action)> {
        (from..from + 1000)
            .step_by(step as usize)
            .filter_map(|now| {
                let found =
                    watch.look(ms(now), call(7, 0, 1000), Some(ms(100)), &HANG, || doing(now));
                Some((now, found?))
            })
            .collect()
    }

    #[test]
    fn it_is_asked_harder_each_time_and_once() {
        let done = escalation(&mut Watch::new(), 1000, 1, |_| Doing::Running);
        let record = call(7, 0, 1000).unwrap();
        assert_eq!(
            done,
            [
                (1110, Action::Suspect),
                (1130, Action::Cancel(record)),
                (1160, Action::Abort),
                (1200, Action::Kill),
            ]
        );
    }

    #[test]
    fn one_look_is_never_enough() {
        let mut watch = Watch::new();
        let look = |watch: &mut Watch, now, record| {
            watch.look(ms(now), record, Some(ms(100)), &HANG, || Doing::Running)
        };
        // Long over the threshold, and noted first.
        assert_eq!(look(&mut watch, 9000, call(7, 0, 1000)), None);
        assert!(!watch.is_suspect());
        // Done by the second look.
        assert_eq!(look(&mut watch, 9500, None), None);
        assert_eq!(look(&mut watch, 9600, call(8, 0, 9590)), None);
        assert_eq!(look(&mut watch, 9680, call(8, 0, 9590)), None);
        assert_eq!(look(&mut watch, 9690, call(8, 0, 9590)), None);
        assert_eq!(look(&mut watch, 9700, call(8, 0, 9590)), Some(Action::Suspect));
        // It comes back by itself.
        assert_eq!(look(&mut watch, 9701, call(9, 0, 9700)), Some(Action::Clear));
        assert_eq!(look(&mut watch, 9702, None), None);
    }

    #[test]
    fn progress_begins_the_time_anew() {
        let mut watch = Watch::new();
        for n in 0..20 {
            let now = 1000 + 90 * n;
            let record = call(7, n as u32, 1000);
            let found = watch.look(ms(now), record, Some(ms(100)), &HANG, || Doing::Running);
            assert_eq!(found, None, "report {n}");
        }
    }

    #[test]
    fn who_is_stopped_is_suspect_and_nothing_else() {
        // Stopped from the beginning until 1500.
        let stopped = |now| if now < 1500 { Doing::Stopped } else { Doing::Running };
        let mut watch = Watch::new();
        let done = escalation(&mut watch, 1000, 1, stopped);
        let times: Vec<u64> = done.iter().map(|(now, _)| *now).collect();
        assert_eq!(done[0].1, Action::Suspect);
        // As much later as it was stopped.
        assert_eq!(times, [1110, 1519, 1549, 1589]);
        // For ever, if it is stopped for ever.
        let done = escalation(&mut Watch::new(), 1000, 1, |_| Doing::Stopped);
        assert_eq!(done, [(1110, Action::Suspect)]);
        // Also if it is seldom looked at.
        let done = escalation(&mut Watch::new(), 1000, 300, |_| Doing::Stopped);
        assert_eq!(done, [(1600, Action::Suspect)]);
    }

    #[test]
    fn without_a_threshold_nothing_is_long() {
        let mut watch = Watch::new();
        for now in [1000, 1_000_000, 1_000_000_000] {
            let found = watch.look(ms(now), call(7, 0, 1000), None, &HANG, || Doing::Running);
            assert_eq!(found, None);
        }
        // A call that begins in the future has not taken long.
        let found = watch.look(ms(2000), call(8, 0, 9000), Some(ms(100)), &HANG, || Doing::Running);
        assert_eq!(found, None);
    }

    #[test]
    fn what_the_kernel_says() {
        assert_eq!(Doing::parse(b"12 (a) T 1"), Doing::Stopped);
        assert_eq!(Doing::parse(b"12 (a) t 1"), Doing::Stopped);
        assert_eq!(Doing::parse(b"12 (T) D 1"), Doing::Running);
        assert_eq!(Doing::parse(b"12 (a) T) S 1"), Doing::Running);
        assert_eq!(Doing::parse(b"12 (T"), Doing::Running);
        assert_eq!(Doing::of(std::process::id()), Doing::Running);
    }
}
