//! `shm list`.

mod common;

use common::{Place, process as be_a_process, shm};
use std::os::unix::fs::PermissionsExt;

#[test]
fn process() {
    be_a_process();
}

#[test]
fn nothing_is_there() {
    let place = Place::apart();
    let done = shm(&["list", "--directory", place.directory()]).with(0);
    assert!(done.out.starts_with("no segments in "), "{done:?}");
    let done = place.shm(&["list"]).with(4);
    assert!(done.err.contains("there is no segment of domain \"apart\""), "{done:?}");
    let done = place.shm(&["list", "--json"]).with(4);
    assert_eq!(done.json()["domains"].as_array().unwrap().len(), 0);
    let done = shm(&["list", "--directory", "/nowhere"]).with(1);
    assert!(done.err.contains("mount a tmpfs there"), "{done:?}");
}

#[test]
fn members_and_segments_alive_and_dead() {
    let place = Place::new();
    let process = place.process();
    let (owner, pid) = (process.owner.clone(), process.pid());

    let found = place.shm(&["ls", "--json"]).with(0).json();
    let domain = &found["domains"][0];
    assert_eq!(domain["name"], place.domain.name());
    let segments = domain["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[0]["name"], "members");
    assert_eq!(segments[0]["kind"], "PROC");
    assert_eq!(segments[0]["owner"], serde_json::Value::Null, "nobody owns it");
    assert_eq!(segments[1]["name"], "ring");
    assert_eq!(segments[1]["kind"], "TEST");
    assert_eq!(segments[1]["owner"], *owner);
    assert_eq!(segments[1]["owner_state"], "alive");
    assert_eq!(segments[1]["state"], "ready");
    assert!(segments[1]["resident"].as_u64().unwrap() >= 4096);
    let members = domain["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["id"], *owner);
    assert_eq!(members[0]["name"], "victim");
    assert_eq!(members[0]["pid"], pid);
    assert_eq!(members[0]["state"], "alive");
    assert_eq!(members[0]["heartbeat"], 1);
    assert_eq!(members[0]["elsewhere"], false);

    let text = place.shm(&["list"]).with(0).out;
    assert!(text.contains(&format!("{owner} alive")), "{text}");
    process.kill();
    let text = place.shm(&["list"]).with(0).out;
    assert!(text.contains(&format!("{owner} dead")), "{text}");
    let found = place.shm(&["list", "--json"]).with(0).json();
    assert_eq!(found["domains"][0]["members"][0]["state"], "dead");
    assert_eq!(found["domains"][0]["segments"][1]["owner_state"], "dead");
}

/// Files that have such names and are something else.
#[test]
fn foreign_files_are_notes() {
    let place = Place::apart();
    std::fs::write(
        place.path("text"),
        "hello, this is no segment at all, but a text of 64 bytes and more",
    )
    .unwrap();
    std::fs::write(place.path("empty"), "").unwrap();
    std::fs::create_dir(place.path("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.path("link")).unwrap();
    std::fs::write(place.path("members"), vec![0; 4096]).unwrap();
    // Names that another program may give, and a terminal's commands.
    std::fs::write(place.path("\u{1b}[31mred"), "").unwrap();
    std::fs::write(std::path::Path::new(place.directory()).join("shm.x.y"), "").unwrap();
    let done = shm(&["list", "--directory", place.directory()]).with(0);
    assert!(!done.out.contains('\u{1b}'), "{done:?}");
    let arguments = ["list", "--color", "always", "--directory", place.directory()];
    let coloured = shm(&arguments).with(0).out;
    assert!(coloured.contains('\u{1b}') && !coloured.contains("\u{1b}[31mred"), "{coloured:?}");
    for text in ["foreign", "a symbolic link", "a directory", "is no segment", "begins with zeros"]
    {
        assert!(done.out.contains(text), "{text}: {done:?}");
    }
    assert!(!done.out.contains("root:"), "the link was not followed");
    let found = shm(&["list", "--directory", place.directory(), "--json"]).with(0).json();
    assert_eq!(found["domains"].as_array().unwrap().len(), 1);
    assert_eq!(found["domains"][0]["segments"].as_array().unwrap().len(), 6);
}

#[test]
fn domains_of_groups_and_of_others() {
    let place = Place::apart();
    let at = |name: &str| std::path::Path::new(place.directory()).join(name);
    std::fs::write(at("shm.g7.theirs.x"), "").unwrap();
    std::fs::write(at("shm.4242.theirs.x"), "").unwrap();
    let found = shm(&["list", "--directory", place.directory(), "--json"]).with(0).json();
    let domains = found["domains"].as_array().unwrap();
    let whose: Vec<_> = domains.iter().map(|domain| domain["whose"].as_str().unwrap()).collect();
    assert_eq!(whose, ["4242", "g7"]);
    let notes = domains[0]["notes"].to_string();
    assert!(notes.contains("nobody believes it"), "it is our file: {notes}");
    let group = ["list", "--directory", place.directory(), "--json", "--group", "7"];
    assert_eq!(shm(&group).with(0).json()["domains"].as_array().unwrap().len(), 1);
}

/// Looking takes no memory: holes stay holes.
#[test]
fn looking_changes_nothing() {
    use shm_transport::domain::SegmentName;
    use shm_transport::segment::{CreateOptions, Segment, SegmentError};
    let place = Place::new();
    let (segment, ()) = Segment::create(
        &place.domain,
        &SegmentName::new("sparse").unwrap(),
        CreateOptions::sparse(64 << 20, 4096),
        |_| Ok::<_, SegmentError>(()),
    )
    .unwrap();
    let before = segment.resident().unwrap();
    place.shm(&["list"]).with(0);
    place.shm(&["inspect", "sparse"]).with(1);
    assert_eq!(segment.resident().unwrap(), before);
}

#[test]
fn what_may_not_be_read_is_said() {
    let place = Place::new();
    let process = place.process();
    let path = place.path("ring");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let found = place.shm(&["list", "--json"]).with(0).json();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
    } else {
        assert!(found["domains"][0]["notes"].to_string().contains("may not be read"), "{found}");
        assert_eq!(found["domains"][0]["segments"][1]["state"], "unreadable");
    }
    process.kill();
}

/// Another user sees that there is something, and whose; he is nobody here.
#[test]
fn another_user_sees_names_alone() {
    let place = Place::new();
    let process = place.process();
    // Where another user may run it.
    let program = std::path::Path::new("/tmp").join(place.domain.name());
    std::fs::copy(env!("CARGO_BIN_EXE_shm"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args(["list", "--json", "--domain", place.domain.name()]);
    let done = command.output();
    std::fs::remove_file(&program).unwrap();
    match done {
        Ok(done) if done.status.success() => {
            let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
            let domain = &found["domains"][0];
            assert_eq!(domain["segments"][1]["state"], "unreadable", "{found}");
            assert_eq!(domain["notes"].as_array().unwrap().len(), 1, "said once: {found}");
        }
        _ => eprintln!("skipped: this user cannot be another"),
    }
    process.kill();
}
