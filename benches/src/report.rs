//! Rows of the comparison, for people and for programs.

use crate::measure::Summary;
use serde::Serialize;

/// One comparison. What does not apply is left out of the JSON.
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
    spread: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

/// The quickest and the slowest run of each side.
#[derive(Serialize)]
struct Spread {
    ours: [f64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<[f64; 2]>,
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
            spread: None,
            skipped: None,
        }
    }

    /// Ours beside a peer; a ratio above one is in our favour.
    #[must_use]
    pub fn versus(
        group: &'static str,
        case: &str,
        peer: &'static str,
        [ours, theirs]: [Summary; 2],
    ) -> Self {
        Self {
            ours: Some(round(ours.median)),
            theirs: Some(round(theirs.median)),
            ratio: Some(round(theirs.median / ours.median)),
            spread: Some(Spread { ours: range(ours), theirs: Some(range(theirs)), limit: None }),
            ..Self::new(group, case, Some(peer))
        }
    }

    /// Ours beside what nothing can do better than; as many times that.
    #[must_use]
    pub fn bound(group: &'static str, case: &str, [ours, limit]: [Summary; 2]) -> Self {
        Self {
            ours: Some(round(ours.median)),
            limit: Some(round(limit.median)),
            to_limit: Some(round(ours.median / limit.median)),
            spread: Some(Spread { ours: range(ours), theirs: None, limit: Some(range(limit)) }),
            ..Self::new(group, case, None)
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
            println!("{group:<8}{case:<23}{:>33}  {peer:<16}skipped: {reason}", "");
            return;
        }
        let spread = self.spread.as_ref();
        let ours = cell(self.ours, spread.map(|s| s.ours));
        let other = self.peer.unwrap_or("(the limit)");
        let theirs = cell(self.theirs.or(self.limit), spread.and_then(|s| s.theirs.or(s.limit)));
        let verdict = match (self.ratio, self.to_limit) {
            (Some(ratio), _) => format!("{ratio:>7.2} ×"),
            (_, Some(times)) => format!("{times:>7.2} of the limit"),
            _ => String::new(),
        };
        println!("{group:<8}{case:<23}{ours:>33}  {other:<16}{theirs:>33}{verdict}");
    }
}

/// Prints the heading of the table.
pub fn print_heading() {
    println!("Nanoseconds a message: the median, and in brackets the quickest and slowest run.");
    println!("The ratio is the peer's time to ours: above one, ours is quicker.\n");
    println!(
        "{:<8}{:<23}{:>33}  {:<16}{:>33}{:>9}",
        "group", "case", "ours", "peer", "theirs", "ratio"
    );
}

fn cell(median: Option<f64>, spread: Option<[f64; 2]>) -> String {
    let (Some(median), Some([min, max])) = (median, spread) else {
        return String::new();
    };
    format!("{median:.2} ({min:.2}–{max:.2})")
}

fn range(summary: Summary) -> [f64; 2] {
    [summary.min, summary.max].map(round)
}

/// To a thousandth, far below what the runs agree on.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
