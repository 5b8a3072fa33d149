//! A directory without room.

mod common;

use common::{Place, run};
use std::process::Command;

/// Runs the program where nothing but a small file system of its own is; `None` if there can be
/// none. The file system goes with the program.
fn on_small(place: &Place, before: &str, arguments: &str) -> Option<common::Done> {
    let directory = place.directory();
    let program = env!("CARGO_BIN_EXE_shm");
    let script = format!(
        "mount -t tmpfs -o size=64k,nr_inodes=16 tmpfs {directory} || exit 99
         {before}
         exec {program} {arguments} --directory {directory}"
    );
    let check = format!("mount -t tmpfs -o size=64k tmpfs {directory}");
    let permitted = Command::new("unshare").args(["--mount", "sh", "-c", &check]).status();
    if !permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a full file system, since mounting one is not permitted");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env_remove("SHM_DOMAIN");
    Some(run(&mut command))
}

#[test]
fn doctor_says_that_there_is_no_room() {
    let place = Place::apart();
    let Some(done) = on_small(&place, "", "doctor --json") else { return };
    let found = done.with(3).json();
    let checks = found["checks"].as_array().unwrap();
    let room = checks.iter().find(|check| check["name"] == "room").unwrap();
    assert_eq!(room["status"], "fail", "{room}");
    assert!(room["found"].as_str().unwrap().starts_with("64 KiB free of 64 KiB"), "{room}");
    assert!(room["advice"].as_str().unwrap().contains("remount,size=SIZE"), "{room}");

    let fill = format!("head -c 64k /dev/zero > {}/other", place.directory());
    let Some(done) = on_small(&place, &fill, "doctor --json") else { return };
    let found = done.with(3).json();
    let checks = found["checks"].as_array().unwrap();
    let made = checks.iter().find(|check| check["name"] == "segments").unwrap();
    assert_eq!(made["status"], "fail", "{made}");
    assert!(made["found"].as_str().unwrap().contains("no room for"), "{made}");
}

/// A node that has no room does not come to be, and says why.
#[test]
fn joining_without_room_is_an_error() {
    let place = Place::apart();
    for command in ["recv rx", "send rx x", "pipe --from end", "echo rx", "bench"] {
        let Some(done) = on_small(&place, "", command) else { return };
        let done = done.with(1);
        assert!(done.err.contains("no room for"), "{done:?}");
        assert!(done.err.contains("remove segments that nobody uses"), "{done:?}");
        assert!(done.out.is_empty(), "{done:?}");
    }
    let Some(done) = on_small(&place, "", "list") else { return };
    assert!(done.with(0).out.contains("no segments"));
}
