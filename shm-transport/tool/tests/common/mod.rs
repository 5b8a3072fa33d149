//! What the tests of the tool share: the program itself, domains of their own, and processes to be
//! killed.
#![allow(dead_code, reason = "each test uses a part of it")]

use serde_json::Value;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::Kind;
use shm_primitives::ring::frame;
use shm_primitives::segment::{self as layout, Magic, NewPart, PartId, Plan};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::member::Member;
use shm_transport::segment::{CreateOptions, Segment, SegmentError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the program did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the program ended with that code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// The program, to be given arguments.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shm"));
    command.env_remove("SHM_DOMAIN").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.stdin(Stdio::null());
    command
}

/// Runs the program.
pub fn shm(arguments: &[&str]) -> Done {
    run(program().args(arguments))
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Done {
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done {
        code: output.status.code().unwrap_or_else(|| panic!("{:?}", output.status)),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A domain that no other test has; its files go with it.
#[derive(Debug)]
pub struct Place {
    pub domain: Domain,
    directory: Option<PathBuf>,
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tool-{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Place {
    pub fn new() -> Self {
        Self { domain: Domain::new(&unique()).unwrap(), directory: None }
    }

    /// One in a directory of its own.
    pub fn apart() -> Self {
        let directory = Path::new(Domain::DIRECTORY).join(unique());
        std::fs::create_dir(&directory).unwrap();
        let domain = Domain::new("apart").unwrap().in_directory(&directory);
        Self { domain, directory: Some(directory) }
    }

    pub fn directory(&self) -> &str {
        self.domain.directory().to_str().unwrap()
    }

    /// All that is in the directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.domain.directory()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn path(&self, segment: &str) -> PathBuf {
        self.domain.path_of(&SegmentName::new(segment).unwrap())
    }

    /// Runs the program with this domain.
    pub fn shm(&self, arguments: &[&str]) -> Done {
        let domain = self.domain.name();
        let place = ["--directory", self.directory(), "--domain", domain];
        run(program().args(arguments).args(place))
    }

    /// Another process that has joined, and has a segment `ring` with three frames in its ring.
    pub fn process(&self) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process", "--nocapture"])
            .env("SHM_TOOL_TEST_PLACE", self.directory())
            .env("SHM_TOOL_TEST_DOMAIN", self.domain.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = |line: String| line.split_once("ready ").map(|(_, id)| id.to_owned());
        let owner = lines.find_map(|line| ready(line.unwrap())).expect("it is ready");
        Process { child, owner }
    }

    /// Makes the segment `ring`: a frame ring with three frames of 100 bytes.
    pub fn make_ring(&self, owner: OwnerId) -> Segment {
        make_ring(&self.domain, owner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let names: Vec<_> = self.domain.segments().into_iter().flatten().flatten().collect();
        for name in names {
            let _ = std::fs::remove_file(self.domain.path_of(&name));
        }
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

pub const RING: PartId = PartId { kind: Kind::FRAME_RING, role: 0 };
pub const OPTIONS: frame::Options = frame::Options::new(4096);

fn make_ring(domain: &Domain, owner: OwnerId) -> Segment {
    let parts = [NewPart::required(RING, OPTIONS.required_size().unwrap() as u64)];
    let plan = Plan::new(Magic(u32::from_be_bytes(*b"TEST")), 1, &parts);
    let size = plan.required_size().unwrap();
    let (segment, ()) = Segment::create(
        domain,
        &SegmentName::new("ring").unwrap(),
        CreateOptions::new(size),
        |segment| {
            // SAFETY: a segment that has no name yet.
            let creating = unsafe { layout::Segment::create(segment.region(), &plan, owner) };
            let creating = creating.unwrap();
            // SAFETY: as above; the part is the ring's alone.
            let ring =
                unsafe { frame::FrameRingRef::init_at(creating.part(RING).unwrap(), OPTIONS) };
            let mut writer = ring.unwrap().claim_writer(owner).unwrap();
            for _ in 0..3 {
                writer.push(&[7; 100]).unwrap();
            }
            // Its ends stay the owner's.
            std::mem::forget(writer);
            creating.publish().keep();
            Ok::<_, SegmentError>(())
        },
    )
    .unwrap();
    segment
}

impl Place {
    /// The program with this domain, to be started.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        let domain = self.domain.name();
        command.args(arguments).args(["--directory", self.directory(), "--domain", domain]);
        command
    }

    /// Starts it, with pipes, and waits until there is a node of that name.
    pub fn start(&self, node: &str, arguments: &[&str]) -> Program {
        let mut command = self.program(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = Program(Some(command.spawn().unwrap()));
        self.await_node(node);
        program
    }

    pub fn await_node(&self, node: &str) {
        await_that(|| {
            let found = self.shm(&["list", "--json"]);
            found.code == 0
                && found.json()["domains"][0]["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|found| found["name"] == node && found["state"] == "alive")
        });
    }
}

/// Waits for something that another process does.
#[track_caller]
pub fn await_that(mut so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed().as_secs() < 60, "it never was");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The program, started; killed when dropped.
#[derive(Debug)]
pub struct Program(Option<Child>);

impl Program {
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub fn signal(&mut self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn done(mut self) -> Done {
        let mut child = self.0.take().unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Done {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process of the test's, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its id in the domain, as the tool writes it.
    pub owner: String,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What such a process does; called by a test `process` of each file that has any.
pub fn process() {
    let Some(directory) = std::env::var_os("SHM_TOOL_TEST_PLACE") else { return };
    let domain = std::env::var("SHM_TOOL_TEST_DOMAIN").unwrap();
    let domain = Domain::new(&domain).unwrap().in_directory(directory);
    let member = Member::join(&domain, "victim").unwrap();
    member.beat();
    let id = member.id();
    let segment = make_ring(&domain, id);
    println!("ready {}-{}", id.index(), id.generation());
    std::io::stdout().flush().unwrap();
    // Until it is killed, or the test is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop((segment, member));
}
