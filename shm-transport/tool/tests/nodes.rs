//! `shm list`, `shm inspect` and `shm clean` where nodes are at work.

mod common;

use common::{Place, await_that};
use serde_json::Value;
use shm_transport::config::Full;
use shm_transport::node::Node;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn node(place: &Place, name: &str) -> Node {
    Node::builder(name).in_domain(place.domain.clone()).join().unwrap()
}

fn part<'v>(found: &'v Value, kind: &str) -> &'v Value {
    let parts = found["parts"].as_array().unwrap();
    &parts.iter().find(|part| part["kind"] == kind).unwrap_or_else(|| panic!("{kind}"))["facts"]
}

#[test]
fn what_waits_in_a_lane_is_seen() {
    let place = Place::new();
    let mut screen = place.start("screen", &["recv", "screen"]);
    screen.signal(rustix::process::Signal::STOP);
    let camera = node(&place, "camera/left");
    for _ in 0..3 {
        camera.send("screen", &[0; 92]).unwrap();
    }
    let found = place.shm(&["inspect", "node.screen", "--json"]).with(0).json();
    assert_eq!(found["owner"]["name"], "screen");
    assert_eq!(found["owner"]["state"], "alive");
    let lanes = part(&found, "lane area");
    assert_eq!((&lanes["taken"], &lanes["senders"][0]["frames"]), (&1.into(), &3.into()));
    assert_eq!(lanes["senders"][0]["from"], "camera/left");
    // 8 bytes before each message.
    assert_eq!(lanes["senders"][0]["bytes"], 300);
    assert_eq!(part(&found, "slot table")["held"], 1);
    assert_eq!(part(&found, "ready bitmap")["ready"], 1);
    // A slash is no part of a file's name.
    let found = place.shm(&["inspect", "node.camera%sleft", "--json"]).with(0).json();
    assert_eq!(part(&found, "counters")["messages_sent"], 3);
    assert_eq!(part(&found, "counters")["bytes_sent"], 276);
    screen.signal(rustix::process::Signal::CONT);
    await_that(|| {
        let found = place.shm(&["inspect", "node.screen", "--json"]).with(0).json();
        part(&found, "lane area")["senders"][0]["frames"] == 0
    });
}

/// What was not looked at is not judged.
#[test]
fn a_limit_is_kept() {
    let place = Place::new();
    let mut screen = place.start("screen", &["recv", "screen"]);
    screen.signal(rustix::process::Signal::STOP);
    node(&place, "camera").send("screen", &[0; 92]).unwrap();
    assert!(
        place.shm(&["inspect", "node.screen", "--limit", "0"]).with(1).err.contains("with zeros")
    );
    // The header's page; of the lane there are at least two more.
    let found = place.shm(&["inspect", "node.screen", "--json", "--limit", "4096"]).with(0).json();
    assert!(found["left_out"].as_u64().unwrap() >= 8192, "{found}");
    assert_eq!(part(&found, "lane area")["left_out"], "not looked at: see --limit");
    let found = place.shm(&["inspect", "node.screen", "--json"]).with(0).json();
    assert_eq!(part(&found, "lane area")["senders"][0]["frames"], 1);
    let text = place.shm(&["inspect", "node.screen", "--limit", "4096"]).with(0).out;
    assert!(text.contains("were not looked at") && text.contains("see --limit"), "{text}");
}

/// A lane overwritten is found in a node that is alive, and one that is dead.
#[test]
fn damage_in_a_lane_is_found() {
    let place = Place::new();
    let mut screen = place.start("screen", &["recv", "screen"]);
    screen.signal(rustix::process::Signal::STOP);
    node(&place, "camera").send("screen", &[0; 92]).unwrap();
    let found = place.shm(&["inspect", "node.screen", "--json"]).with(0).json();
    let parts = found["parts"].as_array().unwrap();
    let area = parts.iter().find(|part| part["kind"] == "lane area").unwrap();
    let at = area["offset"].as_u64().unwrap() + 4096;
    let file = std::fs::OpenOptions::new().write(true).open(place.path("node.screen")).unwrap();
    file.write_all_at(&3u32.to_le_bytes(), at).unwrap();
    for _ in 0..2 {
        let done = place.shm(&["inspect", "node.screen"]).with(3);
        assert!(done.out.contains("lane 0: corrupt: frame length"), "{done:?}");
        screen.signal(rustix::process::Signal::KILL);
    }
}

#[test]
fn a_pool_is_seen_and_goes_when_it_is_read() {
    let place = Place::new();
    let mut screen = place.start("screen", &["recv", "screen", "--raw", "-n", "1"]);
    screen.signal(rustix::process::Signal::STOP);
    let camera = node(&place, "camera");
    camera.send("screen", &[b'x'; 200_000]).unwrap();
    let listed = place.shm(&["list", "--json"]).with(0).json();
    let segments = listed["domains"][0]["segments"].as_array().unwrap();
    let pool = segments.iter().find(|segment| segment["kind"] == "POOL").unwrap();
    let name = pool["name"].as_str().unwrap();
    let found = place.shm(&["inspect", name, "--json"]).with(0).json();
    assert_eq!(found["owner"]["name"], "camera");
    let receivers = &part(&found, "chunk marks")["receivers"];
    assert_eq!(receivers[0]["held"], 1, "{found}");
    assert_eq!(part(&found, "chunk pool")["connected"], 1);
    assert!(part(&found, "chunk pool")["classes"].as_array().unwrap().len() > 1);
    screen.signal(rustix::process::Signal::CONT);
    // The message is in its pool until it is read; then there is nobody left.
    use std::io::Read;
    let mut out = Vec::new();
    screen.child().stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), 200_000);
    screen.done().with(0);
}

struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looked at while everything changes: what seems wrong for a moment is not said.
#[test]
fn what_is_at_work_is_sound() {
    let place = Place::new();
    let (camera, screen) =
        (node(&place, "camera"), place.start("screen", &["recv", "screen", "--raw"]));
    let mut screen = screen;
    let mut out = screen.child().stdout.take().unwrap();
    let reading = thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also if something below fails.
        let stopping = Stopping(&stop);
        scope.spawn(|| {
            // For as long as it takes: who reads may be slow.
            let patient = Full::Block(Duration::from_secs(60));
            let mut sender = camera.sender("screen").unwrap().full(patient);
            let mut size = 0;
            while !stop.load(Ordering::Relaxed) {
                size = (size * 7 + 13) % 3000;
                sender.send(&vec![1; size]).unwrap();
            }
        });
        for _ in 0..20 {
            for segment in ["node.screen", "registry", "members"] {
                place.shm(&["inspect", segment]).with(0);
            }
            place.shm(&["list"]).with(0);
        }
        drop(stopping);
    });
    drop(screen);
    let _ = reading.join().unwrap();
}

#[test]
fn killed_nodes_are_put_away_and_the_living_stay() {
    let place = Place::new();
    let survivor = node(&place, "survivor");
    let victims: Vec<_> = ["one", "two"].map(|name| place.start(name, &["recv", name])).into();
    drop(victims);
    // The survivor may have put away one already; whoever does, they are gone.
    place.shm(&["clean", "--yes"]).with(0);
    await_that(|| {
        let found = place.shm(&["list", "--json"]).with(0).json();
        found["domains"][0]["nodes"].as_array().unwrap().len() == 1
            && found["domains"][0]["segments"].as_array().unwrap().len() == 3
    });
    let found = place.shm(&["list", "--json"]).with(0).json();
    assert_eq!(found["domains"][0]["nodes"][0]["name"], "survivor");
    assert_eq!(found["domains"][0]["nodes"][0]["state"], "alive");
    assert!(survivor.is_joined());
}

/// Showing what would be done does nothing, and joins nothing.
#[test]
fn a_dry_run_changes_nothing() {
    let place = Place::new();
    let victim = place.start("victim", &["recv", "victim"]);
    drop(victim);
    let names = || {
        let segments = place.domain.segments().unwrap();
        let mut names: Vec<_> = segments.map(|name| name.unwrap()).collect();
        names.sort();
        names
    };
    let bytes = || -> Vec<_> {
        names().iter().map(|name| std::fs::read(place.domain.path_of(name)).unwrap()).collect()
    };
    let (before, contents) = (names(), bytes());
    let done = place.shm(&["clean"]).with(0);
    assert_eq!(done.out.matches("to be removed").count(), 3, "{done:?}");
    place.shm(&["list"]).with(0);
    place.shm(&["inspect", "node.victim"]).with(0);
    place.shm(&["metrics"]).with(0);
    assert!(names() == before && bytes() == contents);
    place.shm(&["clean", "--yes"]).with(0);
    assert_eq!(names(), []);
}

/// Whatever stands in the files of a domain, each command that looks at them ends, and without a
/// panic.
#[test]
fn any_words_are_looked_at() {
    let place = Place::new();
    let mut screen = place.start("screen", &["recv", "screen"]);
    screen.signal(rustix::process::Signal::STOP);
    let camera = node(&place, "camera");
    camera.send("screen", &[0; 92]).unwrap();
    camera.send("screen", &[0; 100_000]).unwrap();
    // The same in a directory apart, where nobody is disturbed.
    let apart = Place::apart();
    let mut files = Vec::new();
    for name in place.domain.segments().unwrap() {
        let name = name.unwrap();
        let copy = apart.domain.path_of(&name);
        let mut cp = std::process::Command::new("cp");
        cp.arg("--sparse=always").arg(place.domain.path_of(&name)).arg(&copy);
        assert!(cp.status().unwrap().success());
        files.push((name.as_str().to_owned(), copy));
    }
    assert_eq!(files.len(), 5, "members, registry, two nodes, a pool");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for (name, path) in &files {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        for round in 0..8 {
            // Of the header and the table of parts, or of the parts behind them.
            let range = if round % 2 == 0 { 256 } else { length.min(64 << 10) };
            let mut before = Vec::new();
            for _ in 0..1 + next() % 4 {
                let at = next() % range / 4 * 4;
                let mut word = [0; 4];
                file.read_exact_at(&mut word, at).unwrap();
                before.push((at, word));
                let value = match next() % 4 {
                    0 => 0,
                    1 => u32::MAX,
                    2 => 1 << (next() % 32),
                    _ => next() as u32,
                };
                file.write_all_at(&value.to_le_bytes(), at).unwrap();
            }
            let inspect = ["inspect", name.as_str()];
            let top = ["top", "-n", "1", "-i", "0"];
            for arguments in [&inspect[..], &["list"], &["metrics"], &["clean"], &top] {
                let done = apart.shm(arguments);
                assert!(matches!(done.code, 0 | 1 | 3), "{name} {before:?}: {done:?}");
                assert!(!done.err.contains("panic"), "{name} {before:?}: {done:?}");
            }
            for (at, word) in before.into_iter().rev() {
                file.write_all_at(&word, at).unwrap();
            }
        }
    }
}
