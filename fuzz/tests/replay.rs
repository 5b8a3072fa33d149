//! Every input that a fuzzer found worth keeping, through the same bodies.

use std::fs;
use std::path::Path;

#[test]
fn corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, body) in fuzz::BODIES {
        let mut inputs: Vec<_> = fs::read_dir(corpora.join(target))
            .unwrap_or_else(|error| panic!("no corpus for {target}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {target} is empty");
        for input in inputs {
            let data = fs::read(&input).unwrap();
            let context = Context(&input);
            body(&data);
            std::mem::forget(context);
        }
    }
}

/// What holds for every input holds for these.
#[test]
fn edges() {
    for (_, body) in fuzz::BODIES {
        body(&[]);
        body(&[0]);
        body(&[0xff; 4096]);
        body(&[0; 4096]);
    }
}

/// Every corpus belongs to a body, every target to both.
#[test]
fn nothing_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut bodies: Vec<_> = fuzz::BODIES.iter().map(|(name, _)| *name).collect();
    bodies.sort();
    assert_eq!(names("fuzz_targets"), bodies);
    assert_eq!(names("corpus"), bodies);
}

/// Says which input failed.
struct Context<'a>(&'a Path);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        eprintln!("in: {}", self.0.display());
    }
}
