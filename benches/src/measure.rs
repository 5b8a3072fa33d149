//! Runs of two sides by turns, and what they amount to.

use std::time::Duration;

/// A way to carry messages, as a run of so many.
pub struct Side<'a> {
    run: Box<dyn FnMut(u64) -> Result<Duration, String> + 'a>,
    count: u64,
}

impl<'a> Side<'a> {
    /// The side whose runs that closure makes; it returns what the messages took together.
    pub fn new(run: impl FnMut(u64) -> Result<Duration, String> + 'a) -> Self {
        let run = Box::new(run);
        Self { run, count: 256 }
    }

    /// Finds how many messages take about that long.
    fn size(&mut self, target: Duration) -> Result<(), String> {
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
    /// Runs the two by turns, so that what the machine does meanwhile befalls both.
    ///
    /// # Errors
    ///
    /// When a run of either fails.
    pub fn compare(self, mut a: Side, mut b: Side) -> Result<[Summary; 2], String> {
        a.size(self.target)?;
        b.size(self.target)?;
        let mut samples = [const { Vec::new() }; 2];
        for _ in 0..self.runs {
            samples[0].push(a.sample()?);
            samples[1].push(b.sample()?);
        }
        Ok(samples.map(Summary::of))
    }

    /// Runs what counts something a message, of so many messages.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn count(self, mut run: impl FnMut(u64) -> Result<f64, String>) -> Result<Summary, String> {
        let samples: Result<_, _> = (0..self.runs).map(|_| run(100_000)).collect();
        Ok(Summary::of(samples?))
    }
}

/// What the runs of a side amount to.
#[derive(Clone, Copy)]
pub struct Summary {
    /// The middle run.
    pub median: f64,
    /// The quickest run.
    pub min: f64,
    /// The slowest run.
    pub max: f64,
}

impl Summary {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let half = samples.len() / 2;
        let median = if samples.len().is_multiple_of(2) {
            f64::midpoint(samples[half - 1], samples[half])
        } else {
            samples[half]
        };
        Self { median, min: samples[0], max: samples[samples.len() - 1] }
    }
}
