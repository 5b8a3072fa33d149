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
        assert_eq!(connection.follow.count(), 0);
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
