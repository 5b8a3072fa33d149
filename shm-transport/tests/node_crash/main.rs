//! Nodes die at each step of what they do: at each store through the door of the primitives, and
//! before and after each call to the system that others see. The others go on.
//!
//! Compiled under `--cfg crash_points` alone. The one who dies is another process, which kills
//! itself at the step; so each step costs a process, and operations of many steps die at no more
//! than [`MOST`] of them. With `SHM_CRASH_EVERY=1` in the environment it is each one, and with
//! `SHM_CRASH_STEP=<n>` step n alone.
//!
//! What is done after a death is one of six things in turn, for step 0, 1, 2, …; it begins with
//! another one if `SHM_CRASH_TURN` says so, from 0 to 5. Whether those who are left look at it at
//! once, or their threads have looked before; and who puts away what the dead left: the others by
//! themselves, the last of them who leaves, or a sweep beside them.
#![cfg(all(crash_points, target_os = "linux"))]

mod child;
mod cleaning;
#[path = "../common/mod.rs"]
mod common;
mod message;
mod operation;
mod round;
#[path = "../segment_help/mod.rs"]
mod segment_help;

use operation::Operation;
use round::at_steps;
use shm_transport::domain::Domain;
use shm_transport::node::{Node, NodeBuilder};
use std::time::Duration;

/// The most deaths that one operation dies unless told otherwise.
const MOST: u32 = 120;
/// Chunks for large messages that a node of these tests has.
const CHUNKS: usize = 4;

/// How long to wait for what must come, in tries of a millisecond or more. Not a time: all that
/// runs here may be stopped for minutes.
const PATIENCE: u32 = 20_000;

fn builder(domain: &Domain, name: &str) -> NodeBuilder {
    // Heartbeats are so quick that what the dead left goes at once.
    Node::builder(name)
        .in_domain(domain.clone())
        .config(Default::default())
        .nodes(8)
        .lane_bytes(8192)
        .max_message(16 << 10)
        .heartbeat(Duration::from_millis(5))
        .silent_after(Duration::from_millis(15))
}

/// Waits until it is so.
fn eventually<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE {
        if let Some(done) = so() {
            return done;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}");
}

macro_rules! operations {
    ($($test:ident: $what:ident;)+) => { $(
        #[test]
        fn $test() {
            at_steps(Operation::$what);
        }
    )+ };
}

operations! {
    join_first: JoinFirst;
    join: Join;
    join_after_death: JoinAfterDeath;
    join_full: JoinFull;
    send_first: SendFirst;
    send_second: SendSecond;
    send_large: SendLarge;
    send_second_large: SendSecondLarge;
    broadcast: Broadcast;
    broadcast_large: BroadcastLarge;
    own_sender: OwnSender;
    send_anew: SendAnew;
    receive: Receive;
    receive_large: ReceiveLarge;
    receive_full: ReceiveFull;
    receive_last: ReceiveLast;
    keep: Keep;
    leave: Leave;
    leave_busy: LeaveBusy;
    leave_last: LeaveLast;
    sweep_alone: Sweep;
    sweep_anew: SweepAnew;
    sweep_beside: SweepBeside;
}
