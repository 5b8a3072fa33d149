//! Receiving: in place, by calls, by iteration, by a thread.

use super::error::RecvError;
use super::frame::Label;
use super::inbox::Inbox;
use super::message::{Message, Spare};
use super::shared::Shared;
use crate::park::FutexPark;
use parking_lot::MutexGuard;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::wake::Deadline;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a thread that cannot receive does nothing, before it looks whether it should stop.
const PAUSE: Duration = Duration::from_millis(10);

/// The receiving side of a node for one thread: nobody else receives while it is there.
///
/// Messages are read where they are, without a copy. Those of one sender come in the order in
/// which they were sent; between senders there is none.
pub struct Receiver<'n> {
    inbox: ManuallyDrop<MutexGuard<'n, ManuallyDrop<Inbox>>>,
    shared: &'n Shared,
}

impl<'n> Receiver<'n> {
    /// Waits while another thread receives; `None` if the node has left, also meanwhile.
    pub(super) fn new(shared: &'n Shared) -> Option<Self> {
        loop {
            // Nobody wakes those that wait for their turn when the node leaves.
            match Self::within(shared, PAUSE) {
                Ok(Some(receiver)) => return Some(receiver),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }

    /// The same, for no longer than that.
    pub(super) fn within(shared: &'n Shared, time: Duration) -> Result<Option<Self>, RecvError> {
        let inside = shared.inside().ok_or(RecvError::NotJoined)?;
        let Some(inbox) = shared.inbox.try_lock_for(time) else { return Ok(None) };
        inside.stay();
        Ok(Some(Self { inbox: ManuallyDrop::new(inbox), shared }))
    }

    /// The next message, if there is one. Does not block, allocate or make a system call.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]. Other messages may follow, but for `NotJoined`.
    #[inline]
    pub fn read(&mut self) -> Result<Option<Reading<'_>>, RecvError> {
        if self.inbox.read()? { Ok(Some(Reading { inbox: &mut self.inbox })) } else { Ok(None) }
    }

    /// The next message; waits for it, in the way the node was configured to.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read). `NotJoined` also if the node leaves meanwhile.
    pub fn read_wait(&mut self) -> Result<Reading<'_>, RecvError> {
        loop {
            if self.inbox.read_wait(Deadline::NEVER, || false)? {
                return Ok(Reading { inbox: &mut self.inbox });
            }
        }
    }

    /// The next message; waits for it for so long. `None` if there was none.
    ///
    /// # Errors
    ///
    /// As [`read_wait`](Self::read_wait).
    pub fn read_timeout(&mut self, timeout: Duration) -> Result<Option<Reading<'_>>, RecvError> {
        let deadline = Deadline::after(&FutexPark::new(), timeout);
        let found = self.inbox.read_wait(deadline, || false)?;
        Ok(found.then(|| Reading { inbox: &mut self.inbox }))
    }

    /// As [`read`](Self::read), for who does not call again soon.
    pub(super) fn read_once(&mut self) -> Result<Option<Reading<'_>>, RecvError> {
        let found = self.inbox.read_once()?;
        Ok(found.then(|| Reading { inbox: &mut self.inbox }))
    }

    /// The next message; waits for it until `stop` says so, and whoever makes it say so rings the
    /// node's bell.
    fn read_unless(&mut self, stop: impl Fn() -> bool) -> Result<Option<Reading<'_>>, RecvError> {
        let found = self.inbox.read_wait(Deadline::NEVER, stop)?;
        Ok(found.then(|| Reading { inbox: &mut self.inbox }))
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        if !self.shared.is_ours() {
            // A forked child's copy.
            return;
        }
        if self.shared.has_left() {
            self.inbox.forget_lanes();
        }
        // SAFETY: once, here. Before the node may go: that wants the lock.
        unsafe { ManuallyDrop::drop(&mut self.inbox) };
        self.shared.exit();
    }
}

impl fmt::Debug for Receiver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("node", self.shared).finish_non_exhaustive()
    }
}

/// A message that is read where it is: a slice of its bytes.
///
/// [`release`](Self::release) leaves it behind. Dropping it does not: the next read finds it
/// again.
pub struct Reading<'r> {
    inbox: &'r mut Inbox,
}

impl Reading<'_> {
    /// The node that sent it.
    #[must_use]
    pub fn sender(&self) -> &NodeId {
        self.inbox.sender()
    }

    /// What it is about.
    #[must_use]
    pub fn label(&self) -> Label {
        self.inbox.label()
    }

    /// Leaves it behind: its sender may use the memory again.
    #[inline]
    pub fn release(self) {
        self.inbox.release();
    }
}

impl Deref for Reading<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.inbox.bytes()
    }
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("sender", self.sender())
            .field("label", &self.label())
            .field("bytes", &self.len())
            .finish()
    }
}

/// Takes a message away as one's own.
pub(super) fn take(reading: Reading<'_>, spare: &Arc<Spare>) -> Message {
    let message = Message::new(*reading.sender(), reading.label(), &reading, spare);
    reading.release();
    message
}

/// A thread that receives; see [`Node::on_message`](super::Node::on_message). While it runs nobody
/// else receives. Dropping it stops the thread, and waits until it is done with the message in hand.
#[derive(Debug)]
#[must_use = "messages are received until this is dropped"]
pub struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Listener {
    pub(super) fn start(
        shared: &Arc<Shared>,
        mut each: impl FnMut(&Reading<'_>) + Send + 'static,
    ) -> Result<Self, RecvError> {
        if shared.has_left() || !shared.is_ours() {
            return Err(RecvError::NotJoined);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (stop, shared) = (Arc::clone(&stop), Arc::clone(shared));
            let builder = thread::Builder::new().name("shm-receive".into());
            builder.spawn(move || listen(&shared, &stop, &mut each)).map_err(RecvError::Thread)?
        };
        Ok(Self { stop, thread: Some(thread), shared: Arc::clone(shared) })
    }

    /// Waits until the node has left, or the function has panicked; true in the first case.
    pub fn join(mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }

    /// Whether the thread still receives: the node has not left, and the function not panicked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

fn listen(shared: &Shared, stop: &AtomicBool, each: &mut impl FnMut(&Reading<'_>)) {
    let stop = || stop.load(Ordering::Acquire);
    // Another may receive for long, even one that waits for this thread to stop.
    let mut receiver = loop {
        match Receiver::within(shared, PAUSE) {
            Ok(Some(receiver)) => break receiver,
            Ok(None) if !stop() => {}
            _ => return,
        }
    };
    while !stop() {
        match receiver.read_unless(stop) {
            Ok(Some(reading)) => {
                each(&reading);
                reading.release();
            }
            Ok(None) => {}
            Err(RecvError::NotJoined) => return,
            Err(error) => {
                tracing::error!(target: "shm_transport::node", node = %shared.id, %error, "not received");
                // What is wrong may be so for a while.
                thread::sleep(PAUSE);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.shared.is_ours() {
            // A forked child has no such thread.
            std::mem::forget(self.thread.take());
            return;
        }
        self.stop.store(true, Ordering::Release);
        self.shared.ring();
        let Some(thread) = self.thread.take() else { return };
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// The messages of a node, one after the other; see [`Node::iter`](super::Node::iter).
#[derive(Debug)]
pub struct Messages<'n> {
    pub(super) node: &'n super::Node,
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.node.recv() {
            Err(RecvError::NotJoined) => None,
            other => Some(other),
        }
    }
}
