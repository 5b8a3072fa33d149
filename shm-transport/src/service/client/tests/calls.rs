//! What calls give.

use super::*;
use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake};

/// Runs a future in this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

#[test]
fn in_each_way() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Poll] {
        let bare = Bare::new(SHAPE);
        let worker = start_with(&bare, 0, &Gate::default(), wait);
        let client = builder(&bare).wait(wait).connect().unwrap();
        assert!(client.is_connected());
        for n in 0..200u32 {
            let bytes = n.to_le_bytes();
            assert_eq!(client.call(ECHO, &bytes, Priority::Low, LONG).unwrap(), bytes);
        }
        let calls: Vec<_> = (0..50u32)
            .map(|n| client.call_async(ECHO, &n.to_le_bytes(), Priority::Low).unwrap())
            .collect();
        // The last ones first.
        for (n, call) in calls.into_iter().enumerate().rev() {
            assert_eq!(number(call.wait(LONG).unwrap()), n as u32);
        }
        let mut batch = client.batch(Priority::Low).unwrap();
        (0..50u32).for_each(|n| batch.add(ECHO, &n.to_le_bytes()).unwrap());
        assert_eq!(batch.len(), 50);
        let results: Vec<_> =
            batch.wait(LONG).into_iter().map(|result| number(result.unwrap())).collect();
        assert_eq!(results, (0..50).collect::<Vec<_>>());
        for n in 0..100u32 {
            let call = client.call_async(ECHO, &n.to_le_bytes(), Priority::Low).unwrap();
            assert_eq!(number(block_on(call).unwrap()), n);
        }
        drop(client);
        stop(&bare, 0, worker);
    }
}

#[test]
fn what_fails_is_said() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    let call = |function, payload: &[u8]| client.call(function, payload, Priority::Low, LONG);
    assert!(matches!(call(FAIL, b""), Err(CallError::Failed { message }) if message == b"no"));
    let Err(CallError::Panicked { message }) = call(PANIC, b"") else { panic!("it does") };
    assert!(message.contains("on purpose"), "{message}");
    assert!(matches!(call(5000, b""), Err(CallError::UnknownFunction { function: 5000 })));
    assert!(matches!(call(LARGE, b""), Err(CallError::ReplyTooLarge { found: 65, most: 64 })));
    let Err(CallError::TooLarge { found, most }) = call(ECHO, &vec![0; 1 << 20]) else {
        panic!("larger than its lane")
    };
    assert_eq!(found, 1 << 20);
    assert!(most >= 64);
    // The largest request there can be, whose echo has no room.
    assert!(matches!(call(ECHO, &vec![0; most]), Err(CallError::ReplyTooLarge { .. })));
    assert!(matches!(call(ECHO, &vec![0; most + 1]), Err(CallError::TooLarge { .. })));
    assert_eq!(call(ECHO, b"still").unwrap(), b"still");
    drop(client);
    stop(&bare, 0, worker);
}

#[test]
fn progress_is_reported() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    let call = client.call_async(REPORTS, b"", Priority::Low).unwrap();
    let mut reports = Vec::new();
    while let Some(report) = call.wait_progress(LONG) {
        reports.push(report);
    }
    assert!(!reports.is_empty());
    // In order, whichever were missed.
    let steps: Vec<u32> =
        reports.into_iter().filter(|report| !report.is_empty()).map(number).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    assert_eq!(call.wait(LONG).unwrap(), b"done");
    // The slot's next call has none of it.
    let call = client.call_async(ECHO, b"x", Priority::Low).unwrap();
    assert_eq!(call.wait_progress(LONG), None);
    assert_eq!(call.wait(LONG).unwrap(), b"x");
    drop(client);
    stop(&bare, 0, worker);
}

#[test]
fn a_late_reply_is_nobodys() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let worker = start(&bare, 0, &gate);
    let client = connect(&bare);
    let late = client.call(GATED, b"", Priority::Low, SHORT);
    assert!(matches!(late, Err(CallError::TimedOut { waited: SHORT })), "{late:?}");
    soon("the handler is told", || gate.saw_cancel.load(Ordering::Relaxed));
    gate.open();
    for n in 0..300u32 {
        let bytes = n.to_le_bytes();
        assert_eq!(client.call(ECHO, &bytes, Priority::Low, LONG).unwrap(), bytes);
    }
    drop(client);
    stop(&bare, 0, worker);
}

#[test]
fn dropping_cancels() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let worker = start(&bare, 0, &gate);
    let client = connect(&bare);
    let first = client.call_async(GATED, b"", Priority::Low).unwrap();
    gate.meet();
    // This one is not begun: it is behind the other.
    let behind = client.call_async(GATED, b"", Priority::Low).unwrap();
    behind.cancel();
    gate.is_met.store(false, Ordering::Relaxed);
    gate.open();
    assert_eq!(number(first.wait(LONG).unwrap()), 0);
    assert_eq!(client.call(ECHO, b"", Priority::Low, LONG).unwrap(), b"");
    assert!(!gate.is_met.load(Ordering::Relaxed), "it was never run");
    drop(client);
    stop(&bare, 0, worker);
}

/// Threads that share a client, calls that end by reply or by time-out, whichever comes first:
/// each has one end, and no reply is another call's.
#[test]
fn exactly_one_end() {
    for wait in [Wait::Adaptive, Wait::Block] {
        let bare = Bare::new(SHAPE);
        let workers = [0, 1].map(|place| start(&bare, place, &Gate::default()));
        let client = builder(&bare).wait(wait).connect().unwrap();
        let ends = thread::scope(|scope| {
            let threads: Vec<_> = (0..4u32)
                .map(|thread| {
                    let client = &client;
                    scope.spawn(move || {
                        let mut ends = [0u32; 2];
                        for n in 0..500u32 {
                            let bytes = (thread << 16 | n).to_le_bytes();
                            let time = Duration::from_nanos(u64::from(n % 50) * 2000);
                            let time = if n % 5 == 0 { LONG } else { time };
                            match client.call(ECHO, &bytes, Priority::Low, time) {
                                Ok(reply) => {
                                    assert_eq!(reply, bytes);
                                    ends[0] += 1;
                                }
                                Err(CallError::TimedOut { .. }) => ends[1] += 1,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        ends
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let [replies, late] = ends.iter().fold([0; 2], |[a, b], [c, d]| [a + c, b + d]);
        assert_eq!(replies + late, 2000);
        assert!(replies >= 400, "{replies} replies");
        // Nothing is left in flight.
        soon("all lanes are idle", || {
            client.call(ECHO, b"", Priority::Low, LONG).unwrap();
            let connection = client.connected(None).unwrap();
            connection.calls.in_flight().count() == 0
        });
        drop(client);
        for (place, worker) in (0..).zip(workers) {
            stop(&bare, place, worker);
        }
    }
}

#[test]
fn many_in_flight() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let workers = [0, 1].map(|place| start(&bare, place, &gate));
    let client = connect(&bare);
    let calls: Vec<_> =
        (0..64u32).map(|_| client.call_async(GATED, b"", Priority::Low).unwrap()).collect();
    gate.open();
    let mut futures = calls.into_iter();
    let places: HashSet<u32> =
        futures.by_ref().take(40).map(|call| number(block_on(call).unwrap())).collect();
    assert_eq!(places, HashSet::from([0, 1]), "both serve");
    futures.for_each(|call| assert!(call.wait(LONG).is_ok()));
    drop(client);
    for (place, worker) in (0..).zip(workers) {
        stop(&bare, place, worker);
    }
}
