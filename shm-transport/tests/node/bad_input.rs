//! Whatever is wrong with names, settings, files and file systems is said so, and leaves nothing.

use crate::child::Child;
use crate::help::{Place, builder, join, payload};
use crate::segment_help;
use shm_transport::config::{Config, ConfigError, Full};
use shm_transport::domain::Domain;
use shm_transport::node::{Filter, Label, Node, NodeError, NodeIdError, SendError, sweep};
use shm_transport::segment::SegmentError;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn names() {
    let place = Place::new();
    let here = join(&place, "here");
    let long = "x".repeat(65);
    let half = "ä".repeat(33);
    for (name, expected) in [
        ("", NodeIdError::Empty),
        (&*long, NodeIdError::TooLong { found: 65 }),
        (&*half, NodeIdError::TooLong { found: 66 }),
        ("a\0b", NodeIdError::Nul { at: 1 }),
        ("\0", NodeIdError::Nul { at: 0 }),
    ] {
        match builder(&place.domain, name).join() {
            Err(NodeError::Name(found)) => assert_eq!(found, expected, "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
        if name.is_empty() {
            // All others, when it is sent to.
            here.send(name, b"x").unwrap();
        } else {
            assert!(
                matches!(here.send(name, b"x"), Err(SendError::Name(found)) if found == expected)
            );
        }
        assert!(matches!(here.sender(name), Err(SendError::Name(found)) if found == expected));
        assert!(!here.is_local(name));
    }
    let longest = "x".repeat(64);
    let there = join(&place, &longest);
    here.send(&longest, b"x").unwrap();
    assert_eq!(there.recv().unwrap().len(), 1);
    drop((here, there));
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn settings() {
    let place = Place::new();
    type Change = fn(shm_transport::node::NodeBuilder) -> shm_transport::node::NodeBuilder;
    let changes: [(&str, Change); 10] = [
        ("nodes", |builder| builder.nodes(1)),
        ("nodes", |builder| builder.nodes(4097)),
        ("lane_bytes", |builder| builder.lane_bytes(0)),
        ("lane_bytes", |builder| builder.lane_bytes(5000)),
        ("lane_bytes", |builder| builder.lane_bytes(2048)),
        ("max_message_bytes", |builder| builder.max_message(0)),
        ("max_message_bytes", |builder| builder.max_message(1 << 31)),
        ("heartbeat_ms", |builder| builder.heartbeat(Duration::ZERO)),
        ("silent_after_ms", |builder| builder.silent_after(Duration::from_millis(1000))),
        ("lane_bytes", |builder| builder.nodes(4096).lane_bytes(1 << 30)),
    ];
    for (named, change) in changes {
        match change(builder(&place.domain, "node")).join() {
            Err(NodeError::Config(error)) => {
                assert!(error.to_string().contains(named), "{named}: {error}");
                assert!(matches!(
                    error,
                    ConfigError::Value { .. } | ConfigError::Contradiction { .. }
                ));
            }
            other => panic!("{named}: {other:?}"),
        }
    }
    let config = Config { domain: "a/b".into(), ..Config::default() };
    let found = Node::builder("node").config(config).join();
    assert!(matches!(found, Err(NodeError::Domain(_) | NodeError::Config(_))), "{found:?}");
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn no_directory() {
    let place = Place::new();
    let domain = Domain::new("test").unwrap().in_directory(place.directory.join("none"));
    let found = builder(&domain, "node").join().unwrap_err();
    assert!(matches!(found, NodeError::Member(_) | NodeError::Segment(_)), "{found}");
    assert!(found.to_string().contains("none"), "{found}");
    assert_eq!(sweep::sweep(&domain, false).unwrap(), []);
}

/// What is another's or of another version is said to be so, and stays.
#[test]
fn a_registry_that_is_none() {
    let place = Place::new();
    let path = place.path("registry");
    let page = vec![0x5a; 8192];
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("foreign", &|| fs::write(&path, &page).unwrap()),
        ("zero", &|| fs::write(&path, vec![0; 8192]).unwrap()),
        ("short", &|| fs::write(&path, b"short").unwrap()),
        ("empty", &|| fs::write(&path, b"").unwrap()),
        ("newer", &|| {
            drop(fs::read(&path));
        }),
    ];
    for (name, spoil) in spoil {
        if name == "newer" {
            fs::write(&path, newer("registry")).unwrap();
        } else {
            spoil();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let before = fs::read(&path).unwrap();
        let error = builder(&place.domain, "node").join().unwrap_err();
        match (&error, name) {
            (NodeError::Layout { path: found, .. }, "foreign" | "zero" | "newer") => {
                assert_eq!(*found, path)
            }
            (
                NodeError::Segment(
                    SegmentError::TooShort { .. } | SegmentError::NotWholePages { .. },
                ),
                "short" | "empty",
            ) => {}
            _ => panic!("{name}: {error:?}"),
        }
        assert!(error.to_string().contains("registry"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before, "{name}");
        assert_eq!(place.files().len(), 1, "{name}: {:?}", place.files());
        fs::remove_file(&path).unwrap();
    }
    // A mode that others could write by.
    fs::write(&path, &page).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = builder(&place.domain, "node").join().unwrap_err();
    assert!(matches!(error, NodeError::Segment(_)), "{error:?}");
    fs::remove_file(&path).unwrap();
    // A link elsewhere.
    let elsewhere = place.directory.join("elsewhere");
    fs::write(&elsewhere, &page).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let error = builder(&place.domain, "node").join().unwrap_err();
    assert!(matches!(error, NodeError::Segment(_)), "{error:?}");
    assert_eq!(fs::read(&elsewhere).unwrap(), page);
}

/// The bytes of a living node's segment, or of a registry, as a later version would have them.
fn newer(name: &str) -> Vec<u8> {
    let place = Place::new();
    let node = join(&place, "node");
    let mut bytes = fs::read(place.path(name)).unwrap();
    drop(node);
    // The version, and the oldest reader that is told to understand it.
    for at in [4, 16] {
        let version = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(version + 1000).to_le_bytes());
    }
    bytes
}

#[test]
fn a_node_that_is_none() {
    let place = Place::new();
    let here = join(&place, "here");
    let path = place.path("node.there");
    for name in ["foreign", "zero", "short", "newer", "truncated", "mode"] {
        let bytes = match name {
            "foreign" | "mode" => vec![0x5a; 8192],
            "zero" => vec![0; 8192],
            "short" => b"short".to_vec(),
            "newer" => newer("node.node"),
            _ => {
                let place = Place::new();
                let _node = join(&place, "node");
                fs::read(place.path("node.node")).unwrap()[..8192].to_vec()
            }
        };
        fs::write(&path, &bytes).unwrap();
        let mode = if name == "mode" { 0o666 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for error in [
            here.send("there", b"x").unwrap_err(),
            here.send("there", &[0; 100_000]).unwrap_err(),
            here.sender("there").unwrap_err(),
        ] {
            match (&error, name) {
                (SendError::Segment(_), "short" | "mode" | "truncated")
                | (SendError::Layout { .. }, _) => {}
                _ => panic!("{name}: {error:?}"),
            }
            assert!(error.to_string().contains("node.there"), "{error}");
        }
        let error = builder(&place.domain, "there").join().unwrap_err();
        match (&error, name) {
            (NodeError::Segment(_), "short" | "mode") | (NodeError::Layout { .. }, _) => {}
            // Its header says whose it is: nobody's that this domain knows, or a living one's.
            (NodeError::Taken { .. }, "newer" | "truncated") => {}
            _ => panic!("{name}: {error:?}"),
        }
        assert_eq!(here.broadcast(b"x").unwrap(), 0, "it is in no registry");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(here.stats().lanes_out, 0);
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

/// Strangers' files in the directory are nobody's business.
#[test]
fn strange_files_beside() {
    let place = Place::new();
    let own = [
        "something",
        "shm.0.test.other",
        "shm.0.test.node.",
        "shm.0.test.pool.x",
        "shm.0.test.node.%q",
    ];
    for name in own {
        fs::write(place.directory.join(name), b"strange").unwrap();
    }
    let here = builder(&place.domain, "here").heartbeat(Duration::from_millis(10)).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    here.send("there", &payload(1, 0, 100_000)).unwrap();
    child.expect("send there here 2 0 1 100000", "sent");
    crate::help::check(&here.recv().unwrap());
    child.kill();
    crate::help::soon("its pool is put away", || {
        assert!(here.try_recv().unwrap().is_none());
        place.files().iter().filter(|name| name.contains(".pool.")).count() == 2
    });
    crate::help::soon("the dead one is put away", || here.nodes().unwrap().len() == 1);
    crate::help::soon("with its file", || {
        !place.files().iter().any(|name| name.ends_with("there"))
    });
    drop(here);
    sweep::sweep(&place.domain, false).unwrap();
    let mut expected = own.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(place.files(), expected);
}

/// Somebody holds the lock of a node's file for longer than it waits when it leaves: its name comes
/// free all the same.
#[test]
fn leaving_while_the_file_is_locked() {
    let place = Place::new();
    let other =
        builder(&place.domain, "other").heartbeat(Duration::from_millis(20)).join().unwrap();
    let node = join(&place, "node");
    let file = fs::File::open(place.path("node.node")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
    let left = node.leave();
    assert!(matches!(left, Err(NodeError::Segment(SegmentError::Busy { .. }))), "{left:?}");
    let found = other.send("node", b"x");
    assert!(matches!(found, Err(SendError::Left { .. })), "{found:?}");
    drop(node);
    assert!(builder(&place.domain, "node").join().is_err(), "the file is there");
    unlock(file);
    let mut again = None;
    crate::help::soon("its name is free", || {
        again = builder(&place.domain, "node").join().ok();
        again.is_some()
    });
    let again = again.unwrap();
    other.send("node", b"x").unwrap();
    assert_eq!(again.recv().unwrap().len(), 1);

    // Its process ends before.
    let mut child = Child::joined(&place, "child", "");
    let file = fs::File::open(place.path("node.child")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
    child.expect("leave child", "Segment");
    child.end();
    unlock(file);
    drop((again, other));
    crate::help::leaves_nothing(&place);
}

/// Gives the lock back. Closing the file does that too, unless a fork has it, of another test.
fn unlock(file: fs::File) {
    rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
}

/// A full file system is an error of the call that takes memory, and of no later one.
#[test]
fn a_full_file_system() {
    const TEST: &str = "bad_input::a_full_file_system";
    if !segment_help::is_alone(TEST) {
        return segment_help::alone(TEST);
    }
    let place = Place::new();
    // SAFETY: changes the file systems of this process alone, which does nothing else.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        eprintln!("skipped: not root");
        return;
    }
    let private =
        rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).unwrap();
    let mut reached = [false; 5];
    for size in (4..300).step_by(24).chain((300..2400).step_by(150)) {
        let options = std::ffi::CString::new(format!("size={size}k")).unwrap();
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &place.directory, "tmpfs", none, &*options).unwrap();
        let stage = within(&place, size);
        reached[stage] = true;
        rustix::mount::unmount(&place.directory, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    assert_eq!(reached, [true; 5], "each way to be full was met");
}

/// How far it got in so much memory: 0 nobody joined, 1 one did, 2 two, 3 a lane was made, 4 and a
/// pool.
fn within(place: &Place, size: u32) -> usize {
    let no_space = |error: &dyn std::error::Error| {
        let text = error.to_string();
        assert!(text.contains("no room for"), "{size} KiB: {text}");
    };
    let few = |name: &str| builder(&place.domain, name).nodes(16).full(Full::Error).join();
    let here = match few("here") {
        Ok(node) => node,
        Err(error) => {
            no_space(&error);
            assert_eq!(place.files(), [""; 0], "{size} KiB: {error}");
            return 0;
        }
    };
    let mut child = Child::start(place);
    let said = child.ask("join there nodes=16");
    if said != "joined" {
        assert!(said.contains("no room for"), "{said}");
        assert_eq!(here.nodes().unwrap().len(), 1);
        child.end();
        drop(here);
        assert_eq!(place.files(), [""; 0]);
        return 1;
    }
    let sent = here.send("there", &payload(1, 0, 1000));
    let stage = match sent {
        Err(error) => {
            no_space(&error);
            assert_eq!(here.stats().lanes_out, 0);
            2
        }
        Ok(()) => match here.send("there", &payload(1, 1, 200_000)) {
            Err(error) => {
                no_space(&error);
                here.send("there", &payload(1, 1, 1000)).unwrap();
                child.expect("receive-all there 1 0 2", "received");
                3
            }
            Ok(()) => {
                child.expect("receive-all there 1 0 2", "received");
                4
            }
        },
    };
    child.end();
    drop(here);
    assert_eq!(place.files(), [""; 0], "{size} KiB, stage {stage}");
    stage
}

/// Descriptors run out at any moment of joining: nothing is left, and the next attempt succeeds.
#[test]
fn no_descriptors() {
    const TEST: &str = "bad_input::no_descriptors";
    if !segment_help::is_alone(TEST) {
        return segment_help::alone(TEST);
    }
    let place = Place::new();
    let mut failed = 0;
    let limit = rustix::process::Resource::Nofile;
    let before = rustix::process::getrlimit(limit);
    for free in 0.. {
        let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        let few = rustix::process::Rlimit { current: Some(used + free), maximum: before.maximum };
        rustix::process::setrlimit(limit, few).unwrap();
        let joined = builder(&place.domain, "node").join();
        rustix::process::setrlimit(limit, before).unwrap();
        match joined {
            Ok(node) => {
                node.leave().unwrap();
                drop(node);
                assert_eq!(place.files(), [""; 0]);
                break;
            }
            Err(error) => {
                failed += 1;
                assert_eq!(place.files(), [""; 0], "with {free} descriptors: {error}");
            }
        }
    }
    assert!(failed > 3, "{failed}");
}

/// Filters are of numbers alone: any is allowed.
#[test]
fn labels_of_any_number() {
    let place = Place::new();
    let here = builder(&place.domain, "here").filter(Filter::ALL.group(u32::MAX)).join().unwrap();
    let label = Label::new(u32::MAX, u32::MAX);
    here.send_labelled("here", label, b"x").unwrap();
    here.send_labelled("here", Label::new(0, u32::MAX), b"y").unwrap();
    let message = here.recv().unwrap();
    assert_eq!((message.label(), &*message), (label, &b"x"[..]));
    assert!(here.try_recv().unwrap().is_none());
}

/// A node whose file is locked holds up whoever connects to it, and nobody who sends to others.
#[test]
fn connecting_to_one_whose_file_is_locked() {
    let place = Place::new();
    let (here, other) = (join(&place, "here"), join(&place, "other"));
    let mut child = Child::joined(&place, "there", "");
    here.send("other", b"connected").unwrap();
    let file = fs::File::open(place.path("node.there")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(&*other.recv().unwrap(), b"connected");
    // Again if this thread did not come to it as long as the other one waited, which is a second.
    crate::help::soon("sending to the other does not wait", || {
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| here.send("there", b"x"));
            let shortly = Duration::from_millis(100);
            std::thread::sleep(shortly);
            here.try_send("other", b"meanwhile").unwrap();
            // Had it waited, the other one would be done now.
            std::thread::sleep(shortly);
            let still = !connecting.is_finished();
            let found = connecting.join().unwrap();
            let busy = matches!(found, Err(SendError::Segment(SegmentError::Busy { .. })));
            assert!(busy, "{found:?}");
            assert_eq!(&*other.recv().unwrap(), b"meanwhile");
            still
        })
    });
    unlock(file);
    here.send("there", &payload(1, 0, 100)).unwrap();
    child.expect("receive there 10000", "here 1 0 100");
}

/// A dead one's file is locked for longer than those wait who put away what it had: they come back
/// to it.
#[test]
fn a_dead_one_s_file_is_locked() {
    let place = Place::new();
    let here = builder(&place.domain, "here").heartbeat(Duration::from_millis(20)).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    here.send("there", b"x").unwrap();
    let file = fs::File::open(place.path("node.there")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    child.kill();
    // Longer than a lock is waited for.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(place.path("node.there").exists());
    unlock(file);
    crate::help::soon("it is put away", || !place.path("node.there").exists());
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

/// A dead one's place is free while its file is locked: the file goes later.
#[test]
fn joining_while_a_dead_one_s_file_is_locked() {
    let place = Place::new();
    let two = |name: &str| builder(&place.domain, name).nodes(2).join();
    let here = two("here").unwrap();
    let mut child = Child::joined(&place, "there", "");
    let file = fs::File::open(place.path("node.there")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    child.kill();
    let other = two("other").unwrap();
    here.send("other", b"x").unwrap();
    assert_eq!(other.recv().unwrap().len(), 1);
    assert!(place.path("node.there").exists());
    unlock(file);
    crate::help::soon("it is put away", || !place.path("node.there").exists());
}

/// Who looks after a node does not wait for a dead one's file that is locked: it goes on to give
/// heartbeats.
#[test]
fn heartbeats_while_a_dead_one_s_file_is_locked() {
    let place = Place::new();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = {
        let asked = std::sync::Arc::clone(&asked);
        // Each heartbeat asks it.
        move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    };
    let here = builder(&place.domain, "here").clock(clock).heartbeat(Duration::from_millis(10));
    let here = here.join().unwrap();
    let files = ["one", "two"].map(|name| {
        let mut child = Child::joined(&place, name, "");
        here.send(name, b"x").unwrap();
        let file = fs::File::open(place.path(&format!("node.{name}"))).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
        child.kill();
        crate::help::soon("its death is known", || {
            matches!(here.send(name, b"x"), Err(SendError::Dead { .. }))
        });
        file
    });
    std::thread::sleep(Duration::from_millis(100));
    let before = asked.load(std::sync::atomic::Ordering::Relaxed);
    // With a second of waiting in each there would be far fewer.
    crate::help::soon("many heartbeats", || {
        asked.load(std::sync::atomic::Ordering::Relaxed) > before + 300
    });
    assert!(place.path("node.one").exists() && place.path("node.two").exists());
    files.into_iter().for_each(unlock);
    crate::help::soon("they are put away", || place.files().len() == 3);
}
