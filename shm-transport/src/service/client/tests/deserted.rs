//! Calls that nobody serves: their places have failed for good, or nobody lives any more.

use super::hand::Hand;
use super::*;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{Condition, Orders};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake};

fn condition(bare: &Bare, place: u32, condition: Condition) {
    bare.order(place, Orders { condition, ..bare.orders(place) });
}

/// Waits for a future, woken by its waker alone.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    let begun = Instant::now();
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        thread::park_timeout(LONG.saturating_sub(begun.elapsed()));
        assert!(begun.elapsed() < LONG, "a future was not woken");
    }
}

#[track_caller]
fn no_worker<T: fmt::Debug>(result: Result<T, CallError>, wanted: Priority) {
    assert!(
        matches!(result, Err(CallError::NoWorker { priority }) if priority == wanted),
        "{result:?}"
    );
}

/// Whoever is there dies, and nobody puts away what it had.
fn die(bare: &Bare, hand: Hand<'_>) -> OwnerId {
    let id = hand.die(None);
    bare.convict(id);
    id
}

/// However a caller waits; and none of it is run, though a worker comes later.
#[test]
fn what_is_queued_where_nobody_will_come_ends() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let send = || client.call_async(ECHO, b"queued", Priority::Low).unwrap();
    let (first, second, third) = (send(), send(), send());
    let urgent = client.call_async(ECHO, b"queued", Priority::High).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(ECHO, b"queued", Priority::Low, LONG));
        let connection = client.connected(None).unwrap();
        soon("it has sent", || connection.calls.in_flight().count() == 5);
        condition(&bare, 0, Condition::Failed);
        no_worker(waits.join().unwrap(), Priority::Low);
    });
    no_worker(first.wait(LONG), Priority::Low);
    no_worker(block_on(second), Priority::Low);
    no_worker(urgent.wait(LONG), Priority::High);
    no_worker(third.wait(Duration::ZERO), Priority::Low);
    no_worker(client.call(ECHO, b"new", Priority::Low, LONG), Priority::Low);
    // The place is tried again.
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    hand.meet(0);
    assert_eq!(hand.echo_all(), 0, "nothing of it is left");
    let call = send();
    hand.echo();
    assert_eq!(call.wait(LONG).unwrap(), b"queued");
}

/// A future that nobody but its waker wakes.
#[test]
fn so_does_a_future_that_was_pending() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    thread::scope(|scope| {
        let pending = scope.spawn(|| block_on(call));
        let connection = client.connected(None).unwrap();
        soon("it is pending", || connection.calls.wakers() != 0);
        condition(&bare, 0, Condition::Failed);
        no_worker(pending.join().unwrap(), Priority::Low);
    });
}

/// Who never waits, and looks now and then.
#[test]
fn so_does_one_that_is_looked_at() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    assert!(call.try_wait().is_none());
    condition(&bare, 0, Condition::Failed);
    let mut result = None;
    soon("it has ended", || {
        result = call.try_wait();
        result.is_some()
    });
    no_worker(result.unwrap(), Priority::Low);
}

/// Who may yet be served waits: another of the group is to come, or has the lane.
#[test]
fn what_somebody_may_serve_waits() {
    let several_looks = Duration::from_millis(350);
    for other in [Condition::Up, Condition::Starting, Condition::BackOff, Condition::Suspect] {
        let bare = Bare::new(SHAPE);
        bare.run(0, 1);
        let client = connect(&bare);
        let mut call = client.call_async(ECHO, b"", Priority::Low).unwrap();
        condition(&bare, 1, other);
        condition(&bare, 0, Condition::Failed);
        assert!(call.wait_for(several_looks).is_none(), "{other}");
        // None comes.
        condition(&bare, 1, Condition::Failed);
        no_worker(call.wait(LONG), Priority::Low);
    }
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"served", Priority::Low).unwrap();
    let mut hand = Hand::new(&bare, 0);
    hand.meet(0);
    condition(&bare, 0, Condition::Failed);
    assert!(call.wait_for(several_looks).is_none(), "somebody has the lane");
    hand.echo();
    assert_eq!(call.wait(LONG).unwrap(), b"served");
}

/// All are stopped then, too, and that is not what is said.
#[test]
fn a_service_that_is_stopped_is_gone() {
    let mut bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    bare.control_word.close();
    condition(&bare, 0, Condition::Stopped);
    assert!(call.wait_for(Duration::from_millis(350)).is_none());
    let place = bare.stop();
    let gone = call.wait(LONG);
    assert!(matches!(gone, Err(CallError::ServiceGone)), "{gone:?}");
    drop((client, place));
}

/// Server and workers are dead, and conditions say what they said.
#[test]
fn nobody_lives() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let in_hand = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let behind = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let pending = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let mut looked_at = client.call_async(ECHO, b"", Priority::Low).unwrap();
    die(&bare, hand);
    assert_eq!(client.state(), ClientState::Connected, "the server lives");
    let domain = bare.domain.clone();
    let left = bare.orphan();
    assert!(matches!(in_hand.wait(LONG), Err(CallError::WorkerCrashed { .. })));
    assert_eq!(client.state(), ClientState::Unattended);
    assert!(!client.is_connected());
    let unattended = |result: Result<Vec<u8>, CallError>| {
        let Err(CallError::Unattended { service }) = &result else { panic!("{result:?}") };
        assert_eq!(**service, *client.service());
    };
    // Those whose time is up.
    unattended(client.call(ECHO, b"", Priority::Low, Duration::ZERO));
    unattended(client.call(ECHO, b"", Priority::Low, Duration::from_millis(250)));
    unattended(behind.wait(SHORT));
    // One that waits goes on to, for a while.
    assert!(looked_at.wait_for(Duration::from_millis(350)).is_none());
    thread::scope(|scope| {
        let pending = scope.spawn(|| block_on(pending));
        let connection = client.connected(None).unwrap();
        soon("it is known for how long", || connection.has_waited());
        unattended(pending.join().unwrap());
    });
    unattended(looked_at.wait(LONG));
    // Nobody connects.
    let other = Client::builder("math").in_domain(domain).connect_timeout(SHORT).connect();
    assert!(matches!(other, Err(ConnectError::NotReady { .. })), "{other:?}");
    drop(client);
    drop(left);
}

/// A server that comes in time finds what waits.
#[test]
fn a_server_comes() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"in time", Priority::Low).unwrap();
    let (control, bells, place) = bare.orphan();
    assert!(call.wait_for(Duration::from_millis(350)).is_none());
    let connection = client.connected(None).unwrap();
    assert!(connection.has_waited());
    // A worker by hand will do: it lives.
    let domain = place.domain();
    let member = crate::member::Member::join(&domain, "hand").unwrap();
    let slot = control.layout.claim_worker(0, 1, member.id()).unwrap();
    assert_eq!(client.state(), ClientState::Connected);
    assert!(call.wait_for(Duration::from_millis(350)).is_none(), "somebody is there");
    let late = client.call(ECHO, b"", Priority::Low, SHORT);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    drop((slot, connection, call, client));
    // SAFETY: its place was given back.
    unsafe { member.leave() }.unwrap();
    drop((control, bells, place));
}
