//! When a worker that died is started again.
//!
//! Nothing here reads a clock, or starts anything: time is the caller's, as the time since some
//! moment, and so are random numbers.
//!
//! The first death is followed by a restart at once. From the second in a row on there is a
//! *back-off*, twice as long each time, of which a random part of up to a half is taken away so
//! that places that died together are not started together. A worker that served for long enough is
//! *healthy*: its next death is a first one again, and the deaths before do not count any more.
//! A place whose workers die more often than the *intensity* allows is given up. All places
//! together are restarted no more often than the *pool* allows: beyond that they wait, and none is
//! given up for what others do.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// When workers that died are started again.
///
/// ```
/// use shm_transport::service::Restart;
/// use std::time::Duration;
///
/// let patient = Restart { backoff: Duration::from_secs(1)..Duration::from_secs(60), ..Restart::default() };
/// assert_eq!((patient.intensity, patient.within), (5, Duration::from_secs(30)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restart {
    /// How often a place is restarted within that [time](Self::within); one death more, and it has
    /// failed. 0: never restarted.
    pub intensity: u32,
    /// Within which time.
    pub within: Duration,
    /// How long is waited before the second restart in a row, and the most before any.
    pub backoff: Range<Duration>,
    /// Served for so long, a worker is healthy, and what was before is forgotten.
    pub healthy_after: Duration,
    /// How often all places together are restarted within that time. Beyond that they wait.
    pub pool: u32,
}

impl Default for Restart {
    /// 5 within 30 seconds, 20 for all places; back-off from 10 milliseconds to 5 seconds; healthy
    /// after 10 seconds.
    fn default() -> Self {
        Self {
            intensity: 5,
            within: Duration::from_secs(30),
            backoff: Duration::from_millis(10)..Duration::from_secs(5),
            healthy_after: Duration::from_secs(10),
            pool: 20,
        }
    }
}

impl Restart {
    /// How long to wait before restart number `in_a_row`, from 1.
    fn delay(&self, in_a_row: u32, random: u32) -> Duration {
        if in_a_row <= 1 {
            return Duration::ZERO;
        }
        let factor = 1u32.checked_shl(in_a_row - 2).unwrap_or(u32::MAX);
        let full = self.backoff.start.saturating_mul(factor).min(self.backoff.end);
        // From a half to all of it.
        let share = 0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        full.mul_f64(share).min(full)
    }
}

/// What comes after a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// A restart, not before this time.
    At(Duration),
    /// None: too many deaths, so many.
    GiveUp { deaths: u32 },
}

/// What has become of the workers of one place.
#[derive(Default, Debug)]
pub(super) struct History {
    /// When they died: no more of them than are compared.
    deaths: VecDeque<Duration>,
    in_a_row: u32,
}

impl History {
    /// One has died now, after it had served for so long: not at all, if it never did.
    pub fn died(
        &mut self,
        now: Duration,
        served: Duration,
        policy: &Restart,
        pool: &mut Pool,
        random: u32,
    ) -> Next {
        if served >= policy.healthy_after {
            *self = Self::default();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.deaths.push_back(now);
        forget(&mut self.deaths, now, policy.within);
        let deaths = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX);
        if deaths > policy.intensity {
            return Next::GiveUp { deaths };
        }
        let at = now.saturating_add(policy.delay(self.in_a_row, random));
        Next::At(pool.grant(at, now, policy))
    }
}

/// The restarts of all places.
#[derive(Default, Debug)]
pub(super) struct Pool {
    /// When they were or will be, in order.
    restarts: VecDeque<Duration>,
}

impl Pool {
    /// When a restart that is wanted at `at` may be.
    fn grant(&mut self, at: Duration, now: Duration, policy: &Restart) -> Duration {
        forget(&mut self.restarts, now, policy.within);
        let pool = policy.pool.max(1) as usize;
        let mut at = at;
        // Of those in any window no more than the pool: as late as the one that many before allows.
        if let Some(before) = self.restarts.len().checked_sub(pool) {
            at = at.max(self.restarts[before].saturating_add(policy.within));
        }
        let place = self.restarts.partition_point(|other| *other <= at);
        self.restarts.insert(place, at);
        at
    }
}

/// Forgets what was `within` ago and longer.
fn forget(times: &mut VecDeque<Duration>, now: Duration, within: Duration) {
    while times.front().is_some_and(|first| first.saturating_add(within) <= now) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_take_longer() {
        let (policy, mut pool) = (Restart::default(), Pool::default());
        let mut history = History::default();
        let mut now = S;
        for full in [0, 10, 20, 40, 80].map(|full| full * MS) {
            let next = history.died(now, Duration::ZERO, &policy, &mut pool, u32::MAX);
            assert_eq!(next, Next::At(now + full));
            now += full;
        }
        let next = history.died(now, Duration::ZERO, &policy, &mut pool, 0);
        assert_eq!(next, Next::GiveUp { deaths: 6 });
    }

    #[test]
    fn health_makes_a_place_new() {
        let (policy, mut pool) = (Restart { pool: 1000, ..Restart::default() }, Pool::default());
        let mut history = History::default();
        for n in 1..100 {
            let now = n * 11 * S;
            let next = history.died(now, 10 * S, &policy, &mut pool, 7);
            assert_eq!(next, Next::At(now));
        }
        // One that died each 4 seconds and was never healthy is given up.
        let died = |n: u32, served| {
            (1..=n).map(|n| 2000 * S + n * 4 * S).fold(History::default(), |mut history, now| {
                history.died(now, served, &policy, &mut Pool::default(), 7);
                history
            })
        };
        let next = |mut history: History, at: Duration| {
            history.died(at, 3 * S, &policy, &mut Pool::default(), 7)
        };
        assert_eq!(next(died(5, 3 * S), 2024 * S), Next::GiveUp { deaths: 6 });
        assert!(matches!(next(died(4, 3 * S), 2020 * S), Next::At(_)));
        // What was long ago does not count.
        assert!(matches!(next(died(5, 3 * S), 2040 * S), Next::At(_)));
    }

    #[test]
    fn an_intensity_of_none_is_never() {
        let policy = Restart { intensity: 0, ..Restart::default() };
        let next = History::default().died(S, 100 * S, &policy, &mut Pool::default(), 7);
        assert_eq!(next, Next::GiveUp { deaths: 1 });
    }

    #[test]
    fn places_share_a_pool_and_none_is_given_up_for_it() {
        let policy = Restart { pool: 3, intensity: 2, ..Restart::default() };
        let mut pool = Pool::default();
        let next: Vec<_> = (0..7)
            .map(|_| History::default().died(S, Duration::ZERO, &policy, &mut pool, 7))
            .collect();
        let at = [1, 1, 1, 31, 31, 31, 61].map(|at| Next::At(at * S));
        assert_eq!(next, at);
    }

    proptest! {
        /// Whatever dies when: no restart is planned before the death, nor later than the most
        /// back-off where the pool is large; no more than `intensity` deaths of one place in a
        /// window are answered with a restart; and no window has more restarts than the pool.
        #[test]
        fn rules_hold(
            steps in prop::collection::vec((0..3usize, 0..20_000u64, 0..15_000u64, any::<u32>()), 1..80),
            intensity in 1..8u32,
            pool_size in 1..12u32,
        ) {
            let policy = Restart { intensity, pool: pool_size, ..Restart::default() };
            let mut pool = Pool::default();
            let mut histories: [History; 3] = Default::default();
            let mut now = Duration::ZERO;
            let mut planned = Vec::new();
            let mut alone = Pool::default();
            let mut twins: [History; 3] = Default::default();
            let roomy = Restart { pool: 10_000, ..policy.clone() };
            let mut since: [Vec<Duration>; 3] = Default::default();
            for (place, pause, served, random) in steps {
                now += Duration::from_millis(pause);
                let served = Duration::from_millis(served);
                let next = histories[place].died(now, served, &policy, &mut pool, random);
                let twin = twins[place].died(now, served, &roomy, &mut alone, random);
                if served >= policy.healthy_after {
                    since[place].clear();
                }
                since[place].push(now);
                let recent = since[place].iter().filter(|at| **at + policy.within > now).count();
                match next {
                    Next::At(at) => {
                        prop_assert!(recent as u32 <= intensity);
                        prop_assert!(at >= now);
                        planned.push(at);
                        let Next::At(twin) = twin else { panic!("only the pool differs") };
                        prop_assert!(twin >= now && twin <= now + policy.backoff.end);
                        prop_assert!(twin <= at);
                    }
                    Next::GiveUp { deaths } => {
                        prop_assert_eq!(deaths, recent as u32);
                        prop_assert!(recent as u32 > intensity);
                    }
                }
            }
            planned.sort();
            for window in planned.windows(pool_size as usize + 1) {
                prop_assert!(window[pool_size as usize] - window[0] >= policy.within);
            }
        }
    }
}
