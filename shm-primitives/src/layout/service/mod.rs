//! `SRVC` and `BELL`: the two segments of a service that all its processes have in common.
//!
//! A *service* has a supervisor, workers, and clients. Workers come and go at *places*, of two
//! groups: the normal ones come first, then the VIP ones. A group may have *spares*, places more
//! than it has workers: they stand behind its others, and which of its places are empty changes
//! with time. Clients come and go at places of their own. What a client asks and is answered goes through a segment of the client's, a
//! [`PHNX`](crate::layout::phoenix) one; the two segments here say who is there, how it is, and
//! whom to ring:
//!
//! | segment | owner | mapped by clients | what is in it |
//! |---|---|---|---|
//! | `SRVC`, [`ControlLayout`] | the supervisor | for reading | the service's shape, orders, workers, functions, monitors, counters |
//! | `BELL`, [`BellsLayout`] | the supervisor | for writing | bells, ready bits, client places, cancel words: time, never correctness |
//!
//! # Numbers
//!
//! Worker places are 0 to W − 1, client places 0 to C − 1; W is at most 16384, C at most 4096,
//! and W · C at most 65536. The lane from client *c* to worker place *p* is lane *p · C + c* of
//! that worker, in the epoch that is the client's tenancy: [`Shape::lane`]. It stands in the
//! client's segment, as that group's lane *p*, or *p* less the number of normal places:
//! [`Shape::place`].
//!
//! # Memory of `SRVC`
//!
//! A [`segment`](crate::segment), version 1. Its own two words are W and C.
//!
//! ```text
//! part               role
//! kind 12, required   0    the service: header, then a row of orders for each worker place
//! kind  3, required   0    the table of worker places, tag "WORK": slot p is place p's
//! kind  3, required   1    the table of functions, tag "FUNC"
//! kind 13, required   0    monitors: a line for each worker place
//! kind 11, required   0    counters: a line for each worker place, then the supervisor's
//!
//! the service's part
//! offset from its start
//!      0   magic            "SHMP"
//!      4   version          of this part's layout: 1; or 2, if there are spares
//!      8   kind             12
//!     12   layout           hash over the kind
//!     16   min_reader       the lowest version whose readers understand this part: the same
//!     20   clients          client places
//!     24   functions        slots of the table of functions
//!     28   rows             offset of the orders
//!     32   row_stride       bytes from one row to the next
//!     36   spares           places that each group with workers has beside those of its workers;
//!                           0 if min_reader is 1, whatever it says
//!     40   24  0
//!     64   normal group:    workers, messages, message_size, reply_size, progress_size,
//!                           as in crate::layout::phoenix
//!     84   VIP group:       the same
//!    104   24  0
//!    128   the rows of orders, 64 bytes each              (see crate::place)
//!
//! slot of a worker place: 4 live words, then the entry
//!          live 0  state    0 starting, 1 serving, 2 draining
//!          live 1  queued   what was waiting for it when it last looked
//!          live 2  beat     milliseconds, or a count
//!          live 3  0
//!          entry   incarnation, pid, started (low word, high word: milliseconds since 1970)
//!
//! slot of a function: no live words
//!          entry   func_id, flags (bit 0: idempotent), threshold in milliseconds, 0 for none
//!
//! counters of a place      0 processed   1 failed   2 busy nanoseconds   3 dropped progress replies
//! the supervisor's         0 crashes     1 poisoned   2 kills            3 dead letters lost
//! ```
//!
//! # Memory of `BELL`
//!
//! A [`segment`](crate::segment), version 1. Its own two words are W and C.
//!
//! ```text
//! part               role
//! kind  8, required   0    the bells of the worker places, a line each   (see crate::place)
//! kind  8, required   1    the bells of the client places, a line each
//! kind  9, required   0    ready bits: for each worker place a bit for each client, each place's
//!                          bits in whole lines of their own
//! kind  3, required   0    the table of client places, tag "CLNT": slot c is place c's
//! kind 14, required   0    cancel words: for each client a word for each worker place, each
//!                          client's in whole lines of their own
//!
//! slot of a client place: 1 live word, then the entry
//!          live 0  state    0 connected, 1 leaving
//!          entry   pid, 0, connected (low word, high word: milliseconds since 1970)
//! ```
//!
//! # Who writes what
//!
//! | what | who |
//! |---|---|
//! | the service's header | whoever creates the segment, once |
//! | orders, the table of functions, the supervisor's counters | the supervisor: the segment's owner |
//! | a worker place's slot, monitor, counters | the worker that has the slot; after its death the supervisor |
//! | a worker place's bell and sleepless word | the worker that has the slot |
//! | a server word | who takes the place's lanes up |
//! | a client place's slot, bell and cancel words | the client that has the slot; after its death the supervisor |
//! | ready bits | clients set, workers clear |
//!
//! In which order, and why, is said in [`place`](crate::place), [`table`](crate::table),
//! [`monitor`](crate::monitor) and [`counter`](crate::counter).
//!
//! # Crash
//!
//! | who dies | what is left, and who repairs it |
//! |---|---|
//! | who creates a segment | nothing that can be attached to, until the last store |
//! | the supervisor | everything as it is. Its successor takes the segments over by [`recover_control`](crate::segment::Segment::recover_control), the functions by [`SlotTable::recover`](crate::table::SlotTable::recover), and writes on in orders and counters |
//! | a worker | its slot, with who it was and what it said last; its monitor, with what it had in hand. The supervisor looks at that, recovers the lanes, then resets the monitor, then releases the slot |
//! | a client | its slot. The supervisor recovers it, and unlinks the client's segment before it releases the slot, so that no successor has the place before |
//! | who claims a worker place | a slot with no entry, or that of an incarnation that has passed: the next worker of the place finds it taken until the supervisor recovers it |
//!
//! # Trust
//!
//! Attaching checks the service's header, each table's header and that each part has room, once,
//! and keeps what it said. Whatever stands in the words after that costs an error, or time. No
//! function here needs `unsafe` but those that create.
//!
//! # Read-only
//!
//! [`ControlLayout::attach`], [`OrdersRow::read`], [`ThreadMonitor::snapshot`](crate::monitor::ThreadMonitor::snapshot),
//! reading a table and reading counters are loads alone. So clients map the control segment for
//! reading. There whatever claims, writes or makes a writer that stores ends the process, by the
//! system's SIGSEGV.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::layout::phoenix::GroupShape;
//! use shm_primitives::layout::service::*;
//! use shm_primitives::region::Region;
//! use shm_primitives::wake::SpinPark;
//!
//! const SHAPE: Shape = Shape::new(GroupShape::new(2, 16), GroupShape::new(1, 4)).clients(8);
//! #[repr(align(64))]
//! struct Lines<const N: usize>([u8; N]);
//! let mut control = Lines([0; SHAPE.control_size().unwrap()]);
//! let mut bells = Lines([0; SHAPE.bells_size().unwrap()]);
//! # let control_base = std::ptr::NonNull::from(&mut control.0).cast();
//! # let bells_base = std::ptr::NonNull::from(&mut bells.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let control = || unsafe { Region::new(control_base, SHAPE.control_size().unwrap()) };
//! # // SAFETY: as above.
//! # let bells = || unsafe { Region::new(bells_base, SHAPE.bells_size().unwrap()) };
//! let [supervisor, worker, client] = [0, 1, 2].map(|n| OwnerId::new(n, 1).unwrap());
//!
//! // The supervisor: place 1 is to run.
//! // SAFETY: nobody else creates anything in this memory.
//! let (mine, control_word) = unsafe { ControlLayout::init_at(control(), &SHAPE, supervisor) }?;
//! // SAFETY: as above.
//! let (_, _bells_word) = unsafe { BellsLayout::init_at(bells(), &SHAPE, supervisor) }?;
//! let mut writer = mine.orders_writer(1, &control_word).unwrap();
//! let orders = Orders { incarnation: 1, order: Order::Run, ..Orders::default() };
//! writer.write(&Orders { condition: Condition::Starting, ..orders });
//!
//! // The worker, in another process, which was told: place 1, incarnation 1.
//! let (theirs, rings) = (ControlLayout::attach(control())?, BellsLayout::attach(bells())?);
//! let mut slot = theirs.claim_worker(1, 1, worker)?;
//! slot.update(&WorkerEntry::new(1, 4711, 1_700_000_000_000));
//! rings.worker(1).unwrap().serve(1); // then it looks into all lanes
//!
//! // The supervisor sees it serve:
//! writer.write(&Orders { condition: Condition::Up, ..orders });
//!
//! // A client takes a place and makes its segment, of this shape:
//! let mut place = rings.reserve_client(client)?;
//! let (number, tenancy) = (place.key().index(), place.key().generation());
//! let lanes = mine.shape().client_shape(number);
//! assert_eq!(lanes.normal.workers, 2);
//! place.update(&ClientEntry::new(4712, 1_700_000_000_500));
//! // It sends to place 1, which is up, and rings whoever serves it:
//! assert_eq!(mine.orders(1).unwrap().read()?.condition, Condition::Up);
//! let rung = rings.announcer(1, number).unwrap().announce(&SpinPark::new(|| 0));
//! assert_eq!(rung, 1);
//! // The worker finds the lane marked, and claims its end as:
//! let lane = theirs.shape().lane(1, number, tenancy).unwrap();
//! assert_eq!((lane.worker, lane.lane, lane.epoch), (1, 8, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bells;
mod control;
mod entries;
mod header;
mod shape;

pub use crate::place::{
    Announcer, Bells, CancelWord, Cause, ClientBell, Condition, Order, Orders, OrdersError,
    OrdersRow, OrdersWriter, WorkerBell,
};
pub use bells::{
    BellsLayout, CANCELS, CLIENT_BELLS, CLIENTS, ClientPlaces, READY, WORKER_BELLS,
};
pub use control::{
    COUNTERS, ClaimWorkerError, ControlLayout, FUNCTIONS, Functions, MONITORS, SERVICE, WORKERS,
    WorkerPlaces,
};
pub use entries::{
    ClientEntry, ClientState, FunctionEntry, SupervisorCount, WorkerCount, WorkerEntry, WorkerState,
};
pub use shape::Shape;

/// The version of both layouts.
pub const VERSION: u32 = 1;
