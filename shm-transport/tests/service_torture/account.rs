//! What all have written down, added up.

use crate::help::*;
use std::collections::{HashMap, HashSet};

#[derive(Default)]
struct Fate {
    function: u32,
    ends: Vec<String>,
    runs: u32,
    letters: u32,
}

/// Checks it all, and says how much it was.
pub fn check(notes: &Notes, killed: &HashSet<u64>) -> String {
    let mut calls: HashMap<u64, Fate> = HashMap::new();
    let mut sums: HashMap<String, u32> = HashMap::new();
    let number = |words: &[&str], at: usize| words[at].parse::<u64>().unwrap();
    // Ends come after beginnings in each file.
    for line in notes.lines("calls") {
        let words: Vec<&str> = line.split(' ').collect();
        let call = calls.entry(number(&words, 1)).or_default();
        match words[0] {
            "begin" => {
                assert_eq!(call.function, 0, "{line}: twice");
                call.function = number(&words, 2) as u32;
            }
            "end" => {
                call.ends.push(words[2].into());
                *sums.entry(words[2].into()).or_default() += 1;
            }
            _ => panic!("{line}"),
        }
    }
    for part in ["runs", "letters"] {
        for line in notes.lines(part) {
            let words: Vec<&str> = line.split(' ').collect();
            let id = number(&words, 0);
            let call = calls.get_mut(&id).unwrap_or_else(|| panic!("{part} {line}: never begun"));
            assert_eq!(u64::from(call.function), number(&words, 1), "{part} {line}");
            match part {
                "runs" => call.runs += 1,
                _ => call.letters += 1,
            }
        }
    }
    let mut runs = 0;
    for (id, call) in &calls {
        let Fate { function, ends, runs: times, letters } = call;
        let what = || format!("call {id} of {function}: {ends:?}, {times} runs, {letters} letters");
        runs += times;
        let may_again = matches!(*function, AGAIN | DIE_AGAIN);
        assert!(*times <= if may_again { 3 } else { 1 }, "{}", what());
        assert!(*letters <= if may_again { 3 } else { 1 }, "{}", what());
        let end = match &**ends {
            [] if killed.contains(&(id >> 32)) => continue,
            [end] => &**end,
            _ => panic!("{}", what()),
        };
        let is_so = match end {
            "ok" => *times >= 1 && (may_again || *letters == 0),
            "failed" => *times == 1 && *function == FAIL,
            "unknown" => *times == 0 && *function == NOBODY,
            "full" | "disconnected" => *times == 0 || may_again,
            // Killed before it was written down, or before it was run.
            "crashed" => true,
            "late" | "dropped" => true,
            _ => false,
        };
        assert!(is_so, "{}", what());
        assert!(*function != DIE || end != "ok", "{}", what());
    }
    let letters: u32 = calls.values().map(|call| call.letters).sum();
    assert!(sums.get("ok").is_some_and(|ok| *ok > 100) && runs > 100, "too little was done");
    format!("{} calls, {runs} runs, {letters} letters, {sums:?}", calls.len())
}
