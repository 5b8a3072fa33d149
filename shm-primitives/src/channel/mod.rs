//! A lane between a client and a worker: requests one way, replies the other, and what is
//! known when either dies.
//!
//! The data path is caller to worker: no third party passes messages on. A worker serves any
//! number of lanes; it has one [monitor](crate::monitor) for all of them, which says what it has
//! in hand.
//!
//! # Memory
//!
//! ```text
//! offset
//!      0   request ring     a frame ring: the client writes, the worker reads
//!      r   response ring    a frame ring: the worker writes, the client reads;
//!                           r = size of the request ring, up to a multiple of 64
//! ```
//!
//! Each is a part with a header of its own ([`ring::frame`](crate::ring::frame)); the channel
//! has none. The response ring's header has the channel's [limits](Limits) in its two extra words:
//! the most bytes of payload of a final reply, then of a progress reply. Where the second stands follows from the capacity in the first's header, which is
//! checked. The monitor lies elsewhere, with its worker.
//!
//! ```text
//! a request                          a reply
//! +0   16  message header            +0   16  message header: the request's sequence id and
//! +16      payload                            function, the length of this payload
//!                                    +16   4  u32 status: 1 progress, 2 completed, 3 failed
//!                                    +20      payload
//! ```
//!
//! All little-endian; see [`message`](crate::message) for the header.
//!
//! # Who writes what, in which order
//!
//! Every word belongs to one of the rings or to the monitor, whose modules say who writes it.
//!
//! Creating clears the request ring's magic, makes the response ring, then the request ring,
//! whose magic comes last and is the channel's: attachers look at it first.
//!
//! Claiming and recovering take the request ring's end, then the response ring's; giving back
//! goes the other way.
//!
//! A worker, for each request: **peek, monitor, run, reply, advance, monitor.**
//!
//! 1. [`peek`](Worker::peek) looks at the request, which stays where it is;
//! 2. [`begin`](Request::begin) notes in the monitor which request, in which lane, and at
//!    which position its replies will begin; a fence, so that nothing of what follows is seen
//!    before it;
//! 3. the caller runs the handler; progress replies, before each of which, and before the final
//!    reply after one, the position noted is brought up to date;
//! 4. the final [`reply`](Work::reply) is published;
//! 5. [`finish`](Work::finish) stores the position behind the request,
//! 6. and then the monitor's end.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | client | before a request's ready word | nothing of it |
//! | client | after it | the request is served; the reply stays for the [successor](WorkerChannel::recover_client) |
//! | client | before it has released a reply | the successor sees it again |
//! | worker | before the monitor's change in `begin` | the request; the successor serves it. [`Nothing`](Recovered::Nothing) |
//! | worker | then, before the final reply's ready word | [`Poison`](Recovered::Poison) |
//! | worker | then, before the request's position is stored | [`Answered`](Recovered::Answered): left behind by recovery, not run again; the client has the reply |
//! | worker | then, before the monitor's end | the monitor names a request that is not the head: `Nothing` |
//! | either | claiming or giving back, between its two ends | one end the dead one's, the other nobody's: `recover_*` takes both |
//! | recoverer | between its two ends | the request ring's end its own, the other still the first dead one's: see below |
//! | recoverer | before the poison was told of or skipped | the next recoverer finds the same poison |
//! | recoverer | then, before it was skipped | [`Answered`](Recovered::Answered), by the recoverer's [`Failed`](Poison::fail) |
//! | recoverer | between skip and reset | the monitor names a request that is not the head: `Nothing` |
//! | creator | before the last store | nobody can attach |
//!
//! Nothing published is lost. A request that was begun is never begun again, unless its worker
//! itself gave it back with [`give_back`](Work::give_back). A handler that panics is a death to the
//! lane: its request is poison, and the ends stay its owner's.
//!
//! **Two dead, one end each.** *B* died recovering from *A*: the request ring's end is *B*'s,
//! the response ring's *A*'s. `recover_*` from *B* takes the first, finds *A* at the second,
//! gives the first back and names *A*. `recover_*` from *A* then takes the first from nobody and
//! the second from *A*. So one who goes on with the id named in `NotTheOwner`, once that one is
//! proven dead, always arrives. Whichever it is recovered from, the monitor handed in is the
//! one that has not been reset since the lane was last served: it alone says what was in hand.
//!
//! # What is poison
//!
//! A request is poison if it is the lane's head, the monitor says *processing* with this sequence
//! id, this lane and this epoch, and no final reply of that id stands at or after the reply
//! position noted. The replies there are whole though the client may have read them: only the
//! writer's end overwrites them, and whoever recovers has that. There is at most one: each
//! reply is preceded by a note of its own position. A position that is impossible leaves it
//! open whether the call was answered; so does another epoch with the head's own sequence id, which
//! no two requests have in common. Then the replies say it that the client has not left behind yet.
//! If none of them is the final one, the client has read it before, or there is none: it counts as
//! [poison](Poison::doubt), because running twice is worse, and the client is told, perhaps a second
//! time.
//!
//! # Why a worker never waits for a client
//!
//! A client sends a request only if there is room in the response ring for the replies to it
//! and to every call outstanding, so the worker always finds room. With *F* and *P* the bytes of
//! the largest final and progress reply with all headers, rounded up to 8, *W* the most that the
//! ring's packing wastes behind a frame, *L* the larger of *F* and *P* and *C* the capacity, it
//! has at most
//!
//! ```text
//! n = (C - 8 - (L - 8)) / (F + P + 2 W)        rounded down
//! ```
//!
//! calls outstanding. A call is outstanding from its request until the client has released its
//! final reply. When the worker replies to a call, the frames in the ring that it does not know
//! to be released are replies to calls that were outstanding when that call was sent: those
//! before were released before it was sent, which the worker knows since it has seen the
//! request; those sent later were not begun, because requests are served in order. They are
//! *n* calls at the most with the one replied to, and of each there is at most one final
//! reply, and at most one progress reply, since a worker drops a report while the last one is
//! not released. So all frames with the new one are at most *n (F + P + 2 W)* bytes. Padding stands
//! before the end of the data only, is at most *L - 8* bytes, and there is one piece of it: were
//! there a second, the two ends of data would be *C* apart, and the frames between them
//! together with the new one larger than *C - (L - 8)*, which they are not. The word after the
//! last frame, which the ring keeps free, is 8 bytes. Together that is *C* at the most.
//!
//! A call that dies with its worker gets no final reply but [`fail`](Poison::fail)'s, whose room
//! is that of the reply it stands for: the request is left behind only after it, and so counts
//! until then. If nobody writes one, [`settle`](Client::settle) finds its
//! room again: it reads how far the requests were left behind, sees that no reply is there, and
//! what is outstanding then is exactly what was not left behind.
//!
//! # Trust
//!
//! Headers are copied once, then checked against the frame they stand in; what is no message
//! is [`Malformed`](ReceiveError::Malformed) and can be [discarded](Worker::discard_malformed).
//! Lengths and positions are the rings' matter and make a handle `Corrupt`. A monitor's record
//! may say anything: only one that names the head has an effect, and costs that head at the
//! most.
//!
//! A worker may serve clients that do not keep to the protocol, and write where it reads, as
//! long as it refers to nothing in place: it looks at payloads by
//! [`copy_payload`](Work::copy_payload), and replies by [`reply`](Work::reply),
//! [`progress`](Replier::progress) and [`ReplyGrant::copy_from`], in rings without checksums, which
//! are made of what lies there. Headers are copied in any case, those of replies by recovery too.
//! What it works on then is what it has copied, once, and a client spoils nothing but its own calls.
//! Slices of a [`Request`], [`Work::payload`], a [`ReplyGrant`] are references into the client's
//! memory, for those whose client keeps the protocol.
//!
//! The order *peek, monitor, run, reply, advance* is that of message brokers, made sound by the reply
//! position; the account of replies is this crate's.
//!
//! # Example
//!
//! ```
//! use shm_primitives::channel::{Lane, Options, WorkerChannel};
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::message::{MsgStatus, SeqIds};
//! use shm_primitives::monitor::{Group, ThreadMonitor};
//! use shm_primitives::region::Region;
//! use shm_primitives::ring::frame;
//!
//! #[repr(align(64))]
//! struct Lines([u8; 8192]);
//! let mut memory = Lines([0; 8192]); // or a mapping that others have too
//! let options = Options::new(frame::Options::new(2048), frame::Options::new(4096));
//! // SAFETY: nobody else knows this memory.
//! let channel = unsafe { WorkerChannel::init_at(Region::from_mut(&mut memory.0), options) }?;
//!
//! let mut client = channel.claim_client(OwnerId::new(0, 1).unwrap())?;
//! let mut ids = SeqIds::new(0, 1).unwrap();
//! client.request(ids.next().unwrap(), 1001, b"ping")?;
//!
//! // In another process:
//! let lane = Lane { group: Group::Normal, worker: 0, lane: 0, epoch: 1 };
//! let mut worker = channel.claim_worker(OwnerId::new(1, 1).unwrap(), lane)?;
//! let monitor = ThreadMonitor::new();
//! let mut monitor = monitor.writer();
//! let request = worker.peek()?;
//! let mut work = request.begin(&mut monitor, 0)?;
//! assert_eq!(work.payload(), b"ping");
//! work.reply(MsgStatus::Completed, b"pong")?;
//! work.finish()?;
//!
//! let response = client.response()?;
//! assert_eq!((response.status(), &*response), (MsgStatus::Completed, &b"pong"[..]));
//! response.release();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod layout;
mod recover;
mod reply;
mod wait;
mod worker;

pub use client::{Client, Replies, RequestError, RequestGrant, Requests, Response};
pub use layout::{Limits, Options, WorkerChannel};
pub use recover::{Letter, Poison, Recovered};
pub use worker::{Replier, ReplyError, ReplyGrant, Request, Unanswered, Work, Worker};

use crate::message::HeaderError;
use crate::monitor::Group;
use crate::ring::frame::{Frame, ReadError};
use crate::sync::sites;
use core::fmt;

sites! { SITES
    /// The note in the monitor that a request is begun, before anything that its handler
    /// does, for whoever looks after a crash: a fence.
    BEGUN = "channel.begun", Release, partner "latch.select",
        [Relaxed => Limit("what a handler does is outside the model, and what a crash leaves is what the memory held, not what a load may see: only the compiler could have moved a store of the handler before the note, and the fence forbids it that")];
}

/// Which lane a worker serves, and as whom: what the monitor is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// The worker's group.
    pub group: Group,
    /// The worker's place, at most
    /// [`MAX_WORKER`](crate::monitor::Transaction::MAX_WORKER).
    pub worker: u16,
    /// The lane: no other that this worker serves has the same number.
    pub lane: u16,
    /// Which of the connections that had this lane: raised each time the channel is created
    /// anew in its place.
    pub epoch: u32,
}

/// Why no message was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiveError {
    /// There is none.
    Empty,
    /// What is there is no message of this kind; it stays, and can be discarded.
    Malformed(HeaderError),
    /// A request was begun by this worker and neither answered nor given back: the lane is out of
    /// service until it is recovered.
    InHand,
    /// A length, a position or a checksum is wrong, and the handle is of no use any more.
    Corrupt,
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no message"),
            Self::Malformed(error) => write!(f, "not a message: {error}"),
            Self::InHand => f.write_str("a request was begun here and not answered; recover the lane"),
            Self::Corrupt => f.write_str("the ring is corrupt"),
        }
    }
}

impl core::error::Error for ReceiveError {}

fn received<'f, 'a>(
    result: Result<Frame<'f, 'a>, ReadError>,
) -> Result<Frame<'f, 'a>, ReceiveError> {
    result.map_err(|error| match error {
        ReadError::Empty => ReceiveError::Empty,
        // Too small is for buffers: there is none.
        ReadError::Corrupt | ReadError::TooSmall { .. } => ReceiveError::Corrupt,
    })
}
