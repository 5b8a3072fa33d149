//! The same in tokio.

use crate::peer::{PATIENCE, eventually};
use crate::strict;
use shm_primitives::ring::spsc::SpscRing;
use shm_primitives::wake::{Deadline, WakeWord};
use shm_transport::event::{AsyncReadyFd, ReadyFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::time::timeout;

/// Each answer before the next message, with a park whose wakes are all needed.
#[tokio::test]
async fn no_wake_is_lost() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut ready = AsyncReadyFd::new(ready).unwrap();
    let there: &'static mut _ = Box::leak(Box::new(SpscRing::<u32, 4>::new()));
    let back: &'static mut _ = Box::leak(Box::new(SpscRing::<u32, 4>::new()));
    let (mut producer, mut consumer) = there.split();
    let (mut answer, mut answered) = back.split();
    let answers: &'static WakeWord = Box::leak(Box::new(WakeWord::new()));
    let sender = {
        let (word, park) = (Arc::clone(&word), park.clone());
        thread::spawn(move || {
            let (mut notifier, mut waiter) = (word.notifier(), answers.waiter());
            for n in 0..2000 {
                producer.push(n).unwrap();
                notifier.notify(&park);
                let deadline = Deadline::after(&park, PATIENCE);
                assert_eq!(answered.pop_wait(&mut waiter, &park, deadline), Ok(n));
            }
        })
    };
    let mut notifier = answers.notifier();
    for n in 0..2000 {
        let waited = timeout(PATIENCE, ready.readable(|| !consumer.is_empty())).await;
        waited.expect("a wake is lost").unwrap();
        assert_eq!(consumer.pop(), Ok(n));
        answer.push(n).unwrap();
        notifier.notify(&park);
    }
    sender.join().unwrap();
}

/// A wait given up leaves nothing behind: what comes in between is found by the next.
#[tokio::test]
async fn it_is_cancel_safe() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut ready = AsyncReadyFd::new(ready).unwrap();
    let mut ring = SpscRing::<u32, 4>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut notifier = word.notifier();
    for n in 0..50 {
        let wait = ready.readable(|| !consumer.is_empty());
        assert!(timeout(Duration::from_millis(1), wait).await.is_err(), "nothing is there");
        producer.push(n).unwrap();
        notifier.notify(&park);
        let waited = timeout(PATIENCE, ready.readable(|| !consumer.is_empty())).await;
        waited.expect("a wake is lost").unwrap();
        assert_eq!(consumer.pop(), Ok(n));
    }
    // Not registered any more, it is what it was.
    let mut ready = ready.into_inner();
    ready.clear().unwrap();
    assert!(!ready.arm(|| false));
    notifier.notify(&park);
    eventually("the wake is lost", || crate::readable_now(&ready));
}

/// It waits in a task that may move between threads.
#[test]
fn its_future_is_send() {
    fn send<T: Send>(_: T) {}
    fn check(mut ready: AsyncReadyFd<Arc<WakeWord>>, mut look: fn() -> bool) {
        send(ready.readable(&mut look));
    }
    let _ = check;
}
