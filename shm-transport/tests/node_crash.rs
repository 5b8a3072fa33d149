//! Nodes die at each step of what they do: at each store through the door of the primitives, and
//! before and after each call to the system that others see. The others go on.
//!
//! Compiled under `--cfg crash_points` alone. The one who dies is another process, which kills
//! itself at the step; so each step costs a process, and operations of many steps die at no more
//! than [`MOST`] of them. With `SHM_CRASH_EVERY=1` in the environment it is each one, and with
//! `SHM_CRASH_STEP=<n>` step n alone.
//!
//! What is done after a death is one of six things in turn, for step 0, 1, 2, …; it begins with
//! another one if `SHM_CRASH_TURN` says so, from 0 to 5. Whether those who are left look at it at
//! once, or their threads have looked before; and who puts away what the dead left: the others by
//! themselves, the last of them who leaves, or a sweep beside them.
#![cfg(all(crash_points, target_os = "linux"))]

mod segment_help;

use rustix::process::{Signal, getpid, kill_process};
use segment_help::{Place, again};
use shm_primitives::sync::crash::{run_all_until, run_until};
use shm_transport::config::Full;
use shm_transport::domain::Domain;
use shm_transport::member::Member;
use shm_transport::node::{Node, NodeBuilder, NodeError, SendError, sweep};
use std::fmt;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, Once};
use std::time::Duration;

/// The most deaths that one operation dies unless told otherwise.
const MOST: u32 = 120;
/// Bytes of a message that goes through a lane, and of one that is too large for that.
const SMALL: usize = 40;
const LARGE: usize = 6000;
/// Chunks for large messages that a node of these tests has.
const CHUNKS: usize = 4;

/// How long to wait for what must come, in tries of a millisecond or more. Not a time: all that
/// runs here may be stopped for minutes.
const PATIENCE: u32 = 20_000;

/// What is done under a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    /// The first node of a domain joins.
    JoinFirst,
    /// A node joins, and there is another.
    Join,
    /// A node joins under the name of one that was killed, with large messages unread.
    JoinAfterDeath,
    /// A node joins a domain whose nodes are all dead, and leave no room for another.
    JoinFull,
    /// The first message: makes the lane.
    SendFirst,
    /// The second.
    SendSecond,
    /// The first large message: makes the pool, and a place in it.
    SendLarge,
    /// The second.
    SendSecondLarge,
    /// A message to two nodes, none of which was sent to before.
    Broadcast,
    /// The same with a large one, which all share.
    BroadcastLarge,
    /// A sender of its own is made, used and dropped: the lane is left to its receiver.
    OwnSender,
    /// A message is sent to a name that another has by now.
    SendAnew,
    /// A message is read and released: takes up the lane.
    Receive,
    /// A large one: opens the pool.
    ReceiveLarge,
    /// A message is read out of a full lane, whose sender waits for room.
    ReceiveFull,
    /// A message is read, and the lane, which its sender has left, is given back with its memory.
    ReceiveLast,
    /// Its thread takes back what a dead one had of it, and puts away the rest.
    Keep,
    /// Takes leave with nothing unread but a small message.
    Leave,
    /// Takes leave while a large message of its own is unread, and one to it.
    LeaveBusy,
    /// Takes leave as the last one: nothing stays but what it does not come to.
    LeaveLast,
    /// Puts away what two dead nodes left that nobody else looks after.
    Sweep,
    /// The same after another has died of it, at some step.
    SweepAnew,
    /// The same beside a node that has not read yet what a dead one has sent.
    SweepBeside,
}

use Operation::*;

const ALL: [Operation; 23] = [
    JoinFirst,
    Join,
    JoinAfterDeath,
    JoinFull,
    SendFirst,
    SendSecond,
    SendLarge,
    SendSecondLarge,
    Broadcast,
    BroadcastLarge,
    OwnSender,
    SendAnew,
    Receive,
    ReceiveLarge,
    ReceiveFull,
    ReceiveLast,
    Keep,
    Leave,
    LeaveBusy,
    LeaveLast,
    Sweep,
    SweepAnew,
    SweepBeside,
];

impl Operation {
    /// Who is there before and after: "one", and "two".
    fn survivors(self) -> usize {
        match self {
            JoinFirst | JoinAfterDeath | JoinFull | LeaveLast | Sweep | SweepAnew => 0,
            Join | SendFirst | SendSecond | Keep | Leave | SweepBeside => 1,
            SendLarge | SendSecondLarge | Broadcast | BroadcastLarge | OwnSender | SendAnew
            | Receive | ReceiveLarge | ReceiveFull | ReceiveLast | LeaveBusy => 2,
        }
    }

    /// Whether "victim" has been a node, and was killed, before the one who is to die begins.
    fn has_dead(self) -> bool {
        matches!(self, JoinAfterDeath | JoinFull | Sweep | SweepAnew | SweepBeside)
    }

    /// Whether the survivors look after the dead; otherwise only who joins does, and who sweeps.
    fn is_looked_after(self) -> bool {
        !matches!(self, Keep | SweepBeside)
    }

    fn is_broadcast(self) -> bool {
        matches!(self, Broadcast | BroadcastLarge)
    }

    /// Messages that "one" certainly gets, and that it gets if the victim survives.
    fn messages(self) -> [&'static [u32]; 2] {
        match self {
            JoinFirst | Join | JoinAfterDeath | JoinFull | Receive | ReceiveLarge | ReceiveFull
            | ReceiveLast | LeaveLast | Sweep | SweepAnew => [&[], &[]],
            SendFirst | SendLarge | Broadcast | BroadcastLarge => [&[], &[1]],
            // What came before went to the one who had the name before.
            SendAnew => [&[], &[2]],
            SendSecond | SendSecondLarge => [&[1], &[1, 2]],
            Keep => [&[], &[1, 2, 3, 4]],
            OwnSender => [&[], &[1, 2]],
            Leave => [&[1], &[1]],
            LeaveBusy | SweepBeside => [&[1, 2], &[1, 2]],
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

// ---------------------------------------------------------------- what both sides know

fn builder(domain: &Domain, name: &str) -> NodeBuilder {
    // Heartbeats are so quick that what the dead left goes at once.
    Node::builder(name)
        .in_domain(domain.clone())
        .config(Default::default())
        .nodes(8)
        .lane_bytes(8192)
        .max_message(16 << 10)
        .heartbeat(Duration::from_millis(5))
        .silent_after(Duration::from_millis(15))
}

/// A message that says by itself whether it is whole.
fn message(author: &str, number: u32, length: usize) -> Vec<u8> {
    let mut text = format!("{author} {number} ").into_bytes();
    for at in text.len()..length {
        text.push((at as u32).wrapping_mul(31).wrapping_add(number) as u8);
    }
    text
}

/// Who wrote it, and which it is.
fn parse(found: &[u8]) -> (String, u32) {
    let mut words = found.splitn(3, |byte| *byte == b' ');
    let mut word = || String::from_utf8_lossy(words.next().unwrap_or(b"?")).into_owned();
    let (author, number) = (word(), word());
    let number = number.parse().unwrap_or_else(|_| panic!("no message: {found:?}"));
    assert!(found == message(&author, number, found.len()), "not whole: {author} {number}");
    assert!([SMALL, LARGE].contains(&found.len()), "cut: {author} {number}");
    (author, number)
}

/// Waits until it is so.
fn eventually<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE {
        if let Some(done) = so() {
            return done;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}");
}

// ---------------------------------------------------------------- the processes

const ROLE: &str = "SHM_CRASH_TEST_ROLE";
const DIRECTORY: &str = "SHM_CRASH_TEST_DIRECTORY";
const WHAT: &str = "SHM_CRASH_TEST_OPERATION";
const BUDGET: &str = "SHM_CRASH_TEST_BUDGET";
/// Stands before what a process says to the one that started it; the harness says things too.
const SAYS: &str = ">> ";

/// Another process: killed if the test ends before it.
struct Other {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, directory: &std::path::Path, what: Operation, budget: u32) -> Self {
        let mut child = again("another_process")
            .arg("--ignored")
            .env(ROLE, role)
            .env(DIRECTORY, directory)
            .env(WHAT, what.to_string())
            .env(BUDGET, budget.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    /// What it says next; `None` if it has ended.
    fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, said)) = line.rsplit_once(SAYS) {
                return Some(said.trim().into());
            }
        }
    }

    fn tell(&mut self, what: &str) {
        // It may be dead.
        let _ = writeln!(self.to, "{what}");
        let _ = self.to.flush();
    }

    /// Waits for its end; panics if it was killed by nobody and failed.
    fn ends(mut self) {
        let status = self.child.wait().unwrap();
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        assert!(killed || status.success(), "{status}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{SAYS}{what}").unwrap();
    out.flush().unwrap();
}

/// Waits for the other side; false if there is none any more.
fn told() -> Option<String> {
    let mut line = String::new();
    let length = stdin().lock().read_line(&mut line).unwrap();
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
fn another_process() {
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
    say(&format!("survived {steps}"));
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

// ---------------------------------------------------------------- the test

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

fn at_steps(what: Operation) {
    let variable = |name| std::env::var(name).ok().and_then(|number| number.parse::<u32>().ok());
    let turn = variable("SHM_CRASH_TURN").unwrap_or(0);
    let mut heir = Other::start("heir", "".as_ref(), what, 0);
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

/// All messages of `author` that come to `node`: at least as many as `least`, and whatever is
/// there then.
fn drain(node: &Node, author: &str, least: usize) -> Vec<u32> {
    let mut found = Vec::new();
    let mut take = |message: &[u8]| {
        let (by, number) = parse(message);
        assert_eq!(by, author, "{number}");
        found.push(number);
        found.len()
    };
    let mut count = 0;
    eventually("accepted messages do not come", || {
        if count < least
            && let Some(message) = node.recv_timeout(Duration::from_millis(1)).unwrap()
        {
            count = take(&message);
        }
        (count >= least).then_some(())
    });
    // Before it waits it looks everywhere.
    while let Some(message) = node.recv_timeout(Duration::from_millis(1)).unwrap() {
        take(&message);
    }
    found
}

/// `None` if the victim died, else its steps.
fn one_round(what: Operation, step: u32, turn: u32, heir: &mut Other) -> Option<u32> {
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
        Other::start("dead", &place.directory, what, 0).ends();
    }
    if what == SweepAnew {
        // All steps of it come, over the rounds, but none with each step of the next one.
        let budget = step.wrapping_mul(13) % 113;
        let mut before = Other::start("victim", &place.directory, what, budget);
        before.tell("leave");
        before.ends();
    }
    let mut victim = Other::start("victim", &place.directory, what, step);
    let (mut said, mut waits) = (victim.hear(), None);
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
            let mut doomed = Other::start("doomed", &place.directory, what, 0);
            assert_eq!(doomed.hear().as_deref(), Some("there"));
            doomed
        });
        victim.tell("go");
        said = victim.hear();
        if said.as_deref() == Some("set") {
            drop(doomed);
            said = victim.hear();
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
fn exchange(one: &Node, heir: &mut Other, place: &Place) {
    heir.tell(place.directory.to_str().unwrap());
    assert_eq!(drain(one, "heir", 2), [1, 2]);
    while heir.hear().expect("the heir has failed") == "more" {
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

/// All chunks of `one` come back, and the lanes of both.
fn nothing_leaks(one: &Node, two: &Node) {
    eventually("chunks are lost", || {
        let sent = (0..CHUNKS as u32)
            .take_while(|at| one.try_send("two", &message("one", *at, LARGE)).is_ok())
            .count();
        assert_eq!(drain(two, "one", sent).len(), sent);
        (sent == CHUNKS).then_some(())
    });
    eventually("lanes are lost", || {
        // Who reads gives lanes back that have ended.
        for node in [one, two] {
            assert!(node.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
        }
        (one.stats().lanes_in == 0 && two.stats().lanes_in == 0).then_some(())
    });
}

/// All leave, and all is gone.
fn nothing_stays(what: Operation, nodes: Vec<Node>, place: &Place, turn: u32) {
    // Otherwise the last who leaves does it.
    if turn % 3 != 1 {
        if turn % 3 == 2 {
            sweep::sweep(&place.domain, false).unwrap();
        }
        if what.is_looked_after() {
            put_away(&nodes, place);
        }
    }
    drop(nodes);
    let mut files = Vec::new();
    for _ in 0..PATIENCE {
        files = place.files();
        if files.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("left by those who left: {files:?}");
}

/// What the dead left is put away while the others are there.
fn put_away(nodes: &[Node], place: &Place) {
    let observer = Member::join(&place.domain, "observer").unwrap();
    eventually("the dead stay", || {
        let (known, records) = (nodes[0].nodes().unwrap(), observer.processes().verdicts());
        let own = |file: &String| {
            file.contains(".pool.") && nodes.iter().any(|node| file.ends_with(&pool_of(node)))
        };
        let files = place.files().iter().filter(|file| !own(file)).count();
        let found = (known.len(), records.count() - 1, files - 2);
        (found == (nodes.len(), nodes.len(), nodes.len())).then_some(())
    });
    // SAFETY: it holds nothing.
    unsafe { observer.leave() }.unwrap();
}

/// What the file of its pool ends with.
fn pool_of(node: &Node) -> String {
    let nodes = node.nodes().unwrap();
    let owner = nodes.iter().find(|one| one.id == *node.id()).unwrap().owner;
    format!(".pool.{}-{}", owner.index(), owner.generation())
}

macro_rules! operations {
    ($($test:ident: $what:ident;)+) => { $(
        #[test]
        fn $test() {
            at_steps($what);
        }
    )+ };
}

operations! {
    join_first: JoinFirst;
    join: Join;
    join_after_death: JoinAfterDeath;
    join_full: JoinFull;
    send_first: SendFirst;
    send_second: SendSecond;
    send_large: SendLarge;
    send_second_large: SendSecondLarge;
    broadcast: Broadcast;
    broadcast_large: BroadcastLarge;
    own_sender: OwnSender;
    send_anew: SendAnew;
    receive: Receive;
    receive_large: ReceiveLarge;
    receive_full: ReceiveFull;
    receive_last: ReceiveLast;
    keep: Keep;
    leave: Leave;
    leave_busy: LeaveBusy;
    leave_last: LeaveLast;
    sweep_alone: Sweep;
    sweep_anew: SweepAnew;
    sweep_beside: SweepBeside;
}
