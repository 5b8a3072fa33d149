//! Rows of the comparison, for people and for programs.

use crate::measure::{State, Summary};
use serde::Serialize;

/// One comparison in one state of the machine. What does not apply is left out of the JSON.
#[derive(Serialize)]
pub struct Row {
    group: &'static str,
    case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ours: Option<f64>,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

/// The quarter points of the runs of each side.
#[derive(Serialize)]
struct Spread {
    ours: [f64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<[f64; 2]>,
}

impl Row {
    fn new(group: &'static str, case: &str, peer: Option<&'static str>) -> Self {
        Self {
            group,
            case: case.into(),
            ours: None,
            unit: "ns",
            peer,
            theirs: None,
            ratio: None,
            limit: None,
            to_limit: None,
            most: None,
            to_most: None,
            runs: None,
            floor: None,
            spread: None,
            skipped: None,
        }
    }

    /// Ours beside a peer; a ratio above one is in our favour.
    #[must_use]
    pub fn versus(group: &'static str, case: &str, peer: &'static str, state: State) -> Self {
        let [ours, theirs] = state.sides;
        Self {
            runs: Some(state.pairs),
            floor: Some(round(state.floor.median)),
            ours: Some(round(ours.median)),
            theirs: Some(round(theirs.median)),
            ratio: Some(round(theirs.median / ours.median)),
            spread: Some(Spread {
                ours: range(ours),
                theirs: Some(range(theirs)),
                limit: None,
                floor: Some(range(state.floor)),
            }),
            ..Self::new(group, case, Some(peer))
        }
    }

    /// Ours beside what nothing can do better than; as many times that.
    #[must_use]
    pub fn bound(group: &'static str, case: &str, state: State) -> Self {
        let [ours, limit] = state.sides;
        Self {
            runs: Some(state.pairs),
            floor: Some(round(state.floor.median)),
            ours: Some(round(ours.median)),
            limit: Some(round(limit.median)),
            to_limit: Some(round(ours.median / limit.median)),
            spread: Some(Spread {
                ours: range(ours),
                theirs: None,
                limit: Some(range(limit)),
                floor: Some(range(state.floor)),
            }),
            ..Self::new(group, case, None)
        }
    }

    /// A count of ours, beside nothing.
    #[must_use]
    pub fn count(group: &'static str, case: &str, unit: &'static str, ours: Summary) -> Self {
        Self {
            ours: Some(round(ours.median)),
            unit,
            spread: Some(Spread { ours: range(ours), theirs: None, limit: None, floor: None }),
            ..Self::new(group, case, None)
        }
    }

    /// Ours beside the most that it may be; as many times that.
    #[must_use]
    pub fn within(
        group: &'static str,
        case: &str,
        unit: &'static str,
        ours: Summary,
        most: f64,
    ) -> Self {
        Self {
            most: Some(most),
            to_most: Some(round(ours.median / most)),
            ..Self::count(group, case, unit, ours)
        }
    }

    /// A peer that could not be run, and why.
    #[must_use]
    pub fn skipped(group: &'static str, case: &str, peer: &'static str, reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::new(group, case, Some(peer)) }
    }

    /// Prints it as a line of JSON.
    pub fn print_json(&self) {
        let line = serde_json::to_string(self).expect("numbers and strings");
        println!("{line}");
    }

    /// Prints it as a line of the table that [`print_heading`] begins.
    pub fn print_text(&self) {
        let Self { group, case, .. } = self;
        if let Some(reason) = &self.skipped {
            let peer = self.peer.unwrap_or_default();
            println!("{group:<8}{case:<23}{:>39}  {peer:<16}skipped: {reason}", "");
            return;
        }
        let spread = self.spread.as_ref();
        let ours = cell(self.ours, spread.map(|s| s.ours));
        let other = match (self.peer, self.limit) {
            (Some(peer), _) => peer,
            (None, Some(_)) => "(the limit)",
            (None, None) => self.unit,
        };
        let theirs = match self.most {
            Some(most) => format!("at most {most}"),
            None => cell(self.theirs.or(self.limit), spread.and_then(|s| s.theirs.or(s.limit))),
        };
        let verdict = match (self.ratio, self.to_limit, self.to_most) {
            (Some(ratio), ..) => format!("{ratio:>7.2} ×"),
            (_, Some(times), _) => format!("{times:>7.2} of the limit"),
            (.., Some(times)) => format!("{times:>7.2} of that"),
            _ => String::new(),
        };
        let floor = self.floor.unwrap_or_default();
        println!("{group:<8}{case:<23}{floor:>6.0}{ours:>33}  {other:<16}{theirs:>33}{verdict}");
    }
}

/// Prints the heading of the table.
pub fn print_heading() {
    println!("Nanoseconds a message: the median, and in brackets the quarter points of the runs.");
    println!("The ratio is the peer's time to ours: above one, ours is quicker.");
    println!("The floor is a word bounced between the two CPUs, there and back: a case has a row");
    println!("for each state that it was in, for a host may move them about.\n");
    println!(
        "{:<8}{:<23}{:>6}{:>33}  {:<16}{:>33}{:>9}",
        "group", "case", "floor", "ours", "peer", "theirs", "ratio"
    );
}

fn cell(median: Option<f64>, spread: Option<[f64; 2]>) -> String {
    let (Some(median), Some([lower, upper])) = (median, spread) else {
        return String::new();
    };
    format!("{median:.2} ({lower:.2}–{upper:.2})")
}

fn range(summary: Summary) -> [f64; 2] {
    [summary.lower, summary.upper].map(round)
}

/// To a thousandth, far below what the runs agree on.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
