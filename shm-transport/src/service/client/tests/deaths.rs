//! Workers that die, or write nonsense; services that end.

use super::hand::Hand;
use super::*;
use crate::service::failure::Failure;
use shm_primitives::channel::{Recovered, WorkerChannel};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{Condition, FunctionEntry, Orders};
use shm_primitives::place::Cause;
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;

/// What a supervisor does about a worker that died with a call in hand: the caller is told, and the
/// lane is nobody's.
fn recover(bare: &Bare, dead: OwnerId, place: u32, client: u32, cause: Cause) {
    let dead = bare.convict(dead);
    let key = bare.bells.layout.clients().tenancy(client).unwrap();
    let opened = crate::service::mapped::ClientMapped::open(
        &bare.domain,
        &bare.service,
        client,
        key.generation(),
        |_, _| Ok::<_, crate::service::mapped::MapError>(()),
    );
    let (mapped, ()) = opened.unwrap();
    let channel: WorkerChannel<'_> =
        mapped.layout.channel(bare.shape.place(place).unwrap()).unwrap();
    let lane = bare.shape.lane(place, client, key.generation()).unwrap();
    let mut monitor = bare.control.layout.monitor(place).unwrap().recover_writer(dead);
    let worker = match channel.recover_worker(dead, bare.member.id(), lane, &mut monitor).unwrap() {
        Recovered::Poison(mut poison) => {
            let said = Failure::Crashed { cause, attempt: 1, place: 0, letter: None };
            poison.fail(&said.to_bytes(64)).unwrap();
            poison.skip()
        }
        Recovered::Answered(_, worker) | Recovered::Nothing(worker) => worker,
    };
    drop(worker);
    monitor.reset();
    let recovered = bare.control.layout.workers().recover(dead, bare.member.id()).unwrap();
    recovered.for_each(drop);
    let bell = bare.bells.layout.client(client).unwrap();
    bell.bell().shared_notifier().notify(&crate::park::FutexPark::new());
}

fn declare(bare: &Bare, func_id: u32) {
    let entry = FunctionEntry { func_id, flags: FunctionEntry::IDEMPOTENT, threshold_ms: 0 };
    let slot = bare.control.layout.functions().claim(bare.member.id(), &entry).unwrap();
    slot.keep();
}

#[test]
fn a_crash_is_told() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let call = client.call_async(ECHO, b"boom", Priority::Low).unwrap();
    let behind = client.call_async(ECHO, b"behind", Priority::Low).unwrap();
    let dead = hand.die(None);
    recover(&bare, dead, 0, 0, Cause::Signalled(9));
    let crashed = call.wait(LONG);
    assert!(
        matches!(
            crashed,
            Err(CallError::WorkerCrashed { cause: Cause::Signalled(9), attempt: 1, .. })
        ),
        "{crashed:?}"
    );
    // The successor serves the rest.
    let mut hand = Hand::new(&bare, 0);
    hand.meet(0);
    hand.echo();
    assert_eq!(behind.wait(LONG).unwrap(), b"behind");
}

/// One that waits is not sent again, unless that was declared.
#[test]
fn what_may_not_be_run_twice_is_not() {
    let bare = Bare::new(SHAPE);
    declare(&bare, WHERE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    thread::scope(|scope| {
        let sync = scope.spawn(|| client.call(ECHO, b"once", Priority::Low, LONG));
        recover(&bare, hand.die(None), 0, 0, Cause::Panicked);
        let crashed = sync.join().unwrap();
        assert!(
            matches!(
                crashed,
                Err(CallError::WorkerCrashed { cause: Cause::Panicked, attempt: 1, .. })
            ),
            "{crashed:?}"
        );
    });
    let mut hand = Hand::new(&bare, 0);
    hand.meet(0);
    assert_eq!(hand.echo_all(), 0, "nothing was sent again");
}

/// The supervisor's death stops nobody: a worker that is at a call for long is no dead one, and
/// whoever is not dead is asked as before.
#[test]
fn no_supervisor_and_a_long_call() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let worker = start(&bare, 0, &gate);
    let client = connect(&bare);
    let mut call = client.call_async(GATED, b"", Priority::Low).unwrap();
    gate.meet();
    let (control, bells, place) = bare.orphan();
    // Longer than several looks.
    assert!(call.wait_for(Duration::from_millis(350)).is_none());
    gate.open();
    assert_eq!(number(call.wait(LONG).unwrap()), 0);
    assert_eq!(client.call(ECHO, b"on", Priority::Low, LONG).unwrap(), b"on");
    // Another client comes, too.
    let other = Client::builder("math").in_domain(place.domain()).connect().unwrap();
    assert_eq!(other.call(ECHO, b"too", Priority::Low, LONG).unwrap(), b"too");
    drop((client, other));
    let word = control.layout.segment().owner().unwrap().unwrap();
    control.layout.segment().resume_control(word).unwrap().close();
    worker.join().unwrap().unwrap();
    drop((control, bells, place));
}

/// A call that was answered before the death is answered, whatever is found about the death first.
#[test]
fn an_answer_counts_more_than_the_death_after_it() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let dead = hand.die(Some(b"made it"));
    recover(&bare, dead, 0, 0, Cause::Signalled(9));
    assert_eq!(call.wait(LONG).unwrap(), b"made it");
}

#[test]
fn what_may_be_run_twice_is() {
    let bare = Bare::new(SHAPE);
    declare(&bare, ECHO);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    thread::scope(|scope| {
        let sync = scope.spawn(|| client.call(ECHO, b"again", Priority::Low, LONG));
        recover(&bare, hand.die(None), 0, 0, Cause::Exited(1));
        let mut hand = Hand::new(&bare, 0);
        hand.meet(0);
        hand.echo();
        assert_eq!(sync.join().unwrap().unwrap(), b"again");
        drop(hand);
    });
    let mut call = client.call_async(ECHO, b"and again", Priority::Low).unwrap();
    for attempt in 1..=3 {
        assert!(call.wait_for(SHORT).is_none());
        let mut hand = Hand::new(&bare, 0);
        hand.meet(0);
        recover(&bare, hand.die(None), 0, 0, Cause::Exited(attempt));
        // The caller sends it again.
        if attempt < 3 {
            assert!(call.wait_for(SHORT).is_none());
        }
    }
    let crashed = call.wait(LONG);
    assert!(
        matches!(
            crashed,
            Err(CallError::WorkerCrashed { cause: Cause::Exited(3), attempt: 3, .. })
        ),
        "{crashed:?}"
    );
}

/// Without a supervisor the client finds out itself.
#[test]
fn no_supervisor() {
    for answer in [None, Some(&b"made it"[..])] {
        let bare = Bare::new(SHAPE);
        bare.run(0, 1);
        let mut hand = Hand::new(&bare, 0);
        let client = connect(&bare);
        hand.meet(0);
        let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
        // Nobody convicts a supervisor that lives, or a worker under one.
        let id = hand.die(answer);
        bare.convict(id);
        let left = bare.orphan();
        let result = call.wait(LONG);
        match answer {
            Some(answer) => assert_eq!(result.unwrap(), answer),
            None => assert!(
                matches!(
                    result,
                    Err(CallError::WorkerCrashed { cause: Cause::Unknown, attempt: 1, .. })
                ),
                "{result:?}"
            ),
        }
        drop(client);
        drop(left);
    }
}

/// And calls go to those that live, as long as the dead one has its place.
#[test]
fn no_supervisor_and_others_live() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    assert_eq!(call.place(), Some(0));
    let dead = bare.convict(hand.die(None));
    let (control, bells, directory) = bare.orphan();
    assert!(matches!(call.wait(LONG), Err(CallError::WorkerCrashed { .. })));
    let send = || client.call_async(ECHO, b"", Priority::Low).unwrap();
    let calls: Vec<_> = (0..4).map(|_| send()).collect();
    assert!(calls.iter().all(|call| call.place() == Some(1)));
    // Somebody has put it away.
    let recovered = control.layout.workers().recover(dead, client.family.owner()).unwrap();
    recovered.for_each(drop);
    // Longer than it relies on its last look.
    thread::sleep(SHORT);
    assert_eq!(send().place(), Some(0));
    drop((calls, client));
    drop((control, bells, directory));
}

/// A call that waits behind the one that killed its worker is not taken for it; nor is one of
/// another client.
#[test]
fn no_supervisor_and_calls_that_wait() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let (client, other) = (connect(&bare), connect(&bare));
    hand.meet(0);
    let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let mut behind = client.call_async(ECHO, b"", Priority::Low).unwrap();
    let mut others = other.call_async(ECHO, b"", Priority::Low).unwrap();
    let id = hand.die(None);
    bare.convict(id);
    let left = bare.orphan();
    assert!(matches!(call.wait(LONG), Err(CallError::WorkerCrashed { .. })));
    let while_others_are_told = Duration::from_millis(250);
    assert!(behind.wait_for(while_others_are_told).is_none());
    assert!(others.wait_for(while_others_are_told).is_none());
    drop((behind, others, client, other));
    drop(left);
}

/// Who waits cannot look while another reads, which may be for calls of its own that are answered too
/// soon for it to need that: it looks all the same, when it has done.
#[test]
fn no_supervisor_and_another_reads() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let mut hand = Hand::new(&bare, 0);
    let client = connect(&bare);
    hand.meet(0);
    let mut lost = client.call_async(ECHO, b"", Priority::Low).unwrap();
    bare.convict(hand.die(None));
    let left = bare.orphan();
    let connection = client.connected(None).unwrap().shared();
    let reading = connection.role().expect("nobody reads");
    assert!(lost.try_wait().is_none(), "nobody could look");
    connection.resign(reading);
    // This looks at the call first, and after the dead only if that has not ended.
    let told = lost.try_wait();
    assert!(matches!(told, Some(Err(CallError::WorkerCrashed { .. }))), "{told:?}");
    drop((lost, connection, client));
    drop(left);
}

/// What is no reply ends that lane's calls, and no others.
#[test]
fn nonsense() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let mut hands = [0, 1].map(|place| Hand::new(&bare, place));
    let client = connect(&bare);
    hands.iter_mut().for_each(|hand| hand.meet(0));
    let calls: Vec<_> =
        (0..8).map(|_| client.call_async(ECHO, b"x", Priority::Low).unwrap()).collect();
    let (bad, good): (Vec<_>, Vec<_>) = calls.into_iter().partition(|it| it.place() == Some(0));
    assert_eq!((bad.len(), good.len()), (4, 4));
    // A frame that is no reply.
    let [hand, other] = &mut hands;
    let mut writer = hand.responses();
    writer.push(b"nonsense").unwrap();
    for call in bad {
        let corrupt = call.wait(LONG);
        assert!(matches!(corrupt, Err(CallError::Corrupt { place: 0 })), "{corrupt:?}");
    }
    other.echo();
    for call in good {
        assert_eq!(call.wait(LONG).unwrap(), b"x");
    }
    // That lane goes on.
    drop(writer);
    hand.meet(0);
    let calls: Vec<_> =
        (0..8).map(|_| client.call_async(ECHO, b"y", Priority::Low).unwrap()).collect();
    let (hand, other) = (hand, other);
    soon("all are answered", || {
        hand.echo_all();
        other.echo_all();
        calls.iter().all(|call| call.progress().is_none()) && hand.echo_all() == 0
    });
    for call in calls {
        assert_eq!(call.wait(LONG).unwrap(), b"y");
    }
}

/// A worker answers what is not its own: calls in another lane, of another client, of nobody.
#[test]
fn replies_to_others() {
    use shm_primitives::message::{MsgHeader, MsgStatus, SeqId};
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let mut hands = [0, 1].map(|place| Hand::new(&bare, place));
    let client = connect(&bare);
    hands.iter_mut().for_each(|hand| hand.meet(0));
    let mut calls: Vec<_> =
        (0..2).map(|_| client.call_async(ECHO, b"x", Priority::Low).unwrap()).collect();
    let at = calls.iter().position(|call| call.place() == Some(0)).unwrap();
    let (mine, other) = (calls.remove(at), calls.remove(0));
    let seq = other.seq_id().unwrap();
    let id = SeqId::from_raw(seq).unwrap();
    let [hand, second] = &mut hands;
    let mut writer = hand.responses();
    let my_counter = SeqId::from_raw(mine.seq_id().unwrap()).unwrap().counter();
    for seq in [
        seq,
        SeqId::new(id.place() + 1, id.generation(), my_counter).unwrap().raw(),
        SeqId::new(id.place(), id.generation() + 1, my_counter).unwrap().raw(),
        SeqId::new(id.place(), id.generation(), my_counter + (1 << 30)).unwrap().raw(),
    ] {
        let mut reply = MsgHeader::new(seq, ECHO, 3).to_bytes().to_vec();
        reply.extend((MsgStatus::Completed as u32).to_le_bytes());
        reply.extend(b"bad");
        writer.push(&reply).unwrap();
    }
    drop(writer);
    client.connected(None).unwrap().glance();
    hand.meet(0);
    hand.echo();
    second.echo();
    assert_eq!(mine.wait(LONG).unwrap(), b"x");
    assert_eq!(other.wait(LONG).unwrap(), b"x");
}

/// A length that no frame has: that lane is of no use any more, and calls go elsewhere.
#[test]
fn corrupt() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let mut hands = [0, 1].map(|place| Hand::new(&bare, place));
    let client = connect(&bare);
    hands.iter_mut().for_each(|hand| hand.meet(0));
    let calls: Vec<_> =
        (0..8).map(|_| client.call_async(ECHO, b"x", Priority::Low).unwrap()).collect();
    let (bad, good): (Vec<_>, Vec<_>) = calls.into_iter().partition(|it| it.place() == Some(0));
    let [hand, other] = &mut hands;
    let shape = bare.shape.client_shape(0);
    let at = shape.place_of(bare.shape.place(0).unwrap()).unwrap();
    let channel = bare.shape.normal.channel().unwrap();
    let data = at.end - channel.responses.required_size().unwrap() + 256;
    let region = hand.mapped.as_ref().unwrap().segment.region().part(data, 4).unwrap();
    AtomicU32::at(&region).unwrap().store(3, Relaxed);
    for call in bad {
        let corrupt = call.wait(LONG);
        assert!(matches!(corrupt, Err(CallError::Corrupt { place: 0 })), "{corrupt:?}");
    }
    other.echo();
    for call in good {
        assert_eq!(call.wait(LONG).unwrap(), b"x");
    }
    for _ in 0..100 {
        let call = client.call_async(ECHO, b"y", Priority::Low).unwrap();
        assert_eq!(call.place(), Some(1));
        other.echo();
        assert_eq!(call.wait(LONG).unwrap(), b"y");
    }
    // The other one goes too.
    bare.order(1, Orders { condition: Condition::Failed, ..bare.orders(1) });
    thread::sleep(SHORT);
    let corrupt = client.call(ECHO, b"", Priority::Low, LONG);
    assert!(matches!(corrupt, Err(CallError::Corrupt { place: 0 })), "{corrupt:?}");
}

#[test]
fn a_service_that_ends() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    place_of(&client, Priority::Low);
    // In flight when the service goes.
    stop(&bare, 0, worker);
    let call = client.call_async(ECHO, b"", Priority::Low);
    let call = call.unwrap();
    let place = bare.stop();
    assert_eq!(client.state(), ClientState::ServiceGone);
    let gone = call.wait(LONG);
    assert!(matches!(gone, Err(CallError::ServiceGone)), "{gone:?}");
    let gone = client.call(ECHO, b"", Priority::Low, SHORT);
    let Err(CallError::Disconnected(why)) = gone else { panic!("{gone:?}") };
    assert!(matches!(*why, ConnectError::NoService { .. }), "{why}");
    assert!(!client.is_connected());
    assert!(matches!(client.call_async(ECHO, b"", Priority::Low), Err(CallError::Disconnected(_))));
    // It comes back.
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(ECHO, b"back", Priority::Low, LONG));
        thread::sleep(SHORT);
        let bare = Bare::at(place, SHAPE);
        let worker = start(&bare, 0, &Gate::default());
        assert_eq!(waits.join().unwrap().unwrap(), b"back");
        assert!(client.is_connected());
        client.disconnect();
        stop(&bare, 0, worker);
        drop(bare.stop());
    });
}

/// A new service of the same name has the same places: the file of one who has not noticed yet is
/// in the way of nobody.
#[test]
fn places_of_the_service_before() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let former = connect(&bare);
    let connection = former.connected(None).unwrap();
    let place = bare.stop();
    let bare = Bare::at(place, SHAPE);
    bare.run(0, 1);
    let client = connect(&bare);
    let key = bare.bells.layout.clients().iter().next().unwrap().unwrap().key;
    assert_ne!(key.index(), 0, "that one's file is there");
    let mut hand = Hand::new(&bare, 0);
    hand.meet(key.index());
    let call = client.call_async(ECHO, b"new", Priority::Low).unwrap();
    hand.echo();
    assert_eq!(call.wait(LONG).unwrap(), b"new");
    drop((former, connection));
    let next = connect(&bare);
    assert_eq!(bare.bells.layout.clients().owner(0), Some(next.family.owner()), "it was free");
}
