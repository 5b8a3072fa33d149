//! `shm clean`.

mod common;

use common::{Place, process as be_a_process};
use serde_json::Value;
use shm_primitives::identity::OwnerId;

#[test]
fn process() {
    be_a_process();
}

fn fate(cleaning: &Value, segment: &str) -> String {
    let items = cleaning["domains"][0]["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["segment"] == segment);
    item.unwrap_or_else(|| panic!("no {segment}: {cleaning}"))["fate"].as_str().unwrap().into()
}

#[test]
fn what_lives_stays() {
    let place = Place::new();
    let process = place.process();
    for arguments in [&["clean", "--json"][..], &["clean", "--json", "--yes"]] {
        let found = place.shm(arguments).with(0).json();
        assert_eq!((fate(&found, "ring"), fate(&found, "members")), ("kept".into(), "kept".into()));
    }
    assert!(place.path("ring").exists() && place.path("members").exists());
    // A process that does not answer lives too.
    let pid = rustix::process::Pid::from_raw(process.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    place.shm(&["clean", "--yes"]).with(0);
    assert!(place.path("ring").exists() && place.path("members").exists());
    process.kill();
}

#[test]
fn what_the_dead_left_is_shown_and_then_removed() {
    let place = Place::new();
    place.process().kill();
    let done = place.shm(&["clean"]).with(0);
    assert!(done.out.contains("to be removed"), "{done:?}");
    assert!(done.out.contains("remove them with --yes"), "{done:?}");
    assert!(place.path("ring").exists() && place.path("members").exists(), "only shown");
    let found = place.shm(&["clean", "--yes", "--json"]).with(0).json();
    assert_eq!(found["done"], true);
    let fates = (fate(&found, "ring"), fate(&found, "members"));
    assert_eq!(fates, ("removed".into(), "removed".into()));
    assert!(!place.path("ring").exists() && !place.path("members").exists());
    let done = place.shm(&["clean", "--yes"]).with(0);
    assert!(done.out.contains("nothing there"), "{done:?}");
}

#[test]
fn the_living_keep_the_members_of_the_dead() {
    let place = Place::new();
    let dead = place.process();
    let survivor = shm_transport::member::Member::join(&place.domain, "survivor").unwrap();
    dead.kill();
    let found = place.shm(&["clean", "--yes", "--json"]).with(0).json();
    assert_eq!(fate(&found, "ring"), "removed");
    assert_eq!(fate(&found, "members"), "kept");
    assert!(!place.path("ring").exists() && place.path("members").exists());
    drop(survivor);
}

/// An owner that nobody ever was, and a domain whose members are gone: nothing proves a death.
#[test]
fn without_proof_nothing_goes() {
    let place = Place::new();
    drop(place.make_ring(OwnerId::new(3, 9).unwrap()));
    let done = place.shm(&["clean", "--yes"]).with(0);
    assert!(done.out.contains("the domain has no members"), "{done:?}");
    assert!(place.path("ring").exists());
    let member = shm_transport::member::Member::join(&place.domain, "one").unwrap();
    let done = place.shm(&["clean", "--yes"]).with(0);
    assert!(done.out.contains("is no member of the domain"), "{done:?}");
    assert!(place.path("ring").exists());
    drop(member);
}

/// What names ids of the dead keeps their records: new members would be given the same ids.
#[test]
fn members_stay_while_others_do() {
    let place = Place::new();
    place.process().kill();
    std::fs::write(place.path("foreign"), "something").unwrap();
    let found = place.shm(&["clean", "--yes", "--json"]).with(0).json();
    assert_eq!(fate(&found, "ring"), "removed");
    assert_eq!(fate(&found, "foreign"), "kept");
    assert_eq!(fate(&found, "members"), "kept");
}

/// What cannot be removed is said, and the exit code says it too.
#[test]
fn what_cannot_be_removed_is_a_failure() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.process().kill();
    let rights = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(place.path("ring"), rights).unwrap();
    let done = place.shm(&["clean", "--yes", "--json"]).with(3);
    let found = done.json();
    assert_eq!(fate(&found, "ring"), "failed");
    assert_eq!(fate(&found, "members"), "kept", "its ids are still named");
    assert!(done.out.contains("mode 0644 instead of 0600"), "{done:?}");
}

#[test]
fn all_domains_of_a_directory() {
    let place = Place::apart();
    place.process().kill();
    let done = common::shm(&["clean", "--all", "--yes", "--directory", place.directory()]).with(0);
    assert!(done.out.contains("removed 2 segments"), "{done:?}");
    assert_eq!(std::fs::read_dir(place.directory()).unwrap().count(), 0);
    common::shm(&["clean", "--all", "--domain", "x"]).with(2);
}
