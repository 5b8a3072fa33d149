//! Which worker a call goes to.

use super::super::super::mapped::{ClientMapped, MapError};
use super::hand::Hand;
use super::*;
use shm_primitives::layout::service::{Condition, Orders};

fn set(bare: &Bare, place: u32, condition: Condition) {
    bare.order(place, Orders { condition, ..bare.orders(place) });
}

#[test]
fn the_least_loaded() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let workers = [0, 1].map(|place| start(&bare, place, &gate));
    let (client, other) = (connect(&bare), connect(&bare));
    // Both have lanes everywhere, and have called a while ago.
    let _ = (place_of(&client, Priority::Low), place_of(&other, Priority::Low));
    let long = other.call_async(GATED, b"", Priority::Low).unwrap();
    gate.meet();
    let busy = long.place().unwrap();
    // It sees so at its next look, within some milliseconds.
    thread::sleep(SHORT);
    for _ in 0..20 {
        assert_eq!(place_of(&client, Priority::Low), 1 - busy);
    }
    gate.open();
    long.wait(LONG).unwrap();
    drop((client, other));
    for (place, worker) in (0..).zip(workers) {
        stop(&bare, place, worker);
    }
}

#[test]
fn priorities() {
    let bare = Bare::new(SHAPE);
    let gate = Gate::default();
    let normal = start(&bare, 1, &gate);
    let client = connect(&bare);
    // No VIP worker is up.
    assert_eq!(place_of(&client, Priority::High), 1);
    let vip = start(&bare, 2, &gate);
    // It is looked again.
    soon("the VIP worker has them", || place_of(&client, Priority::High) == 2);
    for _ in 0..20 {
        assert_eq!(place_of(&client, Priority::High), 2);
        assert_eq!(place_of(&client, Priority::Low), 1);
    }
    // Normal load does not hold them up.
    let long = client.call_async(GATED, b"", Priority::Low).unwrap();
    gate.meet();
    assert_eq!(place_of(&client, Priority::High), 2);
    gate.open();
    assert_eq!(number(long.wait(LONG).unwrap()), 1);
    stop(&bare, 2, vip);
    set(&bare, 2, Condition::BackOff);
    soon("the normal one has them", || {
        client.call(WHERE, b"", Priority::High, SHORT).is_ok_and(|place| number(place) == 1)
    });
    drop(client);
    stop(&bare, 1, normal);
}

/// The worker at place 1 is back, and idle; but its former helper is at a long call, and has the
/// lanes there still.
#[test]
fn who_has_the_lane_counts_and_not_whose_place_it_is() {
    let bare = Bare::new(Shape::new(GroupShape::new(3, 64), GroupShape::new(0, 16)).clients(8));
    let gate = Gate::default();
    let workers = [0, 1, 2].map(|place| start(&bare, place, &gate));
    let client = connect(&bare);
    let set_both = |condition| [0, 2].into_iter().for_each(|other| set(&bare, other, condition));
    // It has a lane there.
    set_both(Condition::BackOff);
    soon("it goes there", || place_of(&client, Priority::Low) == 1);
    set_both(Condition::Up);
    let [first, second, third] = workers;
    stop(&bare, 1, second);
    set(&bare, 1, Condition::BackOff);
    bare.help(1, Some(0));
    let (tenancy, helper) = (
        bare.bells.layout.clients().tenancy(0).unwrap().generation(),
        bare.control.layout.workers().owner(0),
    );
    let opened =
        ClientMapped::open(&bare.domain, &bare.service, 0, tenancy, |_, _| Ok::<_, MapError>(()));
    let lane = opened.unwrap().0;
    let lane = lane.layout.channel(bare.shape.place(1).unwrap()).unwrap();
    soon("it helps", || lane.worker() == Ok([helper; 2]));
    soon("it is seen that the place has nobody of its own", || {
        let call = client.call_async(WHERE, b"", Priority::Low).unwrap();
        let place = call.place();
        call.wait(LONG).unwrap();
        place == Some(0)
    });
    let long = client.call_async(GATED, b"", Priority::Low).unwrap();
    assert_eq!(long.place(), Some(0));
    gate.meet();
    bare.help(1, None);
    bare.run(1, 2);
    let (assignment, its_gate) = (bare.assignment(1, 2), gate.clone());
    let second = thread::spawn(move || prepare(Worker::attach(assignment)?, its_gate).run());
    bare.wait_serving(1, 2);
    // It sees so at its next look, within some milliseconds.
    thread::sleep(SHORT);
    for _ in 0..40 {
        let found = client.call(WHERE, b"", Priority::Low, LONG).unwrap();
        assert_eq!(number(found), 2);
    }
    assert_eq!(lane.worker(), Ok([helper; 2]), "it has the lane all the time");
    // Nothing goes there at all if that one is stuck, though the place is up.
    set(&bare, 0, Condition::Stuck);
    set(&bare, 2, Condition::Failed);
    thread::sleep(SHORT);
    let nobody = client.call(WHERE, b"", Priority::Low, LONG);
    assert!(matches!(nobody, Err(CallError::NoWorker { .. })), "{nobody:?}");
    set_both(Condition::Up);
    gate.open();
    assert_eq!(number(long.wait(LONG).unwrap()), 0);
    // It gives them back, and the place is one as any.
    set_both(Condition::BackOff);
    soon("it goes there", || place_of(&client, Priority::Low) == 1);
    drop(client);
    for (place, worker) in (0..).zip([first, second, third]) {
        stop(&bare, place, worker);
    }
}

#[test]
fn nobody() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, &Gate::default());
    let client = connect(&bare);
    stop(&bare, 0, worker);
    set(&bare, 0, Condition::Failed);
    thread::sleep(SHORT);
    for priority in [Priority::Low, Priority::High] {
        let nobody = client.call(ECHO, b"", priority, LONG);
        assert!(matches!(nobody, Err(CallError::NoWorker { priority: of }) if of == priority));
        let nobody = client.call_async(ECHO, b"", priority);
        assert!(matches!(nobody, Err(CallError::NoWorker { .. })));
    }
    // Nor to one that is stuck, nor to a spare, whoever serves what is there.
    bare.run(1, 1);
    for condition in [Condition::Stuck, Condition::Spare] {
        bare.order(0, Orders { condition, helper: Some(1), ..bare.orders(0) });
        set(&bare, 1, Condition::Up);
        thread::sleep(SHORT);
        let call = client.call_async(ECHO, b"", Priority::Low).unwrap();
        assert_eq!(call.place(), Some(1), "{condition}");
        drop(call);
        set(&bare, 1, Condition::Failed);
        thread::sleep(SHORT);
        let nobody = client.call(ECHO, b"", Priority::Low, LONG);
        assert!(matches!(nobody, Err(CallError::NoWorker { .. })), "{condition}");
    }
    bare.help(0, None);
    // One that is about to come back is waited for.
    set(&bare, 0, Condition::BackOff);
    thread::sleep(SHORT);
    let call = client.call_async(WHERE, b"", Priority::Low).unwrap();
    let worker = {
        bare.run(0, 2);
        let assignment = bare.assignment(0, 2);
        thread::spawn(move || prepare(Worker::attach(assignment)?, Gate::default()).run())
    };
    assert_eq!(number(call.wait(LONG).unwrap()), 0);
    drop(client);
    stop(&bare, 0, worker);
}

/// A thread that calls while another one looks does not go by what was seen long before.
#[test]
fn two_look_at_a_time() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let (choice, control) = (super::super::choose::Choice::new(&SHAPE, 0), &bare.control.layout);
    let best = || choice.best(Priority::Low, &[], |_| Some(0));
    choice.refresh(control, |_| None);
    assert_eq!(best(), Some(0));
    set(&bare, 0, Condition::Failed);
    thread::sleep(SHORT);
    let seen = std::cell::Cell::new(None);
    choice.refresh(control, |_| {
        if seen.get().is_none() {
            // The other thread, in the middle of this one's look.
            choice.refresh(control, |_| None);
            seen.set(best());
        }
        None
    });
    assert_eq!((seen.get(), best()), (Some(1), Some(1)));
}

#[test]
fn full_lanes() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.run(1, 1);
    let mut hands = [0, 1].map(|place| Hand::new(&bare, place));
    let client = connect(&bare);
    hands.iter_mut().for_each(|hand| hand.meet(0));
    let mut calls = Vec::new();
    let full = loop {
        match client.call_async(ECHO, b"x", Priority::Low) {
            Ok(call) => calls.push(call),
            Err(error) => break error,
        }
        assert!(calls.len() < 10_000);
    };
    assert!(matches!(full, CallError::Full { in_flight } if in_flight as usize == calls.len()));
    let here = calls.iter().filter(|call| call.place() == Some(0)).count();
    assert!(here >= 64 && calls.len() - here >= 64, "{here} of {}", calls.len());
    let full = client.call(ECHO, b"x", Priority::Low, SHORT);
    assert!(matches!(full, Err(CallError::Full { .. })), "{full:?}");
    // One that waits gets the first room there is.
    let most = calls.len();
    thread::scope(|scope| {
        let late = scope.spawn(|| client.call(ECHO, b"late", Priority::Low, LONG));
        thread::sleep(SHORT);
        let mut served = 0;
        soon("it is served", || {
            hands.iter_mut().for_each(|hand| served += hand.echo_all());
            served == most + 1
        });
        assert_eq!(late.join().unwrap().unwrap(), b"late");
    });
    for call in calls {
        assert_eq!(call.wait(LONG).unwrap(), b"x");
    }
}

fn memory_of_client(bare: &Bare) -> u64 {
    let name = bare.files().into_iter().find(|name| name.contains(".client.")).unwrap();
    let file = std::fs::metadata(bare.place.directory.join(name)).unwrap();
    std::os::unix::fs::MetadataExt::blocks(&file) * 512
}

/// What a spare costs each client while nobody is there.
#[test]
fn a_spare_takes_two_pages() {
    let of = |spares| {
        let bare = Bare::new(Shape::DEFAULT.clients(8).spares(spares));
        bare.run(0, 1);
        let _client = connect(&bare);
        memory_of_client(&bare)
    };
    // Both groups have one. One page more where they are cut.
    let more = of(1) - of(0);
    assert!((4 * 4096..=5 * 4096).contains(&more), "{more}");
}

/// A client's memory: what it needs to be there, then what it uses.
#[test]
fn lanes_take_memory_when_they_are_used() {
    let bare = Bare::new(SHAPE);
    let workers = [0, 1].map(|place| start(&bare, place, &Gate::default()));
    let client = connect(&bare);
    let own = || memory_of_client(&bare);
    let before = own();
    let lane = SHAPE.client_shape(0).place_of(SHAPE.place(0).unwrap()).unwrap().len() as u64;
    // Two pages for each lane, and one for each group, at the most two more where they are cut.
    assert!(before <= 4096 * (2 * 2 * 3 + 2 * 2), "{before}");
    place_of(&client, Priority::Low);
    let after = own();
    assert!(after > before && after <= before + lane + 8192, "{before} {after} {lane}");
    drop(client);
    for (place, worker) in (0..).zip(workers) {
        stop(&bare, place, worker);
    }
}
