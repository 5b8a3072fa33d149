//! The processes of the demonstration, as their director has them.
//!
//! Each is this program again. They end with it: the kernel kills them when it is gone, whatever it
//! died of. What lay in shared memory then is put away by one that outlives it, the janitor, in a
//! process group of its own, so that Ctrl-C does not reach it.

use super::options::Part;
use super::talk::{Order, PATIENCE, Told};
use crate::cli::{Global, Said};
use crate::commands::clean::remove_dead;
use crate::failure::Failure;
use clap::ValueEnum;
use rustix::io::{FdFlags, fcntl_setfd};
use shm_transport::domain::Domain;
use shm_transport::node::Node;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where the demonstration takes place, and who puts it away. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Stage {
    pub domain: Domain,
    program: PathBuf,
    place: Vec<OsString>,
    janitor: Option<Child>,
}

impl Stage {
    /// In a domain that nobody else has.
    pub fn set_up(global: &Global) -> Result<Self, Failure> {
        let name = match &global.domain {
            Some(name) => name.clone(),
            None => format!("demo-{}", std::process::id()),
        };
        let directory = global.directory()?;
        let mut domain = Domain::new(&name)?.in_directory(&directory);
        let mut place: Vec<OsString> = vec!["--domain".into(), name.clone().into()];
        place.extend(["--directory".into(), directory.into()]);
        if let Some(gid) = global.group {
            domain = domain.of_group(gid);
            place.extend(["--group".into(), gid.to_string().into()]);
        }
        if left_in(&domain)?.0 > 0 {
            return Err(Failure::because(format!(
                "the domain {name} is in use: the demonstration needs one of its own; name none, and it has"
            )));
        }
        let program = std::env::current_exe()
            .map_err(|error| Failure::because(format!("cannot find this program: {error}")))?;
        let mut stage = Self { domain, program, place, janitor: None };
        let mut janitor = stage.part(&Part::Janitor);
        janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let janitor = stage.janitor.insert(start(&mut janitor)?);
        // All others that are started have this end of its pipe too: it reads to the end when the
        // last of them is gone, and what they had falls to it.
        if let Some(stdin) = &janitor.stdin {
            fcntl_setfd(stdin, FdFlags::empty())?;
        }
        Ok(stage)
    }

    /// This program, for that part.
    pub fn part(&self, part: &Part) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(Said::BACKSTAGE).args(&self.place);
        command.args(["demo", "--parent", &std::process::id().to_string()]);
        match part {
            Part::Actor { name } => command.args(["actor", name]),
            Part::Servant => command.arg("servant"),
            Part::Janitor => command.arg("janitor"),
            Part::Peer { medium, task, bytes } => {
                command.args(["peer", &word(medium), &word(task), &bytes.to_string()])
            }
        };
        command
    }

    /// Starts a process that joins under that name; it has joined when this returns.
    pub fn enter(&self, name: &'static str) -> Result<Actor, Failure> {
        let mut command = self.part(&Part::Actor { name: name.into() });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut actor = Actor::start(name, &mut command, None)?;
        let Told::Joined { at, took } = actor.next(PATIENCE)? else { return Err(actor.confused()) };
        (actor.joined_at, actor.join_took) = (at, Duration::from_nanos(took));
        Ok(actor)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left if something failed.
        remove_dead(&self.domain);
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            // If it waits for somebody, it does so alone.
            let _ = ended(&mut janitor);
        }
    }
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Starts a process.
pub fn start(command: &mut Command) -> Result<Child, Failure> {
    let cannot = |error| Failure::because(format!("cannot start another process: {error}"));
    command.spawn().map_err(cannot)
}

/// How it ended; waits for that.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    None
}

/// How many segments a domain has, and the bytes of memory in them.
pub fn left_in(domain: &Domain) -> Result<(usize, u64), Failure> {
    use std::os::unix::fs::MetadataExt;
    let (mut segments, mut bytes) = (0, 0);
    let cannot =
        |error| Failure::because(format!("cannot read {}: {error}", domain.directory().display()));
    for name in domain.segments().map_err(cannot)? {
        let path = domain.path_of(&name.map_err(cannot)?);
        // One that is gone by now is none.
        let Ok(found) = std::fs::metadata(path) else { continue };
        segments += 1;
        bytes += found.blocks() * 512;
    }
    Ok((segments, bytes))
}

/// A process that does what it is told. Killed when dropped.
#[derive(Debug)]
pub struct Actor {
    pub name: &'static str,
    pub joined_at: u64,
    pub join_took: Duration,
    child: Child,
    orders: Option<ChildStdin>,
    told: mpsc::Receiver<Told>,
    listening: Option<JoinHandle<()>>,
}

impl Actor {
    /// Starts it; what it tells comes through a pipe at its standard output. When it is gone, `node`
    /// leaves, so that nobody waits for its messages.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        node: Option<Arc<Node>>,
    ) -> Result<Self, Failure> {
        let mut child = start(command)?;
        let orders = child.stdin.take();
        let (sender, told) = mpsc::channel();
        let listening = child.stdout.take().map(|stdout| {
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                let told = lines.map_while(|line| serde_json::from_str(&line).ok());
                let _ = told.into_iter().try_for_each(|told| sender.send(told));
                if let Some(node) = node {
                    let _ = node.leave();
                }
            })
        });
        let join_took = Duration::ZERO;
        Ok(Self { name, joined_at: 0, join_took, child, orders, told, listening })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it what to do.
    pub fn order(&mut self, order: &Order) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let written = self.orders.as_mut().map(|orders| orders.write_all(&line));
        // Not as an `io::Error`: a closed pipe is its death here.
        if matches!(written, Some(Ok(()))) { Ok(()) } else { Err(self.gone()) }
    }

    /// What it tells within a time; `None` if nothing.
    pub fn hear(&mut self, time: Duration) -> Result<Option<Told>, Failure> {
        match self.told.recv_timeout(time) {
            Ok(Told::Failed { error }) => Err(Failure::because(format!("{}: {error}", self.name))),
            Ok(told) => Ok(Some(told)),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    /// What it tells next; an error if it fails, is gone, or says nothing for so long.
    pub fn next(&mut self, patience: Duration) -> Result<Told, Failure> {
        self.hear(patience)?.ok_or_else(|| {
            let name = self.name;
            Failure::because(format!(
                "{name} has said nothing for {patience:?}: is the machine overloaded?"
            ))
        })
    }

    /// The last message that it says it has passed on, once `count` are.
    pub fn passed(&mut self, count: u64) -> Result<u64, Failure> {
        for _ in 1..count {
            let Told::Passed(_) = self.next(PATIENCE)? else { return Err(self.confused()) };
        }
        match self.next(PATIENCE)? {
            Told::Passed(number) => Ok(number),
            _ => Err(self.confused()),
        }
    }

    /// Kills it, with SIGKILL. What it has told before can still be heard.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|error| {
            Failure::because(format!("cannot kill process {}: {error}", self.pid()))
        })
    }

    /// The rest of what it told before it ended.
    pub fn last_words(&mut self) -> impl Iterator<Item = Told> {
        self.told.iter()
    }

    /// Has it leave, and waits for its end; whether it ended as it should.
    pub fn leave(mut self) -> Result<bool, Failure> {
        self.order(&Order::Leave)?;
        let Told::Left = self.next(PATIENCE)? else { return Err(self.confused()) };
        Ok(self.end())
    }

    /// Waits for its end; whether it ended as it should.
    pub fn end(mut self) -> bool {
        drop(self.orders.take());
        let well = ended(&mut self.child).is_some_and(|status| status.success());
        match self.listening.take() {
            Some(listening) if well => listening.join().is_ok(),
            _ => well,
        }
    }

    /// It said something else than it was asked for.
    pub fn confused(&self) -> Failure {
        Failure::because(format!("{} answers what nobody asked", self.name))
    }

    fn gone(&mut self) -> Failure {
        let name = self.name;
        let how = match ended(&mut self.child) {
            Some(status) => status.to_string(),
            None => "it closed its output".into(),
        };
        Failure::because(format!("the process of {name} ended before it was told to: {how}"))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
