//! Runs of two sides by turns, and what they amount to.

use std::time::Duration;

/// Pairs of runs that a state of the machine is reported with, at the least.
const ENOUGH: usize = 7;

/// Messages of a run that counts.
const COUNTED: u64 = 100_000;

/// How much longer the floor takes, from one pair to the next slower one, where another state of
/// the machine begins.
const GAP: f64 = 1.5;

/// A way to carry messages, as a run of so many.
pub struct Side<'a> {
    run: Box<dyn FnMut(u64) -> Result<Duration, String> + 'a>,
    count: u64,
    /// Whether that many are sent however long it takes.
    fixed: bool,
}

impl<'a> Side<'a> {
    /// The side whose runs that closure makes; it returns what the messages took together.
    pub fn new(run: impl FnMut(u64) -> Result<Duration, String> + 'a) -> Self {
        Self { run: Box::new(run), count: 256, fixed: false }
    }

    /// The same, always of so many messages: of a pace that does not depend on the side.
    pub fn of(count: u64, run: impl FnMut(u64) -> Result<Duration, String> + 'a) -> Self {
        Self { run: Box::new(run), count, fixed: true }
    }

    /// Finds how many messages take about that long.
    fn size(&mut self, target: Duration) -> Result<(), String> {
        if self.fixed {
            return Ok(());
        }
        loop {
            let share = (self.run)(self.count)?.div_duration_f64(target);
            // Short runs say little of long ones, so they are not trusted with the rest.
            let factor = (1.0 / share.max(1e-9)).min(16.0);
            self.count = (self.count as f64 * factor).ceil() as u64;
            if share > 0.2 {
                return Ok(());
            }
        }
    }

    /// Nanoseconds a message, of one run.
    fn sample(&mut self) -> Result<f64, String> {
        Ok((self.run)(self.count)?.as_secs_f64() * 1e9 / self.count as f64)
    }
}

/// How two sides are compared.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Runs of each side.
    pub runs: usize,
    /// About what a run takes.
    pub target: Duration,
}

impl Plan {
    /// Runs the two by turns, so that what the machine does meanwhile befalls both, and `floor`
    /// between the pairs: what it takes to bounce a word between the two CPUs, in nanoseconds.
    ///
    /// A host may move its guests' CPUs about, from two cores to the two threads of one and
    /// back, and everything depends on that. So pairs are told apart by the floor, and each
    /// state that it had for long enough has a result of its own. A pair in whose course it
    /// changed belongs to none.
    ///
    /// # Errors
    ///
    /// When a run of either fails.
    pub fn compare(
        self,
        mut a: Side,
        mut b: Side,
        mut floor: impl FnMut() -> Result<f64, String>,
    ) -> Result<Vec<State>, String> {
        a.size(self.target)?;
        b.size(self.target)?;
        let mut pairs = Vec::new();
        let mut before = floor()?;
        for _ in 0..self.runs {
            let sides = [a.sample()?, b.sample()?];
            let after = floor()?;
            if before.max(after) < before.min(after) * GAP {
                pairs.push(Pair { floor: f64::midpoint(before, after), sides });
            }
            before = after;
        }
        Ok(states(pairs))
    }

    /// Runs one side alone: nanoseconds a message.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn alone(self, mut side: Side) -> Result<Summary, String> {
        side.size(self.target)?;
        self.repeat(|| side.sample())
    }

    /// Runs what counts something a message, of so many messages.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn count(self, mut run: impl FnMut(u64) -> Result<f64, String>) -> Result<Summary, String> {
        self.repeat(|| run(COUNTED))
    }

    /// Runs what is a result by itself.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn repeat(self, mut run: impl FnMut() -> Result<f64, String>) -> Result<Summary, String> {
        let samples: Result<_, _> = (0..self.runs).map(|_| run()).collect();
        Ok(Summary::of(samples?))
    }
}

/// A run of each side, and the floor about them.
struct Pair {
    floor: f64,
    sides: [f64; 2],
}

/// One state of the machine, as far as the floor tells.
#[derive(Clone, Copy)]
pub struct State {
    /// Pairs of runs in it.
    pub pairs: usize,
    /// What it took to bounce a word between the two CPUs.
    pub floor: Summary,
    /// Both sides' runs.
    pub sides: [Summary; 2],
}

/// The states in which there are enough pairs; the most frequent one if there is none.
fn states(mut pairs: Vec<Pair>) -> Vec<State> {
    pairs.sort_by(|a, b| a.floor.total_cmp(&b.floor));
    let together = |a: &Pair, b: &Pair| b.floor < a.floor * GAP;
    let mut all: Vec<_> = pairs.chunk_by(together).map(State::of).collect();
    let most = all.iter().map(|state| state.pairs).max().unwrap_or_default();
    all.retain(|state| state.pairs >= ENOUGH.min(most));
    all
}

impl State {
    fn of(pairs: &[Pair]) -> Self {
        let summary = |value: fn(&Pair) -> f64| Summary::of(pairs.iter().map(value).collect());
        Self {
            pairs: pairs.len(),
            floor: summary(|pair| pair.floor),
            sides: [summary(|pair| pair.sides[0]), summary(|pair| pair.sides[1])],
        }
    }
}

/// The middle one of them.
///
/// # Panics
///
/// When there are none.
#[must_use]
pub fn median(samples: Vec<f64>) -> f64 {
    Summary::of(samples).median
}

/// What the runs of a side amount to.
#[derive(Clone, Copy)]
pub struct Summary {
    /// The middle run.
    pub median: f64,
    /// The run that a quarter of the runs were quicker than.
    pub lower: f64,
    /// The run that a quarter of the runs were slower than.
    pub upper: f64,
}

impl Summary {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let place = (samples.len() - 1) * quarters;
            let (index, rest) = (place / 4, (place % 4) as f64 / 4.0);
            let next = samples[(index + 1).min(samples.len() - 1)];
            samples[index] * (1.0 - rest) + next * rest
        };
        Self { median: at(2), lower: at(1), upper: at(3) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(floors: &[f64]) -> Vec<Pair> {
        floors.iter().map(|&floor| Pair { floor, sides: [floor, 2.0 * floor] }).collect()
    }

    #[test]
    fn states_are_told_apart_by_the_floor() {
        let mut floors = Vec::new();
        for i in 0..8 {
            floors.extend([500.0 + f64::from(i), 100.0 + f64::from(i)]);
        }
        floors.push(2000.0);
        let found = states(pairs(&floors));
        let told: Vec<_> = found.iter().map(|s| (s.pairs, s.floor.median)).collect();
        assert_eq!(told, [(8, 103.5), (8, 503.5)]);
        assert_eq!(found[1].sides[1].median, 1007.0);
    }

    #[test]
    fn a_short_comparison_reports_what_it_has() {
        let found = states(pairs(&[100.0, 101.0, 500.0]));
        assert_eq!(found.iter().map(|s| s.pairs).collect::<Vec<_>>(), [2]);
        assert!(states(Vec::new()).is_empty());
    }

    #[test]
    fn quarters_of_the_runs() {
        let summary = Summary::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!([summary.lower, summary.median, summary.upper], [2.0, 3.0, 4.0]);
        let one = Summary::of(vec![7.0]);
        assert_eq!([one.lower, one.median, one.upper], [7.0; 3]);
    }
}
