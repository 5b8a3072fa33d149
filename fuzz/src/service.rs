//! The body for the segments of a service.

use crate::common::memory::Memory;
use crate::common::park::FakePark;
use crate::common::{dead, owner};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::*;
use shm_primitives::sync::Ordering::Relaxed;
use std::mem::forget;

const MOST_OPS: usize = 200;

const SHAPE: Shape =
    Shape::new(GroupShape::new(2, 2), GroupShape::new(1, 1)).clients(3).functions(2).spares(1);
/// One more than there are.
const PLACES: u32 = 6;
const CLIENTS: u32 = 4;

#[derive(Arbitrary, Clone, Copy)]
enum Value {
    Exactly(u32),
    Small(u8),
    Power(u8),
    More(u8),
    Owner(u8),
}

impl Value {
    fn over(self, before: u32) -> u32 {
        match self {
            Self::Exactly(value) => value,
            Self::Small(value) => value.into(),
            Self::Power(bit) => 1u32.wrapping_shl(bit.into()),
            Self::More(value) => before.wrapping_add(value.into()),
            Self::Owner(index) => owner(u32::from(index % 4)).word(),
        }
    }
}

#[derive(Arbitrary, Clone, Copy)]
enum Op {
    PokeControl(u16, Value),
    PokeBells(u16, Value),
    AttachControl,
    AttachBells,
    Order { place: u8, incarnation: u8, order: u8, helper: u8, cause: (u8, u8) },
    ClaimWorker { place: u8, incarnation: u8, dies: bool },
    Convict(u8),
    Function(u8),
    Count(u8, u64),
    Serve { place: u8, by: u8 },
    Sleepless(u8, bool),
    Client { by: u8, dies: bool },
    Announce { place: u8, client: u8 },
    Sweep { place: u8, by: u8 },
    Cancel { place: u8, client: u8, seq: u8 },
}

/// Overwrites a word: of the first of the memory, where headers are, or any.
fn poke(memory: &Memory, at: u16, value: Value) {
    let words = memory.size() / 4;
    let at = usize::from(at);
    let word = if at & 1 == 0 { at / 2 % words.min(112) } else { at / 2 % words };
    memory.set(4 * word, value.over(memory.get(4 * word)));
}

/// All that the processes of a service do, in memory whose words may be overwritten between
/// operations: no panic, no access outside, no endless loop. As long as none was, attaching
/// succeeds, orders are what was written last, and who is rung is who serves.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let fill = u.arbitrary()?;
    let memory = Memory::new(SHAPE.control_size().expect("small"), fill);
    // SAFETY: one thread alone.
    let created = unsafe { ControlLayout::init_at(memory.region(), &SHAPE, owner(1)) };
    let (mut control, word) = created.expect("a valid shape");
    let rings = Memory::new(SHAPE.bells_size().expect("small"), fill);
    // SAFETY: as above.
    let created = unsafe { BellsLayout::init_at(rings.region(), &SHAPE, owner(1)) };
    let (mut bells, bells_word) = created.expect("a valid shape");
    forget(bells_word);
    let (mut spoilt_control, mut spoilt_bells) = (false, false);
    let mut orders = [Orders::default(); PLACES as usize];
    let park = FakePark::new();
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        let place = |place: u8| u32::from(place) % PLACES;
        match u.arbitrary()? {
            Op::PokeControl(at, value) => {
                poke(&memory, at, value);
                spoilt_control = true;
            }
            Op::PokeBells(at, value) => {
                poke(&rings, at, value);
                spoilt_bells = true;
            }
            Op::AttachControl => match ControlLayout::attach(memory.region()) {
                Ok(layout) => control = layout,
                Err(error) => assert!(spoilt_control && !error.to_string().is_empty(), "{error}"),
            },
            Op::AttachBells => match BellsLayout::attach(rings.region()) {
                Ok(layout) => bells = layout,
                Err(error) => assert!(spoilt_bells && !error.to_string().is_empty(), "{error}"),
            },
            Op::Order { place: at, incarnation, order, helper, cause: (kind, value) } => {
                let at = place(at);
                let Some(mut writer) = control.orders_writer(at, &word) else {
                    assert!(at >= SHAPE.workers() || spoilt_control);
                    continue;
                };
                let _ = writer.orders().map_err(|error| error.to_string());
                let words = [u32::from(kind) % 7, value.into()];
                let new = Orders {
                    incarnation: incarnation.into(),
                    order: [Order::Vacant, Order::Run, Order::Drain][usize::from(order % 3)],
                    helper: Some(helper.into()).filter(|helper| *helper < 5),
                    condition: Condition::Up,
                    restarts: kind.into(),
                    cause: Cause::from_words(words).expect("one of them"),
                    changed_ms: u64::from(value) << 40,
                };
                writer.write(&new);
                assert_eq!(writer.orders(), Ok(new));
                orders[at as usize] = new;
            }
            Op::ClaimWorker { place: at, incarnation, dies } => {
                let at = place(at);
                match control.claim_worker(at, incarnation.into(), owner(2)) {
                    Ok(mut slot) => {
                        let incarnation = u32::from(incarnation);
                        assert!(spoilt_control || orders[at as usize].incarnation == incarnation);
                        slot.update(&WorkerEntry::new(incarnation, 5, 7));
                        if let Some(word) = slot.live(WorkerEntry::QUEUED) {
                            word.store(9, Relaxed);
                        }
                        if dies {
                            forget(slot);
                        }
                    }
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
            Op::Convict(index) => {
                let index = u32::from(index % 3) + 2;
                let _ = control.workers().release_all_of(dead(index), owner(1));
                let _ = bells.clients().release_all_of(dead(index), owner(1));
                // What is left has an owner who may be one.
                bells.clients().clear_nobodys(owner(1), |id| id.index() > 4);
                assert!(bells.clients().owners().all(|(_, id)| id.index() <= 4));
                for at in 0..PLACES {
                    if let Some(monitor) = control.monitor(at) {
                        let _ = monitor.snapshot();
                        monitor.recover_writer(dead(index)).reset();
                    }
                }
            }
            Op::Function(id) => {
                let function = FunctionEntry { func_id: id.into(), ..FunctionEntry::default() };
                if let Ok(slot) = control.functions().claim(owner(1), &function) {
                    assert!(spoilt_control || control.function(id.into()).is_some());
                    slot.keep();
                }
            }
            Op::Count(at, n) => {
                let line = control.counters(place(at));
                assert!(spoilt_control || line.is_some() == (place(at) < SHAPE.workers()));
                let line = line.unwrap_or(control.supervisor_counters());
                line.writers()[0].add(n);
            }
            Op::Serve { place: at, by } => {
                if let Some(bell) = bells.worker(place(at)) {
                    bell.serve(by.into());
                    let there = u32::from(by) < bells.bells().places();
                    assert_eq!(bell.server(), there.then_some(by.into()));
                }
            }
            Op::Sleepless(at, sleepless) => {
                if let Some(bell) = bells.worker(place(at)) {
                    bell.set_sleepless(sleepless);
                }
                if let Some(bell) = bells.client(place(at)) {
                    bell.set_sleepless(sleepless);
                    assert_eq!(bell.is_sleepless(), sleepless);
                    bell.bell().shared_notifier().notify(&park);
                }
            }
            Op::Client { by, dies } => {
                if let Ok(mut slot) = bells.reserve_client(owner(u32::from(by % 3) + 2)) {
                    let client = slot.key().index();
                    for at in 0..bells.bells().places() {
                        assert!(bells.cancel(at, client).is_some_and(|word| !word.is_asked(1)));
                    }
                    slot.update(&ClientEntry::new(3, 4));
                    if dies {
                        forget(slot);
                    }
                }
            }
            Op::Announce { place: at, client } => {
                let client = u32::from(client) % CLIENTS;
                let there = place(at) < bells.bells().places() && client < bells.bells().clients();
                let announcer = bells.announcer(place(at), client);
                assert_eq!(announcer.is_some(), there);
                if let (Some(mut announcer), Some(bell)) = (announcer, bells.worker(place(at))) {
                    let rung = announcer.announce(&park);
                    assert_eq!(rung, bell.server().unwrap_or(place(at)));
                    assert!(bell.ready().is_marked(client as usize));
                }
            }
            Op::Sweep { place: at, by } => {
                let Some(bell) = bells.worker(place(at)) else { continue };
                let _ = bell.keep(by.into());
                for client in bell.ready().marked() {
                    assert!((client as u32) < bells.bells().clients());
                    bell.ready().cool(client, || client % 2 == 0);
                }
                for found in bells.clients().iter().flatten() {
                    let state = bells.clients().live(found.key, ClientEntry::STATE);
                    let _ = state.and_then(ClientState::from_word);
                }
                for found in control.workers().iter().flatten() {
                    let state = control.workers().live(found.key, WorkerEntry::STATE);
                    let _ = state.and_then(WorkerState::from_word);
                }
            }
            Op::Cancel { place: at, client, seq } => {
                if let Some(word) = bells.cancel(place(at), u32::from(client) % CLIENTS) {
                    word.ask(seq.into());
                    assert_eq!(word.is_asked(seq.into()), seq != 0);
                }
            }
        }
        for at in 0..PLACES {
            if let Some(row) = control.orders(at) {
                let read = row.read().map_err(|error| assert!(!error.to_string().is_empty()));
                assert!(spoilt_control || read == Ok(orders[at as usize]));
            }
        }
    }
    forget(word);
    memory.check_guards();
    rings.check_guards();
    Ok(())
}
