//! Coming and going.

use super::*;
use shm_primitives::layout::service::{ClientEntry, Condition, Orders};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

#[test]
fn there_is_no_service() {
    let place = crate::service::bare::Place::new();
    let builder = Client::builder("math").in_domain(place.domain());
    let none = builder.clone().connect_timeout(Duration::ZERO).connect();
    assert!(matches!(none, Err(ConnectError::NoService { .. })), "{none:?}");
    let none = builder.connect_timeout(SHORT).connect();
    let Err(ConnectError::NoService { waited, .. }) = none else { panic!("{none:?}") };
    assert!(waited >= SHORT);
    assert_eq!(place.files(), [""; 0], "nothing is left");
    let long = "x".repeat(65);
    for name in ["", &long, "a\0b"] {
        let builder = Client::builder(name).in_domain(place.domain());
        assert!(matches!(builder.connect(), Err(ConnectError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_service_that_comes_later() {
    let place = crate::service::bare::Place::new();
    let builder = Client::builder("math").in_domain(place.domain()).connect_timeout(LONG);
    thread::scope(|scope| {
        let waits = scope.spawn(|| builder.connect().unwrap());
        thread::sleep(SHORT);
        let bare = Bare::at(place, SHAPE);
        let not_ready = Client::builder("math").in_domain(bare.domain.clone());
        let not_ready = not_ready.connect_timeout(SHORT).connect();
        assert!(matches!(not_ready, Err(ConnectError::NotReady { .. })), "{not_ready:?}");
        assert!(!waits.is_finished());
        let worker = start(&bare, 1, &Gate::default());
        let client = waits.join().unwrap();
        assert_eq!(place_of(&client, Priority::Low), 1);
        drop(client);
        stop(&bare, 1, worker);
    });
}

#[test]
fn places_are_taken_and_given_back() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let before = bare.files();
    let clients: Vec<_> = (0..SHAPE.clients).map(|_| connect(&bare)).collect();
    let full = builder(&bare).connect_timeout(SHORT).connect();
    assert!(matches!(full, Err(ConnectError::PlacesTaken { clients: 8, .. })), "{full:?}");
    let entries: Vec<ClientEntry> =
        bare.bells.layout.clients().iter().map(|it| it.unwrap().entry).collect();
    assert!(entries.iter().all(|entry| entry.pid == std::process::id()));
    assert_eq!(entries.len(), 8);
    assert_eq!(bare.files().len(), before.len() + 8);
    drop(clients);
    assert_eq!(bare.files(), before);
    assert_eq!(bare.bells.layout.clients().owners().count(), 0);
    // One process is left: the supervisor.
    assert_eq!(bare.member.processes().verdicts().count(), 1);
}

#[test]
fn clones_have_places_of_their_own() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    let clone = client.clone();
    assert_eq!(clone.state(), ClientState::Disconnected, "it has not called");
    assert_eq!(bare.bells.layout.clients().owners().count(), 1);
    assert_eq!(place_of(&clone, Priority::Low), 0);
    assert_eq!(bare.bells.layout.clients().owners().count(), 2);
    assert!(clone.is_connected());
    drop(client);
    assert_eq!(bare.bells.layout.clients().owners().count(), 1);
    assert_eq!(place_of(&clone, Priority::Low), 0);
    clone.disconnect();
    assert_eq!(clone.state(), ClientState::Disconnected);
    assert_eq!(bare.bells.layout.clients().owners().count(), 0);
    // Supervisor, worker, client.
    assert_eq!(bare.member.processes().verdicts().count(), 3);
    assert_eq!(place_of(&clone, Priority::Low), 0, "connected anew");
    drop(clone);
    stop(&bare, 0, worker);
    assert_eq!(bare.member.processes().verdicts().count(), 1);
}

#[test]
fn disconnecting_ends_calls() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(ECHO, b"", Priority::Low, LONG));
        let connection = client.connected(None).unwrap();
        soon("it waits", || connection.calls.in_flight().count() == 1);
        let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
        client.disconnect();
        assert!(matches!(waits.join().unwrap(), Err(CallError::ServiceGone)));
        assert!(matches!(call.wait(LONG), Err(CallError::ServiceGone)));
    });
    assert_eq!(bare.bells.layout.clients().owners().count(), 0);
}

#[test]
fn what_is_none_of_this_version() {
    use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let region = bare.control.segment.region();
    let words = AtomicU32::slice_at(&region, 5).unwrap();
    // min_reader
    words[4].store(99, Relaxed);
    let newer = builder(&bare).connect();
    assert!(matches!(newer, Err(ConnectError::Layout { .. })), "{newer:?}");
    words[4].store(1, Relaxed);
    words[0].store(7, Relaxed);
    assert!(matches!(builder(&bare).connect(), Err(ConnectError::Layout { .. })));
}

#[test]
fn suspects_and_stopped_ones_are_not_up() {
    let bare = Bare::new(SHAPE);
    for condition in [Condition::Suspect, Condition::BackOff, Condition::Failed] {
        bare.order(0, Orders { condition, ..bare.orders(0) });
        let not_ready = builder(&bare).connect_timeout(Duration::ZERO).connect();
        assert!(matches!(not_ready, Err(ConnectError::NotReady { .. })), "{not_ready:?}");
    }
    // One with a helper is.
    bare.run(1, 1);
    bare.order(0, Orders { helper: Some(1), ..bare.orders(0) });
    bare.order(1, Orders { condition: Condition::Up, ..bare.orders(1) });
    connect(&bare);
}

/// Ids that are used up: a new place, and calls in flight go on.
#[test]
fn used_up() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let worker = start(&bare, 0, &gate);
    let client = connect(&bare);
    let long = client.call_async(GATED, b"", Priority::Low).unwrap();
    gate.meet();
    let before = client.connected(None).unwrap().shared();
    before.calls.jump(1 << 40);
    let next = client.call_async(ECHO, b"next", Priority::Low).unwrap();
    assert!(!Arc::ptr_eq(&before, &client.connected(None).unwrap().shared()));
    gate.open();
    assert_eq!(number(long.wait(LONG).unwrap()), 0);
    assert_eq!(next.wait(LONG).unwrap(), b"next");
    drop(before);
    assert_eq!(bare.bells.layout.clients().owners().count(), 1);
    drop(client);
    stop(&bare, 0, worker);
}

/// A call that was given up does not give up the one whose id ends alike.
#[test]
fn ids_that_end_alike() {
    use shm_primitives::message::SeqId;
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let worker = start(&bare, 0, &gate);
    let client = connect(&bare);
    let former = client.call_async(GATED, b"", Priority::Low).unwrap();
    let counter = SeqId::from_raw(former.seq_id().unwrap()).unwrap().counter();
    gate.meet();
    drop(former);
    gate.open();
    client.connected(None).unwrap().calls.jump(counter + (1 << 32));
    let call = client.call_async(ECHO, b"mine", Priority::Low).unwrap();
    let id = SeqId::from_raw(call.seq_id().unwrap()).unwrap();
    assert_eq!(id.counter(), counter + (1 << 32));
    assert_eq!(call.wait(LONG).unwrap(), b"mine");
    drop(client);
    stop(&bare, 0, worker);
}

/// The segment of a client that died under a former service of that name is in nobody's way.
#[test]
fn a_dead_ones_segment() {
    use crate::member::Member;
    use crate::service::mapped::{ClientMapped, MapError};
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let member = Member::join(&bare.domain, "dead").unwrap();
    let (domain, service) = (&bare.domain, &bare.service);
    let made = ClientMapped::create::<MapError>(domain, service, &SHAPE, 0, 1, member.id());
    let (mapped, control) = made.unwrap();
    let owner = control.keep();
    drop(mapped);
    // SAFETY: nothing is touched under that id any more.
    unsafe { member.leave() }.unwrap();
    bare.convict(owner);
    let client = connect(&bare);
    assert_eq!(bare.bells.layout.clients().owner(0), Some(client.family.owner()));
}

/// Nor are files that are no segments, with such names: they stay, and others are found.
#[test]
fn what_is_no_segment_is_passed_over() {
    use crate::service::name::client_of;
    for clients in [8, 1] {
        let bare = Bare::new(SHAPE.clients(clients));
        bare.run(0, 1);
        let path = |tenancy| bare.domain.path_of(&client_of(&bare.service, 0, tenancy));
        // A foreign one, one of a wrong length, and one that is empty.
        for (tenancy, length) in [(1, 8192), (2, 8191), (3, 0)] {
            std::fs::write(path(tenancy), vec![7; length]).unwrap();
        }
        let client = connect(&bare);
        let places = bare.bells.layout.clients();
        let mine: Vec<u32> = places.owners().map(|(place, _)| place).collect();
        // The next place, or, with one alone, the next of its tenancies that has no file.
        assert_eq!(mine, [u32::from(clients != 1)]);
        drop(client);
        assert!((1..=3).all(|tenancy| path(tenancy).exists()));
    }
}

/// A child has none of it.
#[test]
fn forked() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    let mut call = client.call_async(ECHO, b"parent", Priority::Low);
    let mut batch = client.batch(Priority::Low).unwrap();
    batch.add(ECHO, b"before").unwrap();
    // SAFETY: the child makes no use of what other threads may have locked, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = |result: Result<_, CallError>| {
            let Err(CallError::Disconnected(why)) = result else { return false };
            matches!(*why, ConnectError::Forked)
        };
        let right = forked(client.call(ECHO, b"", Priority::Low, LONG).map(drop))
            && forked(client.call_async(ECHO, b"", Priority::Low).map(drop))
            && forked(client.batch(Priority::Low).map(drop))
            && !client.is_connected();
        let context = &mut Context::from_waker(Waker::noop());
        let right = right
            && call.as_mut().is_ok_and(|call| {
                call.progress().is_none()
                    && call.wait_progress(LONG).is_none()
                    && call.try_wait().is_some_and(|it| forked(it.map(drop)))
                    && call.wait_for(LONG).is_some_and(|it| forked(it.map(drop)))
                    && forked(call.wait_mut(LONG).map(drop))
                    && match Pin::new(call).poll(context) {
                        Poll::Ready(it) => forked(it.map(drop)),
                        Poll::Pending => false,
                    }
            })
            && forked(batch.add(ECHO, b""))
            && batch.wait(LONG).into_iter().all(|it| forked(it.map(drop)));
        client.disconnect();
        drop((call, client));
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let mut status = 1;
    // SAFETY: a child of this process, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(call.unwrap().wait(LONG).unwrap(), b"parent");
    let [Ok(answer)] = &batch.wait(LONG)[..] else { panic!("one call") };
    assert_eq!(answer, b"before");
    assert_eq!(client.call(ECHO, b"still", Priority::Low, LONG).unwrap(), b"still");
    drop(client);
    stop(&bare, 0, worker);
}
