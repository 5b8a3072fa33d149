//! What the handle of a server and its thread have in common.

use super::error::ServerError;
use super::spawn::Program;
use crate::domain::Domain;
use crate::fork::{Process, this_process};
use crate::service::mapped::{BellsMapped, ControlMapped};
use crate::service::name::ServiceName;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::Shape;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

/// How an order to the thread was carried out.
pub(super) type Done = mpsc::Sender<Result<(), ServerError>>;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Stop {
        within: Duration,
        done: Done,
    },
    /// Ends the thread, and leaves everything as it is.
    Leave {
        done: Done,
    },
    /// Workers of that program, if one is given, in the place of those that there are.
    Roll {
        program: Option<Program>,
        done: Done,
    },
    /// Letters may go.
    Sweep,
}

/// What the thread says.
#[derive(Default, Debug)]
pub(super) struct View {
    /// Of each place.
    pub reasons: Vec<Option<String>>,
    pub is_stopping: bool,
    pub has_ended: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub service: ServiceName,
    pub domain: Domain,
    pub control: ControlMapped,
    pub bells: BellsMapped,
    /// The supervisor's id.
    pub owner: OwnerId,
    pub view: Mutex<View>,
    commands: Mutex<VecDeque<Command>>,
    news: OwnedFd,
    process: Process,
}

impl Shared {
    pub fn new(
        service: ServiceName,
        domain: Domain,
        control: ControlMapped,
        bells: BellsMapped,
        owner: OwnerId,
        news: OwnedFd,
    ) -> Self {
        let reasons = vec![None; control.layout.shape().workers() as usize];
        Self {
            service,
            domain,
            control,
            bells,
            owner,
            view: Mutex::new(View { reasons, ..View::default() }),
            commands: Mutex::default(),
            news,
            process: this_process(),
        }
    }

    /// What rings the thread, taken before anything that would have to be given back.
    pub fn news_fd() -> io::Result<OwnedFd> {
        Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    pub fn shape(&self) -> &Shape {
        self.control.layout.shape()
    }

    /// Whether this is the process that started the server, and not a child that it forked.
    pub fn is_ours(&self) -> bool {
        self.process == this_process()
    }

    /// Tells the thread; `Stopped` if there is none.
    pub fn tell(&self, command: Command) -> Result<(), ServerError> {
        let mut commands = self.commands.lock();
        // Under that lock, which the thread takes for its last look.
        if !self.is_ours() || self.view.lock().has_ended {
            return Err(ServerError::Stopped);
        }
        commands.push_back(command);
        drop(commands);
        self.ring();
        Ok(())
    }

    /// The next command.
    pub fn hear(&self) -> Option<Command> {
        self.commands.lock().pop_front()
    }

    /// No commands are taken any more; those that were not heard are dropped, and their senders
    /// learn of it.
    pub fn end(&self) {
        let mut commands = self.commands.lock();
        self.view.lock().has_ended = true;
        commands.clear();
    }

    /// There was a ring: what it was for is looked at next.
    pub fn quiet(&self) {
        let mut count = [0; 8];
        let _ = read(&self.news, &mut count);
    }

    fn ring(&self) {
        // A counter that is full is readable as well.
        let _ = write(&self.news, &1u64.to_ne_bytes());
    }
}
