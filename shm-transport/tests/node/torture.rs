//! Processes that join, send, receive, leave and join again at random, while they are killed,
//! stopped and continued. Each writes down what it does, and in the end that is added up:
//!
//! - what was received was sent there, whole, and is received once;
//! - of each stream a receiver gets, without a gap, what was accepted from the first that it got on,
//!   until it leaves or dies; and one that never did either, all of it;
//! - nobody hangs, and nothing is left.
//!
//! `SHM_TORTURE_SECONDS` says for how long, `SHM_TORTURE_SEED` repeats the choices of a run (though
//! not the moments at which processes are killed).

use crate::child::Child;
use crate::help::{HEADER, PATIENCE, Place, Random, builder, check, payload};
use shm_transport::config::Full;
use shm_transport::domain::Domain;
use shm_transport::node::{Message, Node, NodeError, RecvError, SendError, Sender, sweep};
use shm_transport::segment::SegmentError;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Those that are killed, and those that never are.
const MORTALS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const STEADY: [&str; 2] = ["p0", "p1"];

#[test]
fn torture() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let time = Duration::from_secs(number("SHM_TORTURE_SECONDS").unwrap_or(5));
    let seed = number("SHM_TORTURE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    eprintln!("SHM_TORTURE_SEED={seed}");
    let place = Place::new();
    let logs = Logs::new();
    let mut random = Random::new(seed);
    let mut started = 0;
    let mut start = |name: &str, random: &mut Random| {
        started += 1;
        let mut child = Child::start(&place);
        let (seed, log) = (random.below(1 << 31), logs.path(started));
        child.tell(&format!("torture {name} {seed} {started} {}", log.display()));
        child
    };
    let mut mortals: Vec<Child> = MORTALS.iter().map(|name| start(name, &mut random)).collect();
    let mut steady: Vec<Child> = STEADY.iter().map(|name| start(name, &mut random)).collect();

    let begun = Instant::now();
    let (mut kills, mut stops) = (0, 0);
    while begun.elapsed() < time {
        thread::sleep(Duration::from_millis(random.below(40)));
        let which = random.below(mortals.len() as u64) as usize;
        match random.below(10) {
            0..4 => {
                still_runs(&mut mortals[which]);
                mortals[which].kill();
                kills += 1;
                mortals[which] = start(MORTALS[which], &mut random);
            }
            4..8 => {
                let mut all = mortals.iter().chain(&steady);
                let stopped = all.nth(random.below(6) as usize).unwrap();
                stopped.signal(libc::SIGSTOP);
                thread::sleep(Duration::from_millis(random.below(30)));
                stopped.signal(libc::SIGCONT);
                stops += 1;
            }
            _ => {}
        }
    }
    // First nobody sends any more, then all is read.
    for phase in ["quiet", "empty"] {
        fs::write(logs.directory.join(phase), "").unwrap();
        for child in mortals.iter_mut().chain(&mut steady) {
            assert_eq!(child.hear(), phase);
        }
    }
    fs::write(logs.directory.join("end"), "").unwrap();
    for child in mortals.iter_mut().chain(&mut steady) {
        assert_eq!(child.hear(), "left");
        child.end();
    }
    sweep::sweep(&place.domain, false).unwrap();
    assert_eq!(place.files(), [""; 0]);
    let sums = Account::of(&logs, started).check();
    eprintln!("{kills} killed, {stops} stopped; {sums}");
}

#[track_caller]
fn still_runs(child: &mut Child) {
    if let Some(status) = child.process.try_wait().unwrap() {
        panic!("{status}: what it said is above");
    }
}

/// A directory for what processes write down.
struct Logs {
    directory: PathBuf,
}

impl Logs {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(crate::segment_help::unique());
        fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    fn path(&self, process: u32) -> PathBuf {
        self.directory.join(format!("log-{process}"))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// What one of the processes does.
pub fn party(domain: &Domain, name: &str, seed: u64, process: u32, log: &Path) {
    let phases = log.parent().unwrap();
    let is_phase = |phase: &str| phases.join(phase).exists();
    let mut party = Party {
        domain,
        name,
        process,
        random: Random::new(seed),
        log: File::create(log).unwrap(),
        lives: 0,
        streams: 0,
        node: None,
        by_name: HashMap::new(),
        senders: HashMap::new(),
        broadcast: None,
    };
    party.join();
    while !is_phase("quiet") {
        party.act();
    }
    party.senders.clear();
    crate::child::say("quiet");
    while !is_phase("empty") {
        party.receive(Duration::from_millis(5));
    }
    // Nobody sends: what is on its way is there.
    while party.receive(Duration::from_millis(300)) {}
    crate::child::say("empty");
    while !is_phase("end") {
        assert!(!party.receive(Duration::from_millis(5)), "something came after the end");
    }
    let lives = party.lives;
    party.write(format_args!("end {lives}"));
    party.leave();
}

struct Party<'p> {
    domain: &'p Domain,
    name: &'p str,
    process: u32,
    random: Random,
    log: File,
    /// How often it has joined.
    lives: u32,
    streams: u32,
    node: Option<Node>,
    /// The streams of `Node::send`, and the next number of each.
    by_name: HashMap<&'static str, (u32, u32)>,
    senders: HashMap<&'static str, (Sender, u32, u32)>,
    broadcast: Option<(u32, u32)>,
}

impl Party<'_> {
    /// A line, which is written before this returns, whatever comes then.
    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        self.log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("joined")
    }

    fn join(&mut self) {
        let begun = Instant::now();
        let node =
            loop {
                let joined = builder(self.domain, self.name)
                    .heartbeat(Duration::from_millis(50))
                    .silent_after(Duration::from_millis(500))
                    .full(Full::Block(Duration::from_millis(30)))
                    .lane_bytes(16 << 10)
                    .max_message(1 << 20)
                    .nodes(16)
                    .join();
                match joined {
                    Ok(node) => break node,
                    // Its last life is just ending; or a lock is held by one that is stopped.
                    Err(
                        NodeError::Taken { .. } | NodeError::Segment(SegmentError::Busy { .. }),
                    ) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
                    Err(error) => panic!("{} joins: {error:?}", self.name),
                }
            };
        self.node = Some(node);
        self.lives += 1;
        let (name, lives) = (self.name, self.lives);
        self.write(format_args!("join {lives} {name}"));
        self.by_name.clear();
        self.broadcast = None;
    }

    fn leave(&mut self) {
        self.senders.clear();
        match self.node().leave() {
            Ok(()) | Err(NodeError::Segment(SegmentError::Busy { .. })) => {}
            Err(error) => panic!("{} leaves: {error:?}", self.name),
        }
        self.node = None;
    }

    fn stream(&mut self, to: &str) -> u32 {
        self.streams += 1;
        // Ten minutes have some 6,000 processes, and a lasting one has more than 65,536 streams.
        assert!(self.process >> 14 == 0 && self.streams >> 18 == 0, "numbers run out");
        let stream = self.process << 18 | self.streams;
        self.write(format_args!("stream {stream} {to}"));
        stream
    }

    fn someone(&mut self) -> &'static str {
        let all = MORTALS.len() + STEADY.len();
        let which = self.random.below(all as u64) as usize;
        MORTALS.iter().chain(&STEADY).nth(which).unwrap()
    }

    fn length(&mut self) -> usize {
        let most = match self.random.below(40) {
            0 => 200_000,
            1..5 => 4096,
            _ => 300,
        };
        HEADER + self.random.below(most) as usize
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..30 => {
                let to = self.someone();
                for _ in 0..=self.random.below(20) {
                    self.send(to);
                }
            }
            30..45 => {
                let to = self.someone();
                for _ in 0..=self.random.below(20) {
                    self.send_by_lane(to);
                }
            }
            45..48 => {
                self.senders.clear();
            }
            48..52 => self.send_to_all(),
            52..54 => {
                let nodes = self.node().nodes().unwrap();
                assert!(nodes.iter().any(|node| node.id == *self.node().id()));
            }
            54 if !STEADY.contains(&self.name) => {
                self.leave();
                self.join();
            }
            55..60 => {
                self.receive(Duration::from_millis(3));
            }
            _ => {
                for _ in 0..60 {
                    if !self.receive(Duration::ZERO) {
                        break;
                    }
                }
            }
        }
    }

    /// Writes down what became of an attempt.
    fn sent(&mut self, stream: u32, number: u32, sent: &Result<(), SendError>) {
        match sent {
            Ok(()) => self.write(format_args!("sent {stream} {number}")),
            Err(
                SendError::Unknown { .. }
                | SendError::Dead { .. }
                | SendError::Left { .. }
                | SendError::Full { .. }
                | SendError::TimedOut { .. }
                | SendError::NoLane { .. }
                | SendError::Segment(SegmentError::Busy { .. }),
            ) => self.write(format_args!("failed {stream} {number}")),
            Err(error) => panic!("{} sends: {error:?}", self.name),
        }
    }

    fn send(&mut self, to: &'static str) {
        let (stream, number) = match self.by_name.get(to) {
            Some(found) => *found,
            None => (self.stream(to), 0),
        };
        self.by_name.insert(to, (stream, number + 1));
        let bytes = payload(stream, number, self.length());
        self.write(format_args!("try {stream} {number}"));
        let sent = if self.random.below(2) == 0 {
            self.node().send(to, &bytes)
        } else {
            self.node().try_send(to, &bytes)
        };
        self.sent(stream, number, &sent);
    }

    fn send_by_lane(&mut self, to: &'static str) {
        if !self.senders.contains_key(to) {
            match self.node().sender(to) {
                Ok(sender) => {
                    let stream = self.stream(to);
                    self.senders.insert(to, (sender, stream, 0));
                }
                error => {
                    // Allowed or not: as with any other.
                    return self.sent(0, 0, &error.map(drop));
                }
            }
        }
        let length = self.length();
        let grants = self.random.below(2) == 0;
        let (sender, stream, next) = self.senders.get_mut(to).unwrap();
        let (stream, number) = (*stream, *next);
        *next += 1;
        let bytes = payload(stream, number, length);
        self.log.write_all(format!("try {stream} {number}\n").as_bytes()).unwrap();
        let sent = if grants {
            sender.grant(length).and_then(|mut grant| {
                grant.copy_from_slice(&bytes);
                grant.commit(length)
            })
        } else {
            sender.send(&bytes)
        };
        self.sent(stream, number, &sent);
        if matches!(sent, Err(SendError::Dead { .. } | SendError::Left { .. })) {
            self.senders.remove(to);
        }
    }

    fn send_to_all(&mut self) {
        let (stream, number) = match self.broadcast {
            Some(found) => found,
            None => (self.stream("*"), 0),
        };
        self.broadcast = Some((stream, number + 1));
        let bytes = payload(stream, number, self.length());
        self.write(format_args!("try {stream} {number}"));
        match self.node().broadcast(&bytes) {
            Ok(reached) => self.write(format_args!("reached {stream} {number} {reached}")),
            Err(error) => panic!("{} broadcasts: {error:?}", self.name),
        }
    }

    fn receive(&mut self, time: Duration) -> bool {
        let received: Result<Option<Message>, _> =
            if time.is_zero() { self.node().try_recv() } else { self.node().recv_timeout(time) };
        let message = match received {
            Ok(Some(message)) => message,
            Ok(None) => return false,
            // It is there: a lock on the way to it is held by one that is stopped.
            Err(RecvError::NotYet { .. }) => return true,
            Err(error) => panic!("{} receives: {error:?}", self.name),
        };
        let (stream, number) = check(&message);
        let (lives, from) = (self.lives, message.sender());
        self.write(format_args!("got {lives} {stream} {number} {from}"));
        true
    }
}

/// What all have written down.
#[derive(Default)]
struct Account {
    streams: HashMap<u32, Stream>,
    /// By process and life.
    lives: HashMap<(u32, u32), Life>,
}

#[derive(Default)]
struct Stream {
    from: String,
    to: String,
    tried: HashSet<u32>,
    sent: HashSet<u32>,
    failed: HashSet<u32>,
    /// By how many each was accepted.
    reached: HashMap<u32, usize>,
}

#[derive(Default)]
struct Life {
    name: String,
    /// It has read all there was when nobody sent any more.
    to_the_end: bool,
    got: HashMap<u32, Vec<u32>>,
}

impl Account {
    fn of(logs: &Logs, processes: u32) -> Self {
        let mut this = Self::default();
        for process in 1..=processes {
            // One may have been killed before it wrote anything.
            let Ok(text) = fs::read_to_string(logs.path(process)) else { continue };
            let mut name = String::new();
            // The last line may be cut off.
            for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
                let words: Vec<&str> = line.split(' ').collect();
                let number = |at: usize| words[at].parse::<u32>().unwrap();
                match words[0] {
                    "join" => {
                        name = words[2].into();
                        let life = Life { name: name.clone(), ..Life::default() };
                        this.lives.insert((process, number(1)), life);
                    }
                    "end" => this.life(process, number(1)).to_the_end = true,
                    "got" => {
                        let (stream, count) = (number(2), number(3));
                        this.life(process, number(1)).got.entry(stream).or_default().push(count);
                        let from = this.streams.entry(stream).or_default();
                        if from.from.is_empty() {
                            from.from = words[4].into();
                        }
                        assert_eq!(from.from, words[4], "the sender of {stream}");
                    }
                    "stream" => {
                        let stream = this.streams.entry(number(1)).or_default();
                        stream.to = words[2].into();
                        assert!(stream.from.is_empty() || stream.from == name);
                        stream.from.clone_from(&name);
                    }
                    "failed" if number(1) == 0 => {}
                    what => {
                        let stream = this.streams.entry(number(1)).or_default();
                        match what {
                            "try" => drop(stream.tried.insert(number(2))),
                            "sent" => drop(stream.sent.insert(number(2))),
                            "failed" => drop(stream.failed.insert(number(2))),
                            "reached" => {
                                stream.reached.insert(number(2), number(3) as usize);
                            }
                            _ => panic!("{line}"),
                        }
                    }
                }
            }
        }
        this
    }

    fn life(&mut self, process: u32, life: u32) -> &mut Life {
        self.lives.get_mut(&(process, life)).expect("joined before")
    }

    fn check(&self) -> String {
        let mut received: HashMap<(u32, u32), usize> = HashMap::new();
        for (which, life) in &self.lives {
            for (number, got) in &life.got {
                let stream = &self.streams[number];
                let what = || {
                    format!("stream {number} from {} to {}, life {which:?}", stream.from, life.name)
                };
                assert!(stream.to == life.name || stream.to == "*", "{}", what());
                assert!(got.is_sorted_by(|one, next| one < next), "{}: {got:?}", what());
                for message in got {
                    *received.entry((*number, *message)).or_default() += 1;
                    assert!(stream.tried.contains(message), "{}: {message}", what());
                    assert!(!stream.failed.contains(message), "{}: {message} had failed", what());
                }
                if stream.to == "*" {
                    continue;
                }
                for pair in got.windows(2) {
                    let missing = (pair[0] + 1..pair[1]).find(|m| !stream.failed.contains(m));
                    assert_eq!(missing, None, "{} has a gap", what());
                }
                if life.to_the_end {
                    let last = got[got.len() - 1];
                    let missing = stream.sent.iter().find(|m| **m > last);
                    assert_eq!(missing, None, "{} has no end", what());
                }
            }
        }
        for ((stream, message), times) in &received {
            match self.streams[stream].reached.get(message) {
                Some(reached) => {
                    assert!(times <= reached, "{message} of {stream}: {times} {reached}")
                }
                None => assert!(
                    self.streams[stream].to == "*" || *times == 1,
                    "{message} of {stream}: {times}"
                ),
            }
        }
        let mut steady = 0;
        for (number, stream) in &self.streams {
            if !STEADY.contains(&&*stream.to) {
                continue;
            }
            for message in &stream.sent {
                let times = received.get(&(*number, *message));
                assert_eq!(times, Some(&1), "{message} of stream {number} to {}", stream.to);
                steady += 1;
            }
        }
        for life in self.lives.values().filter(|life| STEADY.contains(&&*life.name)) {
            assert!(life.to_the_end, "it lives once, and to the end");
        }
        let sent: usize = self.streams.values().map(|stream| stream.sent.len()).sum();
        let failed: usize = self.streams.values().map(|stream| stream.failed.len()).sum();
        assert!(steady > 0 && received.len() > steady, "too little was done");
        format!(
            "{} lives, {} streams, {sent} sent ({steady} to those that stay), {failed} failed, {} received",
            self.lives.len(),
            self.streams.len(),
            received.len()
        )
    }
}
