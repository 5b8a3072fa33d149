//! The words of a service that its supervisor, its workers and its clients share: what each
//! worker place is ordered to do, who serves its lanes, what is rung, and what is cancelled.
//!
//! A *worker place* is a number that workers come and go at; each has lanes, one from each
//! client. A place is served by its own worker, and while that one is dead by a *helper*, the
//! worker of another place. Nobody in between passes messages on: the client itself finds out
//! whom to ring. [`layout::service`](crate::layout) says in which segments all of this lies.
//!
//! # Memory
//!
//! ```text
//! a row of orders, for each worker place: one line, written by the supervisor
//! offset  size
//!      0     4  selector       changes so far, wrapping; its lowest bit is the current copy
//!      4    28  copy 0
//!     32    28  copy 1
//!     60     4  reserved, 0
//!
//! a copy:
//!     +0     4  incarnation    raised before each start of a worker; 0: none was started yet
//!     +4     1  order          0 vacant, 1 run, 2 drain
//!     +5     1  condition      0 stopped, 1 starting, 2 up, 3 back-off, 4 failed, 5 suspect,
//!                              6 stuck, 7 spare
//!     +6     1  cause kind     of the last death: 0 none, 1 exited, 2 signalled, 3 panicked,
//!                              4 unknown, 5 hung, 6 late
//!     +7     1  0
//!     +8     4  helper         who is asked to serve the place meanwhile: place + 1; 0 nobody
//!    +12     4  restarts
//!    +16     4  cause value    exit code or signal, else 0
//!    +20     8  changed        low word, high word: when it was written, in milliseconds since 1970
//!
//! the bell of a worker place: one line
//!      0     8  the wake word that its worker sleeps at             (see crate::wake)
//!      8     4  sleepless      1 if that worker never sleeps        that worker
//!     12     4  server         who serves the lanes of this place: place + 1; 0 nobody
//!                                                                   who takes them up
//!     16    48  0
//!
//! the bell of a client place: one line
//!      0     8  the wake word that the client sleeps at
//!      8     4  sleepless      1 if it never sleeps                 the client
//!     12    52  0
//!
//! ready         for each worker place the bits of its clients, `row` words each
//! cancel word   for each client and worker place: the low 32 bits of the sequence id of the
//!               call that the client gives up; 0 none             the client
//! ```
//!
//! All words are little-endian `u32`. Zeroed memory is valid in each of them: a place that is to
//! stay empty, and that nobody serves.
//!
//! # Orders: who writes what, in which order
//!
//! The supervisor alone writes a row, a whole record at a time: a Release fence, the copy that is
//! *not* current, the selector plus 1, Release. Readers load the selector, Acquire, the copy, a
//! fence, Acquire, and the selector again; that this is enough is argued in
//! [`monitor`](crate::monitor), whose record is kept in the same way. They only load: memory that
//! is mapped for reading will do. A supervisor that dies in between leaves the record before, and
//! its successor's [`writer`](OrdersRow::writer) goes on from it.
//!
//! # Ringing: who does what, in which order
//!
//! | client, or whoever changes what a sweep finds | who takes the lanes of place *p* up |
//! |---|---|
//! | changes it: publishes a request in the lane, gives the worker's end of it back | stores itself in the server word of *p* |
//! | **fence** ([`published`](crate::wake::published)) | **fence** |
//! | sets its ready bit of *p* | sweeps: looks into all lanes of *p* |
//! | loads the server word of *p*, and notifies the bell of whom it finds there | |
//!
//! Both fences are sequentially consistent. If the first comes first, the sweep finds what was
//! changed; if the second does, the claimer is the one who is rung. So nothing is left to somebody
//! who does not look any more. Whoever is rung looks into the ready bits of every place that it
//! serves, and before it sleeps sweeps their lanes, as [`ready`](crate::ready) says.
//!
//! **The end of a lane is handed over too.** The claimer's sweep may find that the former server
//! still has the worker's end of a lane, *busy*, and passes it over. So one who gives an end back
//! [announces](Announcer::announce_after) that lane as its client would: the claimer is rung and
//! tries again. It is the same row of the table: what was changed is the end's owner.
//!
//! **The server word has several writers**, one after the other: the place's worker, a helper, the
//! worker again. One who was stopped between reading its orders and its store may store late, over
//! a later one's. Clients then ring somebody who serves nothing there, and who serves finds their
//! requests only when its sleep ends, after 100 ms. So who serves a place looks at the word at
//! each sweep, by [`keep`](WorkerBell::keep), and stores itself again: that delay is paid once.
//!
//! **Workers that never sleep** need no fence. A client that finds its bit set and the *server*
//! sleepless does not fence either. What it published is found by a later of the looks that such
//! a worker takes again and again, though not by any certain one; and since the bit may be being
//! cleared at this moment, one that leaves lanes out until their bits are set has to look into
//! these too, in bounded time. At the moment when the lanes pass from such a worker to one that
//! sleeps, a client may still see the former, and a request waits for the end of the latter's
//! sleep: 100 ms, once.
//!
//! # Cancelling
//!
//! A client stores the call that it gives up, and its worker looks there when it is about to begin
//! a call, and in the handler when it likes. Orders nothing; the last one asked for counts. The
//! word is compared with the low half of the call's id, which the place's next tenant uses again:
//! who takes a client's place clears its words first.
//!
//! # Crash
//!
//! | who dies | where | what is left, and who repairs it |
//! |---|---|---|
//! | supervisor | in a record | the record before; its successor writes on |
//! | client | before its bit, or its wake | a request without a bit: whoever convicts it looks into its lanes anyway; the server's next sweep finds it |
//! | who takes lanes up | before the store | the former server word; the next claimer stores its own |
//! | | between store and sweep, or in the sweep | clients ring a dead one. Whoever convicts it lets another take its places up, which sweeps; until then requests stay in their lanes |
//! | who gives ends back | before it announced | the claimer finds the end free at its next sweep, after 100 ms at the most; at once if whoever convicts the dead one announces its lanes in its place |
//!
//! Every word may be what it was: nothing here is half of something.
//!
//! # Trust
//!
//! Bells, bits, server words and cancel words cost time whatever is in them: a wake too many, a
//! sleep of 100 ms, a call given up. A server word that names no place is nobody's, and the place's
//! own bell is rung. Orders that make no sense are [`OrdersError::Corrupt`]. A *helper* is not
//! compared with the number of places: whoever uses it as one does that.
//!
//! # Example
//!
//! ```
//! use shm_primitives::place::{Bells, WorkerLine};
//! use shm_primitives::sync::AtomicU32;
//! use shm_primitives::wake::SpinPark;
//!
//! // Two worker places, 40 clients.
//! let lines = [WorkerLine::new(), WorkerLine::new()];
//! let bits = [const { AtomicU32::new(0) }; 4];
//! let bells = Bells::new(&lines, &bits, 40).unwrap();
//!
//! // Worker 0 is dead; worker 1 takes its lanes up, and looks into all of them.
//! bells.worker(0).unwrap().serve(1);
//! // Client 33, when it has published a request in its lane to place 0:
//! let park = SpinPark::new(|| 0);
//! let rung = bells.announcer(0, 33).unwrap().announce(&park);
//! assert_eq!(rung, 1);
//! // Worker 1:
//! assert_eq!(bells.worker(0).unwrap().ready().marked().collect::<Vec<_>>(), [33]);
//! ```

mod announce;
mod bell;
mod cancel;
mod cause;
mod orders;

pub use announce::Announcer;
pub use bell::{Bells, ClientBell, ClientLine, WorkerBell, WorkerLine};
pub use cancel::CancelWord;
pub use cause::Cause;
pub use orders::{Condition, Order, Orders, OrdersError, OrdersRow, OrdersWriter};

use crate::sync::sites;

sites! { SITES
    /// Who serves a place's lanes, before it sweeps them: a fence. Either the sweep finds what
    /// was published, or who published it rings the one who sweeps.
    SERVING = "place.serving", SeqCst, partner "wake.published",
        [AcqRel => Model("service_handover")];
}
