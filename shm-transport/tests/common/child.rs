//! This test program again, as another process: a line in is an order, a line out its answer.

use crate::segment_help::again;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write, stdout};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// What answers begin with: everything else is the test harness's, which does not end its line
/// before the first answer.
const MARK: &str = ">> ";

/// A process of a test's, which is killed with it.
pub struct Child {
    pub process: std::process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Child {
    /// What starts the test of that name, in a process that answers; the environment says which
    /// part it plays.
    pub fn playing(test: &str) -> Command {
        again(test)
    }

    /// Starts what is to be such a process.
    pub fn of(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdin, stdout }
    }

    /// Tells it what to do. It may be dead: then it gives no answer.
    pub fn tell(&mut self, order: &str) {
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{order}");
    }

    /// What it says next; `None` if it has ended.
    pub fn hear_if_any(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, answer)) = line.split_once(MARK) {
                return Some(answer.trim_end().to_owned());
            }
        }
    }

    /// What it says next.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        self.hear_if_any().expect("the child has ended")
    }

    /// All that it said before its end, but for a line that it did not finish.
    pub fn hear_all(&mut self) -> Vec<String> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned())).collect()
    }

    /// Tells it what to do, and answers its answer.
    #[track_caller]
    pub fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.hear()
    }

    /// Asks, and fails unless this is the answer.
    #[track_caller]
    pub fn expect(&mut self, order: &str, answer: &str) {
        let found = self.ask(order);
        assert_eq!(found, answer, "{order}");
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: i32) {
        signal_to(self.pid(), signal);
    }

    /// Kills it and waits until it is reaped.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it end by itself, and fails unless it ends well.
    pub fn end(&mut self) {
        drop(self.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    /// Waits for its end, however it comes about.
    pub fn ended(mut self) -> ExitStatus {
        // Its input stays open until then: at the end of that it would leave.
        let stdin = self.stdin.take();
        let status = self.process.wait().unwrap();
        drop(stdin);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Before its input ends, at which it would leave.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer of such a process.
pub fn say(answer: impl Display) {
    let mut out = stdout().lock();
    writeln!(out, "{MARK}{answer}").unwrap();
    out.flush().unwrap();
}

/// Signal 0 looks whether the process is there.
#[track_caller]
pub fn signal_to(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    assert!(pid > 1, "{pid} would be others");
    // SAFETY: a system call without memory.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}
