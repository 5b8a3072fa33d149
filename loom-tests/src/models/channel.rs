//! The channel. Call n has sequence id n.

use crate::harness::{Lent, Memory, check, check_eq, explore, explore_bounded, models, owner};
use loom::thread;
use shm_primitives::channel::{
    Client, Lane, Limits, Options, ReceiveError, Recovered, RequestError, Worker, WorkerChannel,
};
use shm_primitives::identity::Dead;
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, MonitorWriter, ThreadMonitor};
use shm_primitives::ring::frame::{self, Packing};
use shm_primitives::sync::spin_loop;

pub(super) const LANE: Lane = Lane { group: Group::Normal, worker: 0, lane: 0, epoch: 1 };

pub(super) struct Fixture {
    memory: Lent<Memory>,
    pub(super) monitor: Lent<ThreadMonitor>,
    pub(super) channel: WorkerChannel<'static>,
}

/// The smallest rings that take a request without payload, two of which fill the one, and the
/// two replies to a single call. They begin `before` bytes before their positions wrap.
pub(super) fn fixture(before: u32) -> Fixture {
    let ring = |capacity| {
        frame::Options::new(capacity).packing(Packing::Dense).start(before.wrapping_neg())
    };
    let options = Options::new(ring(64), ring(128)).limits(Limits { reply: 4, progress: 0 });
    check_eq!(options.max_calls(), 1, "room");
    let memory = Lent::new(Memory::new(options.required_size().unwrap()));
    // SAFETY: the fixture outlives the threads of its model; nobody else knows the memory.
    let channel = unsafe {
        WorkerChannel::zero_at(&memory.get().region(), options);
        WorkerChannel::init_at(memory.get().region(), options).unwrap()
    };
    Fixture { memory, monitor: Lent::new(ThreadMonitor::new()), channel }
}

impl Fixture {
    pub(super) fn ends(&self) -> (Client<'static>, Worker<'static>) {
        let _ = &self.memory;
        (
            self.channel.claim_client(owner(1)).unwrap(),
            self.channel.claim_worker(owner(2), LANE).unwrap(),
        )
    }

    pub(super) fn noted(&self) -> MonitorWriter<'static> {
        // SAFETY: the fixture outlives the threads of its model.
        unsafe { self.monitor.get() }.writer()
    }

    /// Takes the worker's ends over from its thread, which has ended.
    fn recover<'m>(&self, noted: &'m mut MonitorWriter<'_>) -> Recovered<'static, 'm> {
        // SAFETY: every caller has joined its thread, which orders it before this.
        let dead = unsafe { Dead::assume(owner(2)) };
        self.channel.recover_worker(dead, owner(3), LANE, noted).unwrap()
    }
}

pub(super) fn call(client: &mut Client<'_>, n: u64) {
    check_eq!(client.request(n, 1001, b""), Ok(()), "sent");
}

/// Waits for the next request, which is `n`, replies, and finishes it unless it is to die.
fn serve(worker: &mut Worker<'_>, noted: &mut MonitorWriter<'_>, n: u64, report: bool, die: bool) {
    loop {
        match worker.peek() {
            Ok(request) => {
                check_eq!(request.header().seq_id(), n, "requests in order");
                let mut work = request.begin(noted, 0).unwrap();
                if report {
                    check!(work.reply_progress(b"").is_ok(), "room for the report");
                }
                let reply = work.reply(MsgStatus::Completed, &[n as u8; 4]);
                check_eq!(reply, Ok(()), "room for the reply");
                if die {
                    return core::mem::forget(work);
                }
                return work.finish().unwrap();
            }
            Err(ReceiveError::Empty) => spin_loop(),
            Err(error) => check!(false, "{error}: {:?}", worker.corruption()),
        }
    }
}

/// Waits for the final reply to call `n`, passing reports.
fn receive(client: &mut Client<'_>, n: u64) {
    loop {
        match client.response() {
            Ok(response) => {
                check_eq!(response.header().seq_id(), n, "replies in order");
                let last = response.status().is_final();
                if last {
                    check_eq!(*response, [n as u8; 4], "content");
                }
                response.release();
                if last {
                    return;
                }
            }
            Err(ReceiveError::Empty) => spin_loop(),
            Err(error) => check!(false, "{error}: {:?}", client.corruption()),
        }
    }
}

models! {
    /// A request, its reply, and back.
    fn channel_round_trip() {
        explore(|| {
            let fixture = fixture(16);
            let (mut client, mut worker) = fixture.ends();
            let mut noted = fixture.noted();
            let serving = thread::spawn(move || {
                serve(&mut worker, &mut noted, 1, false, false);
            });
            call(&mut client, 1);
            receive(&mut client, 1);
            check_eq!(client.response().err(), Some(ReceiveError::Empty), "nothing more");
            check_eq!(client.outstanding(), 0, "outstanding");
            serving.join().unwrap();
        });
    }

    /// One call after the other through a response ring with room for the replies to one: the
    /// worker never finds it full, and no byte is overwritten that is still read.
    fn channel_room() {
        explore_bounded(Some(2), || {
            let fixture = fixture(24);
            let (mut client, mut worker) = fixture.ends();
            let mut noted = fixture.noted();
            let serving = thread::spawn(move || {
                serve(&mut worker, &mut noted, 1, true, false);
                serve(&mut worker, &mut noted, 2, true, false);
            });
            call(&mut client, 1);
            check_eq!(
                client.request(2, 1001, b"").err(),
                Some(RequestError::Outstanding { calls: 1 }),
                "a second call"
            );
            receive(&mut client, 1);
            call(&mut client, 2);
            receive(&mut client, 2);
            serving.join().unwrap();
        });
    }

    /// Counting anew while the worker replies and leaves the request behind: a call whose reply
    /// is not released stays counted.
    fn channel_settle() {
        explore(|| {
            let fixture = fixture(16);
            let (mut client, mut worker) = fixture.ends();
            let mut noted = fixture.noted();
            call(&mut client, 1);
            let serving = thread::spawn(move || {
                serve(&mut worker, &mut noted, 1, false, false);
            });
            client.settle();
            check_eq!(client.outstanding(), 1, "outstanding");
            serving.join().unwrap();
            receive(&mut client, 1);
            client.settle();
            check_eq!(client.outstanding(), 0, "outstanding");
        });
    }

    /// A worker that dies between its reply and its end, while the client reads the reply: it is
    /// known to be answered, is not run again, and arrives once.
    fn channel_dies_answered() {
        explore(|| {
            let fixture = fixture(16);
            let (mut client, mut worker) = fixture.ends();
            let mut noted = fixture.noted();
            call(&mut client, 1);
            let dying = thread::spawn(move || {
                serve(&mut worker, &mut noted, 1, false, true);
                core::mem::forget(worker);
            });
            let receiving = thread::spawn(move || {
                receive(&mut client, 1);
                client
            });
            dying.join().unwrap();
            let mut noted = fixture.noted();
            match fixture.recover(&mut noted) {
                Recovered::Answered(header, mut worker) => {
                    check_eq!(header.seq_id(), 1, "answered");
                    check!(worker.is_request_empty(), "left behind");
                }
                other => check!(false, "{other:?}"),
            }
            noted.reset();
            let mut client = receiving.join().unwrap();
            check_eq!(client.response().err(), Some(ReceiveError::Empty), "once");
        });
    }

    /// A worker that dies with a request in hand while the client sends another: the one is
    /// poison, the other is served by the successor, and the client's room comes back.
    fn channel_dies_in_hand() {
        explore(|| {
            let fixture = fixture(24);
            let (mut client, mut worker) = fixture.ends();
            let mut noted = fixture.noted();
            call(&mut client, 1);
            let dying = thread::spawn(move || {
                let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
                work.grant(4).unwrap().fill(9);
                core::mem::forget(work);
                core::mem::forget(worker);
            });
            // No reply comes, so there is room again when it was skipped.
            let calling = thread::spawn(move || {
                while client.request(2, 1001, b"").is_err() {
                    spin_loop();
                }
                receive(&mut client, 2);
            });
            dying.join().unwrap();
            let mut noted = fixture.noted();
            let mut worker = match fixture.recover(&mut noted) {
                Recovered::Poison(poison) => {
                    check_eq!(poison.header().seq_id(), 1, "poison");
                    check_eq!(poison.doubt(), None, "doubt");
                    poison.skip()
                }
                other => panic!("model: {other:?}"),
            };
            noted.reset();
            serve(&mut worker, &mut noted, 2, false, false);
            calling.join().unwrap();
        });
    }
}
