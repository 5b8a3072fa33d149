//! The other processes: the one who dies at a step, and those who die whole.

use crate::common::child::{Child, say};
use crate::message::{LARGE, SMALL, message, parse};
use crate::operation::{ALL, Operation, Operation::*};
use crate::{CHUNKS, builder, eventually};
use rustix::process::{Signal, getpid, kill_process};
use shm_primitives::sync::crash::{run_all_until, run_until};
use shm_transport::domain::Domain;
use shm_transport::member::Member;
use shm_transport::node::{Node, NodeBuilder, NodeError, SendError, sweep};
use std::io::stdin;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

const ROLE: &str = "SHM_CRASH_TEST_ROLE";
const DIRECTORY: &str = "SHM_CRASH_TEST_DIRECTORY";
const WHAT: &str = "SHM_CRASH_TEST_OPERATION";
const BUDGET: &str = "SHM_CRASH_TEST_BUDGET";

impl Child {
    /// Starts the process of that role.
    pub fn start(role: &str, directory: &Path, what: Operation, budget: u32) -> Self {
        let mut command = Self::playing("child::role");
        command.arg("--ignored").env(ROLE, role).env(DIRECTORY, directory);
        command.env(WHAT, what.to_string()).env(BUDGET, budget.to_string());
        Self::of(command)
    }

    /// Waits for its end; panics if it was killed by nobody and failed.
    pub fn ends(self) {
        let status = self.ended();
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        assert!(killed || status.success(), "{status}");
    }
}
/// What the other side tells; none if there is none any more.
fn told() -> Option<String> {
    let mut line = String::new();
    let length = stdin().read_line(&mut line).unwrap();
    (length > 0).then(|| line.trim().into())
}

/// What kills this process. Nothing of it happens any more, in no thread.
fn end() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "run by the others, in processes of their own"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let what = ALL.into_iter().find(|one| one.to_string() == variable(WHAT)).unwrap();
    let domain = Domain::new("test").unwrap().in_directory(variable(DIRECTORY));
    match &*role {
        "dead" => dead(&domain, what),
        "victim" => victim(&domain, what, variable(BUDGET).parse().unwrap()),
        "heir" => heir(),
        "doomed" => doomed(&domain),
        other => panic!("{other}"),
    }
}

/// A node that is killed, not at a step, but with all that it has.
fn dead(domain: &Domain, what: Operation) {
    let of_two = |builder: NodeBuilder| if what == JoinFull { builder.nodes(2) } else { builder };
    // Leaves a record free before those of the dead: one who sweeps has it.
    let first = Member::join(domain, "first").unwrap();
    let node = of_two(builder(domain, "victim")).join().unwrap();
    let to = if what == SweepBeside { "one" } else { "beside" };
    let beside = of_two(builder(domain, "beside")).join().unwrap();
    node.send(to, &message("victim", 1, SMALL)).unwrap();
    node.send(to, &message("victim", 2, LARGE)).unwrap();
    beside.send("victim", &message("beside", 1, LARGE)).unwrap();
    // SAFETY: it holds nothing.
    unsafe { first.leave() }.unwrap();
    end();
}

/// One with whom the victim has lanes and large messages in both directions when it is killed.
fn doomed(domain: &Domain) {
    let node = builder(domain, "doomed").join().unwrap();
    node.send("victim", &message("doomed", 1, SMALL)).unwrap();
    node.send("victim", &message("doomed", 2, LARGE)).unwrap();
    say("there");
    told();
}

/// Waits until nothing of it is left, and reads what it has sent.
fn bury(node: &Node) {
    let mut found = Vec::new();
    eventually("the doomed one stays", || {
        if let Some(message) = node.recv_timeout(Duration::from_millis(1)).unwrap() {
            found.push(parse(&message));
        }
        let names = node.domain().segments().unwrap();
        let pools = names.filter(|name| name.as_ref().unwrap().as_str().starts_with("pool."));
        // Its own stays.
        (node.nodes().unwrap().len() == 2 && node.stats().lanes_in == 0 && pools.count() == 1)
            .then_some(())
    });
    assert_eq!(found, [("doomed".into(), 1), ("doomed".into(), 2)]);
    // One chunk was lent to the doomed one.
    for number in 1..=CHUNKS as u32 {
        eventually("chunks are lost", || {
            match node.try_send("one", &message("victim", number, LARGE)) {
                Ok(()) => Some(()),
                Err(SendError::Full { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        });
    }
}

/// The one who dies at a step.
fn victim(domain: &Domain, what: Operation, budget: u32) {
    let name = if what == JoinFull { "third" } else { "victim" };
    let join = || builder(domain, name).join().unwrap();
    let small = |number| message("victim", number, SMALL);
    let large = |number| message("victim", number, LARGE);
    let run = |f: &mut dyn FnMut()| run_until(budget, end, f).1;
    let mut joined = None;
    let steps = match what {
        JoinFirst | Join | JoinAfterDeath | JoinFull => run(&mut || joined = Some(join())),
        Sweep | SweepAnew | SweepBeside => run(&mut || drop(sweep::sweep(domain, false).unwrap())),
        _ => {
            let node = &*joined.insert(join());
            match what {
                SendSecond | SendAnew | Leave => node.send("one", &small(1)).unwrap(),
                SendSecondLarge => node.send("one", &large(1)).unwrap(),
                LeaveBusy => {
                    node.send("one", &small(1)).unwrap();
                    node.send("one", &large(2)).unwrap();
                }
                _ => {}
            }
            say("ready");
            told();
            if what == Keep {
                node.send("doomed", &large(1)).unwrap();
                say("set");
            }
            match what {
                Keep => run_all_until(budget, end, || bury(node)).1,
                SendFirst => run(&mut || node.send("one", &small(1)).unwrap()),
                SendSecond => run(&mut || node.send("one", &small(2)).unwrap()),
                SendLarge => run(&mut || node.send("one", &large(1)).unwrap()),
                SendSecondLarge => run(&mut || node.send("one", &large(2)).unwrap()),
                Broadcast => run(&mut || assert_eq!(node.broadcast(&small(1)).unwrap(), 2)),
                BroadcastLarge => run(&mut || assert_eq!(node.broadcast(&large(1)).unwrap(), 2)),
                OwnSender => run(&mut || {
                    let mut sender = node.sender("one").unwrap();
                    sender.send(&small(1)).unwrap();
                    sender.send(&large(2)).unwrap();
                }),
                SendAnew => run(&mut || node.send("one", &small(2)).unwrap()),
                Receive | ReceiveLarge | ReceiveFull => {
                    let mut got = None;
                    let steps = run(&mut || got = Some(node.recv().unwrap()));
                    assert_eq!(parse(&got.unwrap()), ("one".into(), 1));
                    steps
                }
                ReceiveLast => {
                    let mut got = Vec::new();
                    let steps = run(&mut || {
                        got.push(node.recv().unwrap());
                        // It looks everywhere before it waits.
                        got.extend(node.recv_timeout(Duration::from_millis(1)).unwrap());
                    });
                    assert_eq!(
                        got.iter().map(|got| parse(got)).collect::<Vec<_>>(),
                        [("two".into(), 1)]
                    );
                    assert_eq!(node.stats().lanes_in, 0, "the lane is still there");
                    steps
                }
                Leave | LeaveBusy | LeaveLast => run(&mut || node.leave().unwrap()),
                _ => unreachable!(),
            }
        }
    };
    say(format_args!("survived {steps}"));
    told();
    drop(joined);
}

/// One who joins the name again each time that it is told to, talks with "one", and leaves.
fn heir() {
    while let Some(directory) = told() {
        let domain = Domain::new("test").unwrap().in_directory(directory);
        // The lock of the dead may stand a moment longer than its process.
        let node = eventually("the name is not free", || match builder(&domain, "victim").join() {
            Ok(node) => Some(node),
            Err(NodeError::Taken { .. }) => None,
            Err(error) => panic!("the name cannot be joined again: {error}"),
        });
        node.send("one", &message("heir", 1, SMALL)).unwrap();
        node.send("one", &message("heir", 2, LARGE)).unwrap();
        // What the other has sent may have gone to the one who died before.
        let mut wanted = vec![1, 2];
        eventually("nothing comes back", || {
            if let Some(found) = node.try_recv().unwrap() {
                let (author, number) = parse(&found);
                assert_eq!(author, "one*");
                wanted.retain(|one| *one != number);
            } else {
                say("more");
                told();
            }
            wanted.is_empty().then_some(())
        });
        node.leave().unwrap();
        drop(node);
        say("done");
    }
}
