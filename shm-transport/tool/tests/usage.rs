//! The command line itself.

mod common;

use common::{Place, program, run, shm};
use std::io::Read;
use std::process::Stdio;

#[test]
fn wrong_use_is_2_and_says_what_is_meant() {
    let done = shm(&[]).with(2);
    assert!(done.err.contains("Usage: shm"), "{done:?}");
    let done = shm(&["lisst"]).with(2);
    assert!(done.err.contains("'list'"), "a suggestion: {done:?}");
    for bad in ["", "a.b", "a/b", &"x".repeat(65)] {
        let done = shm(&["list", "--domain", bad]).with(2);
        assert!(done.err.contains("the name"), "{done:?}");
    }
    shm(&["completions", "cmd"]).with(2);
    shm(&["list", "--group", "many"]).with(2);
}

#[test]
fn a_wrong_domain_in_the_environment_is_an_error() {
    let done = run(program().args(["clean"]).env("SHM_DOMAIN", "a.b")).with(1);
    assert!(done.err.contains("SHM_DOMAIN"), "{done:?}");
    assert!(done.out.is_empty());
}

#[test]
fn help_has_the_exit_codes() {
    let done = shm(&["--help"]).with(0);
    for text in ["Exit codes:", "SHM_DOMAIN", "doctor", "inspect"] {
        assert!(done.out.contains(text), "{text}");
    }
    assert!(shm(&["--version"]).with(0).out.starts_with("shm "));
}

#[test]
fn manual_and_completions() {
    let page = shm(&["man"]).with(0).out;
    assert!(page.contains(".TH shm 1") && page.contains(".SH SYNOPSIS"));
    for (shell, text) in
        [("bash", "complete -F _shm"), ("zsh", "#compdef shm"), ("fish", "complete -c shm")]
    {
        assert!(shm(&["completions", shell]).with(0).out.contains(text), "{shell}");
    }
    let place = Place::apart();
    let directory = place.directory();
    shm(&["man", "--into", directory]).with(0);
    for page in ["shm.1", "shm-list.1", "shm-doctor.1", "shm-dlq-redrive.1"] {
        assert!(std::path::Path::new(directory).join(page).is_file(), "{page}");
    }
    let done = shm(&["man", "--into", "/nowhere/at/all"]).with(1);
    assert!(done.err.contains("name a directory that exists"), "{done:?}");
}

/// What the program says to itself, to start another of its processes, is offered to nobody.
#[test]
fn nothing_hidden_is_offered() {
    let place = Place::apart();
    shm(&["man", "--into", place.directory()]).with(0);
    let mut texts = vec![shm(&["--help"]).out, shm(&["man"]).out];
    for page in std::fs::read_dir(place.directory()).unwrap() {
        let page = page.unwrap().path();
        assert!(!page.ends_with("shm-demo-part.1"), "a page of a hidden command");
        texts.push(std::fs::read_to_string(page).unwrap());
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        texts.push(shm(&["completions", shell]).with(0).out);
    }
    assert!(texts.len() > 20, "pages are missing");
    for text in texts {
        let text = text.replace('\\', "");
        for hidden in ["backstage", "janitor", "actor", "--parent", "--peer", "-l peer"] {
            assert!(!text.contains(hidden), "{hidden} in: {text}");
        }
    }
}

/// Whoever reads may have had enough: no panic, no error.
#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [
        &["man"][..],
        &["completions", "bash"],
        &["list"],
        &["doctor"],
        &["doctor", "--json"],
        &["--help"],
    ] {
        let mut child = program()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Before the program has written anything, or soon after.
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let escape = '\u{1b}';
    let plain = run(program().args(["doctor"]));
    assert!(!plain.out.contains(escape), "not a terminal");
    let coloured = run(program().args(["doctor", "--color", "always"]));
    assert!(coloured.out.contains(escape));
    let json = run(program().args(["doctor", "--color", "always", "--json"]));
    assert!(!json.out.contains(escape), "JSON has none");
}

/// Settings are those of nodes: of the environment, and of the file that it names.
#[test]
fn settings_are_taken_from_where_nodes_take_them() {
    let place = Place::apart();
    let file = std::path::Path::new(place.directory()).join("settings.toml");
    let text = format!("directory = {:?}\ndomain = \"filed\"\n", place.directory());
    std::fs::write(&file, text).unwrap();
    let done = run(program().args(["clean"]).env("SHM_CONFIG", &file)).with(0);
    assert!(done.out.contains("domain filed: nothing there"), "{done:?}");
    let done = run(program().args(["list"]).env("SHM_DIRECTORY", place.directory())).with(0);
    assert!(done.out.contains(&format!("no segments in {}", place.directory())), "{done:?}");
    let arguments = ["clean", "--domain", "said"];
    let done = run(program().args(arguments).env("SHM_CONFIG", &file)).with(0);
    assert!(done.out.contains("domain said"), "the command line wins: {done:?}");
    std::fs::write(&file, "lanes = 3").unwrap();
    let done = run(program().args(["top"]).env("SHM_CONFIG", &file)).with(1);
    assert!(done.err.contains("settings.toml") && done.err.contains("lanes"), "{done:?}");
    let done = run(program().args(["doctor"]).env("SHM_CONFIG", &file)).with(3);
    assert!(done.out.contains("settings.toml"), "{done:?}");
}

/// Everything that can be told needs somewhere to be written to.
#[test]
fn a_full_disk_is_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: there is no /dev/full");
        return;
    };
    let done = run_into(full, &["man"]);
    assert_eq!(done.0, Some(1));
    assert!(done.1.contains("No space left"), "{done:?}");
}

fn run_into(file: std::fs::File, arguments: &[&str]) -> (Option<i32>, String) {
    let child = program().args(arguments).stdout(file).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
