//! The lanes of a client: one to each worker place, made at the first call that goes there.

use super::super::mapped::{BellsMapped, ClientMapped};
use super::error::CallError;
use crate::park::FutexPark;
use parking_lot::Mutex;
use shm_primitives::channel::{Replies, RequestError, Requests};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{Announcer, Shape};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A lane, as its client has it. What the sender writes and what the receiver writes stand in
/// different lines.
#[derive(Debug, Default)]
pub(super) struct Lane {
    sending: Sending,
    receiving: Receiving,
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct Sending {
    /// `None` before the first call goes there.
    ends: Mutex<Option<Sender>>,
    /// Calls sent, as the sender counts: less those finished they are outstanding.
    begun: AtomicU32,
    is_useless: AtomicBool,
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct Receiving {
    /// Final replies released: see [`Replies::finished`].
    finished: AtomicU32,
}

/// What sends requests: one thread at a time.
#[derive(Debug)]
pub(super) struct Sender {
    requests: Requests<'static>,
    announcer: Announcer<'static>,
}

/// Why a request did not get into a lane.
#[derive(Debug)]
pub(super) enum NotSent {
    /// There is no room now.
    Full,
    /// The lane makes no sense.
    Corrupt,
    /// There never will be room, or the lane could not be made.
    Error(CallError),
}

impl Lane {
    /// Calls outstanding, as far as one can see without a lock; `None` if the lane is of no use.
    #[inline]
    pub fn outstanding(&self) -> Option<u32> {
        if self.sending.is_useless.load(Ordering::Relaxed) {
            return None;
        }
        let begun = self.sending.begun.load(Ordering::Relaxed);
        let finished = self.receiving.finished.load(Ordering::Relaxed);
        Some(begun.wrapping_sub(finished).cast_signed().max(0).cast_unsigned())
    }

    /// No more calls go there.
    pub fn give_up(&self) {
        self.sending.is_useless.store(true, Ordering::Relaxed);
    }

    /// Sends a request, and rings if `ring`; `open` makes the lane, if there is none.
    #[inline]
    pub fn send(
        &self,
        seq: u64,
        function: u32,
        payload: &[u8],
        ring: bool,
        open: impl FnOnce() -> Result<(Sender, u32), CallError>,
    ) -> Result<(), NotSent> {
        let mut ends = self.sending.ends.lock();
        let sender = match &mut *ends {
            Some(sender) => sender,
            ends => {
                let (sender, finished) = open().map_err(NotSent::Error)?;
                self.receiving.finished.store(finished, Ordering::Release);
                ends.insert(sender)
            }
        };
        let finished = self.receiving.finished.load(Ordering::Acquire);
        match sender.requests.request(seq, function, payload, finished) {
            Ok(()) => {}
            Err(RequestError::Full | RequestError::Outstanding { .. }) => {
                return Err(NotSent::Full);
            }
            Err(RequestError::TooLarge { length: found, maximum: most }) => {
                return Err(NotSent::Error(CallError::TooLarge { found, most }));
            }
            Err(_) => return Err(NotSent::Corrupt),
        }
        self.note(sender, finished);
        if ring {
            sender.announcer.announce(&FutexPark::new());
        }
        Ok(())
    }

    /// Rings for requests that were sent without it.
    pub fn ring(&self) {
        if let Some(sender) = &mut *self.sending.ends.lock() {
            sender.announcer.announce(&FutexPark::new());
        }
    }

    #[inline]
    fn note(&self, sender: &Sender, finished: u32) {
        let outstanding = sender.requests.outstanding(finished);
        self.sending.begun.store(finished.wrapping_add(outstanding), Ordering::Relaxed);
    }

    /// Says how many final replies were released.
    #[inline]
    pub fn finished(&self, replies: &Replies<'static>) {
        let finished = replies.finished();
        if self.receiving.finished.load(Ordering::Relaxed) != finished {
            self.receiving.finished.store(finished, Ordering::Release);
        }
    }

    /// Counts anew what is outstanding: replies to calls whose worker died may never come.
    pub fn settle(&self, replies: &mut Replies<'static>) {
        if let Some(mut ends) = self.sending.ends.try_lock()
            && let Some(sender) = &mut *ends
        {
            sender.requests.settle(replies);
            self.note(sender, replies.finished());
        }
    }

    /// Gives the sender's end back, and tells the worker.
    pub fn close(&mut self) {
        if let Some(mut sender) = self.sending.ends.get_mut().take() {
            drop(sender.requests);
            sender.announcer.announce(&FutexPark::new());
        }
    }
}

/// What it takes to make a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening<'c> {
    pub own: &'c ClientMapped,
    pub bells: &'c BellsMapped,
    pub shape: &'c Shape,
    pub client: u32,
    pub owner: OwnerId,
}

impl Opening<'_> {
    /// Reserves memory for the lane to `place`, and takes this client's ends of it.
    ///
    /// # Safety
    ///
    /// Both halves are dropped, or forgotten, before the segments are.
    pub unsafe fn open(&self, place: u32) -> Result<(Sender, Replies<'static>), CallError> {
        let nobody = CallError::Corrupt { place };
        let Some(at) = self.shape.place(place) else { return Err(nobody) };
        self.own.allocate(self.shape, at)?;
        let Some(channel) = self.own.layout.channel(at) else { return Err(nobody) };
        let client =
            channel.claim_client(self.owner).map_err(|error| CallError::Lane { place, error })?;
        let (requests, replies) = client.split();
        let Some(announcer) = self.bells.layout.announcer(place, self.client) else {
            return Err(nobody);
        };
        Ok((Sender { requests, announcer }, replies))
    }
}
