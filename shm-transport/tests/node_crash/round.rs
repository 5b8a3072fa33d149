//! One death after the other of an operation, and what the others do after each.

use crate::cleaning::{nothing_leaks, nothing_stays};
use crate::common::child::Child;
use crate::message::{LARGE, SMALL, drain, message};
use crate::operation::{Operation, Operation::*};
use crate::segment_help::Place;
use crate::{MOST, builder, eventually};
use shm_transport::config::Full;
use shm_transport::node::{Node, SendError};
use std::sync::{Mutex, Once};
use std::time::Duration;
/// Aborts if a round does not end. In ticks and not in time.
fn begin(round: String) {
    static WATCHDOG: Once = Once::new();
    type Round = (std::thread::ThreadId, String, u32);
    static ROUNDS: Mutex<Vec<Round>> = Mutex::new(Vec::new());
    WATCHDOG.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                for (_, round, ticks) in &mut *ROUNDS.lock().unwrap() {
                    *ticks += 1;
                    if *ticks == 1200 {
                        eprintln!("hangs: {round}");
                        std::process::abort();
                    }
                }
            }
        });
    });
    let mut rounds = ROUNDS.lock().unwrap();
    let me = std::thread::current().id();
    rounds.retain(|(thread, ..)| *thread != me);
    if !round.is_empty() {
        rounds.push((me, round, 0));
    }
}

/// Says where it failed.
struct Context(Operation, u32);

impl Drop for Context {
    fn drop(&mut self) {
        begin(String::new());
        if std::thread::panicking() {
            eprintln!("in: {}, dead at step {}", self.0, self.1);
        }
    }
}

/// Dies at the steps of that operation.
pub fn at_steps(what: Operation) {
    let variable = |name| std::env::var(name).ok().and_then(|number| number.parse::<u32>().ok());
    let turn = variable("SHM_CRASH_TURN").unwrap_or(0);
    let mut heir = Child::start("heir", "".as_ref(), what, 0);
    let mut round = |step| {
        let _context = Context(what, step);
        begin(format!("{what}, dead at step {step}"));
        one_round(what, step, step.wrapping_add(turn), &mut heir)
    };
    if let Some(step) = variable("SHM_CRASH_STEP") {
        round(step);
        return;
    }
    let steps = round(u32::MAX).expect("it has no step to die at");
    // Prime to 6, so that each turn comes.
    let stride = (1..).find(|stride| stride % 2 != 0 && stride % 3 != 0 && steps / stride <= MOST);
    let stride = variable("SHM_CRASH_EVERY").unwrap_or(stride.unwrap());
    // How many there are differs from time to time.
    let mut deaths = 0;
    for step in (0..).step_by(stride as usize) {
        match round(step) {
            Some(_) if step >= steps => break,
            Some(_) => {}
            None => deaths += 1,
        }
        assert!(step < 4 * steps + 1000, "does not end");
    }
    assert!(deaths > 0, "nobody died");
    eprintln!("{what}: {steps} steps, died at {deaths} of them");
}

/// `None` if the victim died, else its steps.
fn one_round(what: Operation, step: u32, turn: u32, heir: &mut Child) -> Option<u32> {
    let at_once = turn.is_multiple_of(2);
    let place = Place::new();
    let domain = &place.domain;
    let join = |name: &str| {
        // Only a death ends such a wait.
        let builder = builder(domain, name).full(Full::Block(Duration::from_secs(3600)));
        let builder = if what.is_looked_after() {
            builder
        } else {
            builder.heartbeat(Duration::from_secs(3600)).silent_after(Duration::from_secs(7200))
        };
        builder.join().unwrap()
    };
    let mut nodes: Vec<Node> = ["one", "two"][..what.survivors()].iter().map(|n| join(n)).collect();
    if what.has_dead() {
        Child::start("dead", &place.directory, what, 0).ends();
    }
    if what == SweepAnew {
        // All steps of it come, over the rounds, but none with each step of the next one.
        let budget = step.wrapping_mul(13) % 113;
        let mut before = Child::start("victim", &place.directory, what, budget);
        before.tell("leave");
        before.ends();
    }
    let mut victim = Child::start("victim", &place.directory, what, step);
    let (mut said, mut waits) = (victim.hear_if_any(), None);
    if said.as_deref() == Some("ready") {
        match what {
            Receive | ReceiveLarge => {
                let length = if what == Receive { SMALL } else { LARGE };
                nodes[0].send("victim", &message("one", 1, length)).unwrap();
                nodes[0].send("victim", &message("one", 2, length)).unwrap();
            }
            ReceiveLast => {
                nodes[1].send("victim", &message("two", 1, SMALL)).unwrap();
                drop(nodes.pop());
                nodes.push(join("two"));
            }
            ReceiveFull => {
                let (mut sender, text) =
                    (nodes[0].sender("victim").unwrap(), message("one", 1, SMALL));
                while sender.try_send(&text).is_ok() {}
                waits = Some(std::thread::spawn(move || sender.send(&text)));
            }
            SendAnew => {
                nodes[0].leave().unwrap();
                nodes[0] = join("one");
            }
            LeaveBusy => nodes[0].send("victim", &message("one", 1, LARGE)).unwrap(),
            _ => {}
        }
        let doomed = (what == Keep).then(|| {
            let mut doomed = Child::start("doomed", &place.directory, what, 0);
            assert_eq!(doomed.hear_if_any().as_deref(), Some("there"));
            doomed
        });
        victim.tell("go");
        said = victim.hear_if_any();
        if said.as_deref() == Some("set") {
            drop(doomed);
            said = victim.hear_if_any();
        }
    }
    let steps = said.map(|said| {
        let steps = said.strip_prefix("survived ").unwrap_or_else(|| panic!("{said}"));
        steps.parse::<u32>().unwrap()
    });
    let [least, all] = what.messages();
    if steps.is_none() {
        victim.ends();
        if !at_once {
            // Keepers look at what is left before anything else happens.
            std::thread::sleep(Duration::from_millis(30));
        }
        if let [one, ..] = &*nodes
            && at_once
        {
            // Who sends to the dead is told so.
            eventually("the dead one is not missed", || {
                match one.try_send("victim", &message("one", 3, SMALL)) {
                    Ok(()) | Err(SendError::Full { .. }) => None,
                    Err(
                        SendError::Dead { .. } | SendError::Left { .. } | SendError::Unknown { .. },
                    ) => Some(()),
                    Err(error) => panic!("{error}"),
                }
            });
        }
        if let [one, others @ ..] = &*nodes {
            let found = drain(one, "victim", least.len());
            assert!(found.len() >= least.len() && all.starts_with(&found), "{found:?}");
            let also = if what.is_broadcast() { all } else { &[] };
            for other in others {
                let found = drain(other, "victim", 0);
                assert!(found.is_empty() || found == also, "{found:?}");
            }
        }
    } else {
        for node in nodes.iter().take(if what.is_broadcast() { 2 } else { 1 }) {
            assert_eq!(drain(node, "victim", all.len()), all);
        }
        victim.tell("leave");
        victim.ends();
    }
    if let Some(waits) = waits {
        // Either there was room, or there is nobody any more.
        let sent = waits.join().unwrap();
        let gone = matches!(sent, Err(SendError::Dead { .. } | SendError::Left { .. }));
        assert!(sent.is_ok() || gone, "{sent:?}");
    }
    if nodes.is_empty() {
        nodes.push(join("one"));
    }
    exchange(&nodes[0], heir, &place);
    if let [one, two] = &*nodes {
        nothing_leaks(one, two);
    }
    for node in &nodes {
        assert_eq!(drain(node, "nobody", 0), [0; 0], "late");
    }
    nothing_stays(what, nodes, &place, turn);
    steps
}

/// The name is joined again, and its new node talks with `one`.
fn exchange(one: &Node, heir: &mut Child, place: &Place) {
    heir.tell(place.directory.to_str().unwrap());
    assert_eq!(drain(one, "heir", 2), [1, 2]);
    while heir.hear_if_any().expect("the heir has failed") == "more" {
        for (number, length) in [(1, SMALL), (2, LARGE)] {
            match one.try_send("victim", &message("one*", number, length)) {
                // It was just noticed that the one before is dead, or the new one has not read.
                Ok(()) | Err(SendError::Full { .. } | SendError::Dead { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        heir.tell("more");
    }
    eventually("the one who has left is not missed", || {
        match one.try_send("victim", &message("one", 4, SMALL)) {
            Ok(()) | Err(SendError::Full { .. }) => None,
            Err(SendError::Left { .. } | SendError::Unknown { .. }) => Some(()),
            Err(error) => panic!("{error}"),
        }
    });
}
