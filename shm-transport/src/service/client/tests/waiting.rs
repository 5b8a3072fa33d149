//! Threads that wait for one another's replies.

use super::hand::Hand;
use super::*;

/// One thread reads for all; whichever leaves, another takes over. Their replies come in an order
/// that makes each of them the one that leaves.
#[test]
fn the_role_is_handed_over() {
    const THREADS: usize = 6;
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    for wait in [Wait::Adaptive, Wait::Block] {
        let client = builder(&bare).wait(wait).connect().unwrap();
        hand.meet(0);
        for _ in 0..20 {
            thread::scope(|scope| {
                let calls: Vec<_> = (0..THREADS as u32)
                    .map(|n| {
                        let client = &client;
                        scope.spawn(move || {
                            let bytes = n.to_le_bytes();
                            assert_eq!(
                                client.call(ECHO, &bytes, Priority::Low, LONG).unwrap(),
                                bytes
                            );
                        })
                    })
                    .collect();
                let mut served = 0;
                soon("all are answered", || {
                    served += hand.echo_one();
                    served == THREADS
                });
                calls.into_iter().for_each(|call| call.join().unwrap());
            });
        }
        let connection = client.connected(None).unwrap();
        assert_eq!(connection.followers(), 0);
        drop(connection);
        *hand.lane = None;
        drop(hand.mapped.take());
        drop(client);
    }
}

/// Futures and threads wait side by side.
#[test]
fn futures_beside_threads() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300u32 {
                let bytes = n.to_le_bytes();
                assert_eq!(client.call(ECHO, &bytes, Priority::Low, LONG).unwrap(), bytes);
            }
        });
        let mut calls: Vec<_> = (0..40u32)
            .map(|n| (n, client.call_async(ECHO, &n.to_le_bytes(), Priority::Low).unwrap()))
            .collect();
        soon("all futures are ready", || {
            let mut context = Context::from_waker(Waker::noop());
            calls.retain_mut(|(n, call)| match std::pin::Pin::new(call).poll(&mut context) {
                Poll::Ready(result) => {
                    assert_eq!(number(result.unwrap()), *n);
                    false
                }
                Poll::Pending => true,
            });
            calls.is_empty()
        });
    });
    // A future that is dropped keeps the connection no longer than that.
    bare.drain(0);
    worker.join().unwrap().unwrap();
    let mut call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut call).poll(&mut context).is_pending());
    drop(call);
    drop(client);
    soon("it is gone", || bare.bells.layout.clients().owners().count() == 0);
}

/// One that was polled, then waited for in vain, leaves no waker: the thread that receives for futures
/// would go on for ever.
#[test]
fn a_future_that_was_late() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut call).poll(&mut context).is_pending());
    let late = call.wait(SHORT);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert_eq!(client.connected(None).unwrap().calls.wakers(), 0);
}

struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics on purpose");
    }
}

struct Notes(AtomicBool);

impl std::task::Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody's waker panics, and all others are woken: those told with it, and those told later.
#[test]
fn a_waker_that_panics() {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let panics = Arc::new(Panics).into();
    for _ in 0..2 {
        let call = || client.call_async(ECHO, b"x", Priority::Low).unwrap();
        let [mut first, mut second, mut third] = [call(), call(), call()];
        let notes = Arc::new(Notes(AtomicBool::new(false)));
        let waker = Arc::clone(&notes).into();
        for (call, waker) in [(&mut first, &panics), (&mut second, &waker), (&mut third, &waker)] {
            assert!(Pin::new(call).poll(&mut Context::from_waker(waker)).is_pending());
        }
        for (served, call) in [(2, &mut second), (1, &mut third)] {
            for _ in 0..served {
                assert_eq!(hand.echo_one(), 1);
            }
            soon("it is woken", || notes.0.swap(false, Ordering::Relaxed));
            let ended = Pin::new(call).poll(&mut Context::from_waker(&waker));
            let Poll::Ready(Ok(answer)) = ended else { panic!("{ended:?}") };
            assert_eq!(answer, b"x");
        }
        assert_eq!(first.wait(LONG).unwrap(), b"x");
    }
}
