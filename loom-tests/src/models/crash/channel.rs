//! A client, a worker and their successors, over the smallest channel there is, whose positions
//! are about to wrap. Call n has sequence id n.
//!
//! What a worker has stored when it dies follows from its budget alone, so what is told of it is
//! one thing for each budget, and the budgets in order pass through the lines of the module's
//! table.

use super::{CONVICTOR, HEIR, READER as WORKER, WRITER as CLIENT, at_every_step, dead};
use crate::harness::{check, check_eq, models, owner};
use crate::models::channel::{Fixture, LANE, call, fixture};
use loom::thread;
use shm_primitives::channel::{Client, ReceiveError, Recovered, Worker};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::MonitorWriter;
use shm_primitives::part::ClaimError;
use std::sync::{Arc, Mutex};

/// What the world outside shared memory knows of calls. Not loom's: nothing is ordered by it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    fn note(&self, n: u64) {
        self.0.lock().unwrap().push(n);
    }

    fn calls(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }

    fn has(&self, n: u64) -> bool {
        self.calls().contains(&n)
    }

    /// The handler of call `n`: once at the most.
    fn run(&self, n: u64) {
        check!(!self.has(n), "call {n} is run twice");
        self.note(n);
    }
}

/// What a worker left, as its successor is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Nothing,
    Answered,
    Poison,
}

/// What was told in all interleavings, with one budget after the other.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Left>>>);

impl Told {
    fn tell(&self, left: Left) {
        let mut told = self.0.lock().unwrap();
        if told.last() != Some(&left) {
            told.push(left);
        }
    }

    fn check(&self, table: &[Left]) {
        check_eq!(*self.0.lock().unwrap(), table, "what is told, from the first step to the last");
    }
}

/// Begins the next request, if there is one, replies and finishes it; which.
fn serve(
    worker: &mut Worker<'_>,
    noted: &mut MonitorWriter<'_>,
    ran: &Log,
    report: bool,
) -> Option<u64> {
    let request = match worker.peek() {
        Ok(request) => request,
        Err(ReceiveError::Empty) => return None,
        Err(error) => panic!("model: {error}: {:?}", worker.corruption()),
    };
    let n = request.header().seq_id();
    let mut work = request.begin(noted, 0).unwrap();
    ran.run(n);
    if report {
        check_eq!(work.reply_progress(b""), Ok(true), "room for the report");
    }
    check_eq!(work.reply(MsgStatus::Completed, &[n as u8; 4]), Ok(()), "room for the reply");
    work.finish().unwrap();
    Some(n)
}

fn serve_all(worker: &mut Worker<'_>, noted: &mut MonitorWriter<'_>, ran: &Log) {
    while serve(worker, noted, ran, false).is_some() {}
}

/// Looks at the next reply, notes it in `seen` and leaves it behind; its call, and whether it
/// is the final one.
fn take(client: &mut Client<'_>, seen: &Log) -> Option<(u64, bool)> {
    match client.response() {
        Ok(response) => {
            let (n, last) = (response.header().seq_id(), response.status().is_final());
            let whole: &[u8] = if last { &[n as u8; 4] } else { &[] };
            check_eq!(&*response, whole, "content");
            seen.note(n);
            response.release();
            Some((n, last))
        }
        Err(ReceiveError::Empty) => None,
        Err(error) => panic!("model: {error}: {:?}", client.corruption()),
    }
}

fn take_all(client: &mut Client<'_>) -> Vec<(u64, bool)> {
    let seen = Log::default();
    std::iter::from_fn(|| take(client, &seen)).collect()
}

/// The monitor of the worker `index`, which is dead.
fn recover_noted(fixture: &Fixture, index: u32) -> MonitorWriter<'static> {
    // SAFETY: the fixture outlives the threads of its model.
    unsafe { fixture.monitor.get() }.recover_writer(dead(index))
}

/// The client's ends, from whoever had them and died, or gave them back.
fn inherit_client(fixture: &Fixture) -> Client<'static> {
    match fixture.channel.client().unwrap() {
        [None, None] => fixture.channel.claim_client(owner(HEIR)).unwrap(),
        _ => fixture.channel.recover_client(dead(CLIENT), owner(HEIR)).unwrap(),
    }
}

/// The worker's ends likewise, from the one that `from` names or whom the channel names, with
/// what was left. Call 1 is the only one that may be. A poison message is put aside.
fn inherit_worker(
    fixture: &Fixture,
    mut from: u32,
    noted: &mut MonitorWriter<'_>,
) -> (Left, Worker<'static>) {
    if fixture.channel.worker() == Ok([None, None]) {
        return (Left::Nothing, fixture.channel.claim_worker(owner(HEIR), LANE).unwrap());
    }
    loop {
        match fixture.channel.recover_worker(dead(from), owner(HEIR), LANE, noted) {
            Ok(Recovered::Nothing(worker)) => return (Left::Nothing, worker),
            Ok(Recovered::Answered(header, worker)) => {
                check_eq!(header.seq_id(), 1, "answered");
                return (Left::Answered, worker);
            }
            Ok(Recovered::Poison(poison)) => {
                check_eq!((poison.header().seq_id(), poison.doubt()), (1, None), "poison");
                return (Left::Poison, poison.skip());
            }
            Err(ClaimError::NotTheOwner { found: Some(other) }) => {
                check!(other.index() != from, "{other:?} is not itself");
                from = other.index();
            }
            Err(error) => panic!("model: {error}"),
        }
    }
}

/// Another call works as in a new channel: there is room for it, and its reply arrives.
fn check_usable(
    client: &mut Client<'_>,
    worker: &mut Worker<'_>,
    noted: &mut MonitorWriter<'_>,
    ran: &Log,
) {
    call(client, 8);
    check_eq!(serve(worker, noted, ran, false), Some(8), "as good as new");
    check_eq!(take_all(client), [(8, true)], "as good as new");
}

/// A worker dies serving call 1, while the client receives.
fn worker_dies(steps: u32, report: bool) {
    let told = Told::default();
    let telling = told.clone();
    at_every_step(steps, move |mortal| {
        let fixture = fixture(24);
        let (mut client, mut worker) = fixture.ends();
        let (mut noted, ran) = (fixture.noted(), Log::default());
        call(&mut client, 1);
        let dying = {
            let (mortal, ran) = (mortal.clone(), ran.clone());
            thread::spawn(move || {
                let life = move || {
                    check_eq!(serve(&mut worker, &mut noted, &ran, report), Some(1), "served");
                };
                mortal.live(life).is_some()
            })
        };
        let seen = Log::default();
        let mut received: Vec<_> = (0..2).filter_map(|_| take(&mut client, &seen)).collect();
        let survived = dying.join().unwrap();

        let mut noted = recover_noted(&fixture, WORKER);
        let (left, mut worker) = inherit_worker(&fixture, WORKER, &mut noted);
        noted.reset();
        received.extend(take_all(&mut client));
        let (begun, answered) = (ran.has(1), received.contains(&(1, true)));
        match left {
            Left::Nothing => check_eq!(begun, answered, "nothing left, begun or answered"),
            Left::Answered => check!(begun && answered, "answered is not received"),
            Left::Poison => check!(begun && !answered, "poison is received"),
        }
        check_eq!(worker.is_request_empty(), begun, "what was begun is left behind");
        check!(!survived || left == Left::Nothing && answered, "{left:?} of a worker alive");
        serve_all(&mut worker, &mut noted, &ran);
        received.extend(take_all(&mut client));
        if received.first() == Some(&(1, false)) {
            check!(report && begun, "a report of nobody");
            received.remove(0);
        } else {
            check!(!report || !begun || !answered, "the report is lost");
        }
        let expected: &[_] = if left == Left::Poison { &[] } else { &[(1, true)] };
        check_eq!(received, expected, "replies");
        check_usable(&mut client, &mut worker, &mut noted, &ran);
        telling.tell(left);
    });
    told.check(&[Left::Nothing, Left::Poison, Left::Answered, Left::Nothing]);
}

/// A client dies in `operate`, which sends call `n` last; before that, calls were sent up to
/// `served` and served. The worker serves meanwhile. `operate` notes the replies it saw, and
/// those it has released.
fn client_dies(
    steps: u32,
    served: u64,
    operate: fn(&mut Client<'static>, seen: &Log, released: &Log),
) {
    at_every_step(steps, move |mortal| {
        let fixture = fixture(24);
        let (mut client, mut worker) = fixture.ends();
        let (mut noted, ran) = (fixture.noted(), Log::default());
        if served == 1 {
            call(&mut client, 1);
            serve_all(&mut worker, &mut noted, &ran);
        }
        let (seen, released) = (Log::default(), Log::default());
        let dying = {
            let (mortal, seen, released) = (mortal.clone(), seen.clone(), released.clone());
            thread::spawn(move || {
                mortal.live(move || operate(&mut client, &seen, &released)).is_some()
            })
        };
        for _ in 0..2 {
            serve(&mut worker, &mut noted, &ran, false);
        }
        let survived = dying.join().unwrap();
        let mut client = inherit_client(&fixture);
        serve_all(&mut worker, &mut noted, &ran);
        let received: Vec<u64> = take_all(&mut client).into_iter().map(|(n, _)| n).collect();
        let last = served + 1;
        let ran_all = ran.calls();
        check!(ran_all.len() as u64 == last || !survived, "sent and lost");
        // Every call that was run is replied to. The reply to one may have been left behind, by
        // one who saw it; not so if it died before it released it.
        let again = ran_all.iter().position(|n| received.first() == Some(n));
        let gone = &ran_all[..again.unwrap_or(ran_all.len())];
        check_eq!(received, ran_all[gone.len()..], "replies");
        check!(gone.iter().all(|n| seen.has(*n)), "{gone:?} were seen by nobody");
        check!(released.calls().iter().all(|n| gone.contains(n)), "a reply is received twice");
        check_usable(&mut client, &mut worker, &mut noted, &ran);
    });
}

/// Whoever recovers from a worker that left call 1 begun, or answered too, dies; another goes
/// on, and is told the same until it was left behind. The client receives meanwhile, and calls.
fn recoverer_dies(steps: u32, left: Left) {
    let told = Told::default();
    let telling = told.clone();
    at_every_step(steps, move |mortal| {
        let fixture = fixture(24);
        let (mut client, mut worker) = fixture.ends();
        let (mut noted, ran) = (fixture.noted(), Log::default());
        call(&mut client, 1);
        let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
        ran.run(1);
        if left == Left::Answered {
            check_eq!(work.reply(MsgStatus::Completed, &[1; 4]), Ok(()), "room");
        } else {
            work.grant(4).unwrap().fill(9);
        }
        std::mem::forget(work);
        std::mem::forget(worker);

        // The recoverer is on the first thread, which loom runs first: it loads the position that
        // it stores later, and would hide the client's load of it if that came before.
        let receiving = thread::spawn(move || {
            let received = take(&mut client, &Log::default());
            let sent = client.request(2, 1001, b"").is_ok();
            (client, Vec::from_iter(received), sent)
        });
        let skipped = Log::default();
        let mut noted = recover_noted(&fixture, WORKER);
        mortal.live(|| {
            let (dead, owner) = (dead(WORKER), owner(CONVICTOR));
            let recovered = fixture.channel.recover_worker(dead, owner, LANE, &mut noted).unwrap();
            let worker = match recovered {
                Recovered::Answered(_, worker) if left == Left::Answered => worker,
                Recovered::Poison(poison) if left == Left::Poison => poison.skip(),
                other => panic!("model: {other:?}"),
            };
            skipped.note(1);
            noted.reset();
            drop(worker);
        });

        let mut noted = recover_noted(&fixture, CONVICTOR);
        let (again, mut worker) = inherit_worker(&fixture, CONVICTOR, &mut noted);
        let (mut client, mut received, sent) = receiving.join().unwrap();
        check!(again == Left::Nothing || !skipped.has(1), "told of what was put aside");
        telling.tell(again);
        noted.reset();
        serve_all(&mut worker, &mut noted, &ran);
        received.extend(take_all(&mut client));
        if !sent {
            call(&mut client, 2);
            serve_all(&mut worker, &mut noted, &ran);
            received.extend(take_all(&mut client));
        }
        let expected: &[_] =
            if left == Left::Poison { &[(2, true)] } else { &[(1, true), (2, true)] };
        check_eq!(received, expected, "replies");
        check_usable(&mut client, &mut worker, &mut noted, &ran);
    });
    told.check(&[left, Left::Nothing]);
}

models! {
    /// A worker that begins, replies and finishes.
    fn crash_channel_serve() {
        worker_dies(26, false);
    }

    /// The same with a report of progress before the reply.
    fn crash_channel_report() {
        worker_dies(38, true);
    }

    /// A client that sends a request.
    fn crash_channel_request() {
        client_dies(7, 0, |client, _, _| call(client, 1));
    }

    /// A client that releases a reply and sends the next request.
    fn crash_channel_release() {
        client_dies(8, 1, |client, seen, released| {
            check_eq!(take(client, seen), Some((1, true)), "the reply");
            released.note(1);
            call(client, 2);
        });
    }

    /// Whoever recovers from a worker that left a poison message.
    fn crash_channel_recover_poison() {
        recoverer_dies(15, Left::Poison);
    }

    /// Whoever recovers from a worker that died between its reply and its end.
    fn crash_channel_recover_answered() {
        recoverer_dies(15, Left::Answered);
    }
}
