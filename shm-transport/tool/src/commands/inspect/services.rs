//! The parts of a service's segments: control, bells, dead letters.

use super::parts::Case;
use crate::look::Held;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use shm_primitives::layout::service::{
    BellsLayout, ClientState, ControlLayout, SupervisorCount, WorkerCount,
};
use shm_primitives::monitor::{Group, Snapshot as InHand};
use shm_primitives::place::Cause;
use shm_primitives::segment::Magic;

/// Bytes of what each place has to itself.
const LINE: u64 = 64;
/// Slots shown one by one.
const SHOWN: usize = 64;

/// The shape, and the orders of each place of a worker.
pub fn orders(case: &mut Case<'_>) {
    let Some(control) = control(case, true) else { return };
    let shape = *control.shape();
    for (name, value) in [
        ("normal_workers", shape.normal.workers),
        ("vip_workers", shape.vip.workers),
        ("spares", shape.spares),
        ("clients", shape.clients),
        ("functions", shape.functions),
        ("messages", shape.normal.messages),
        ("vip_messages", shape.vip.messages),
        ("message_size", shape.normal.message_size),
        ("reply_size", shape.normal.reply_size),
    ] {
        case.facts.add(name, value);
    }
    let mut rows = Vec::new();
    for place in 0..shape.workers() {
        let Some(row) = control.orders(place) else { continue };
        match row.read() {
            Ok(orders) => rows.push([
                place.into(),
                if shape.group_of(place) == Some(Group::Vip) { "vip" } else { "normal" }.into(),
                format!("{:?}", orders.order).to_lowercase().into(),
                orders.condition.to_string().into(),
                orders.incarnation.into(),
                orders.restarts.into(),
                orders.helper.into(),
                orders.cause.map(|cause| cause.to_string()).into(),
            ]),
            Err(error) => case.problem(format!("place {place}: {error}")),
        }
    }
    let names =
        ["place", "group", "order", "condition", "incarnation", "restarts", "helper", "last_death"];
    case.facts.table("places", names, rows);
}

/// What each worker has in hand.
pub fn monitors(case: &mut Case<'_>) {
    let Some(control) = control(case, false) else { return };
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    let clients = control.shape().clients;
    let (mut rows, mut at_work) = (Vec::new(), 0);
    for place in 0..control.shape().workers() {
        let Some(monitor) = control.monitor(place) else { continue };
        match monitor.snapshot() {
            Ok(found @ (InHand::Processing(it) | InHand::Idle { last: Some(it) })) => {
                let client = u32::from(it.lane) % clients.max(1);
                let since = found.is_processing().then(|| now.saturating_sub(it.start) / 1_000_000);
                at_work += u32::from(since.is_some());
                let what = if since.is_some() { "in hand" } else { "last" };
                rows.push([
                    place.into(),
                    what.into(),
                    it.seq_id.into(),
                    client.into(),
                    since.into(),
                ]);
            }
            Ok(InHand::Idle { last: None }) => {}
            Err(error) => case.problem(format!("place {place}: {error}")),
        }
    }
    case.facts.add("at_work", at_work);
    case.facts.table("calls", ["place", "what", "seq_id", "client", "milliseconds"], rows);
}

/// What workers and supervisor have counted.
pub fn counters(case: &mut Case<'_>) {
    let Some(control) = control(case, false) else { return };
    let counts = control.supervisor_counters().values();
    for (name, which) in [
        ("crashes", SupervisorCount::Crashes),
        ("poisoned", SupervisorCount::Poisoned),
        ("kills", SupervisorCount::Kills),
        ("letters_lost", SupervisorCount::LettersLost),
    ] {
        case.facts.add(name, counts[which as usize]);
    }
    let places = 0..control.shape().workers();
    let rows = places.filter_map(|place| {
        let counts = control.counters(place)?.values();
        let count = |which: WorkerCount| Value::from(counts[which as usize]);
        let failed = count(WorkerCount::Failed);
        let busy = count(WorkerCount::BusyNanoseconds);
        let dropped = count(WorkerCount::DroppedProgress);
        Some([place.into(), count(WorkerCount::Processed), failed, busy, dropped])
    });
    let names = ["place", "processed", "failed", "busy_nanoseconds", "dropped_progress"];
    case.facts.table("counters", names, rows);
}

fn control<'c>(case: &mut Case<'c>, say: bool) -> Option<ControlLayout<'c>> {
    match ControlLayout::attach(case.copy.region()) {
        Ok(control) => Some(control),
        Err(error) => {
            // Once is enough.
            if say {
                case.problem(error.to_string());
            }
            None
        }
    }
}

fn bells<'c>(case: &mut Case<'c>, say: bool) -> Option<BellsLayout<'c>> {
    match BellsLayout::attach(case.copy.region()) {
        Ok(bells) => Some(bells),
        Err(error) => {
            if say {
                case.problem(error.to_string());
            }
            None
        }
    }
}

/// The bells of the workers, or of those clients that have waited once.
pub fn wake_words(case: &mut Case<'_>) {
    let of_workers = case.entry.id.role == 0;
    let Some(bells) = bells(case, of_workers) else { return };
    let all = bells.bells();
    let count = if of_workers { all.places() } else { all.clients() };
    let waits = |place: u32| -> [Value; 3] {
        let at = case.entry.offset + u64::from(place) * LINE;
        let [wakes, epoch] = case.copy.words(at).unwrap_or([0; 2]);
        let waiter = if epoch % 2 == 1 { "asleep, or about to be" } else { "awake, or nobody" };
        [wakes.into(), (epoch / 2 + epoch % 2).into(), waiter.into()]
    };
    if of_workers {
        let rows: Vec<_> = (0..count)
            .filter_map(|place| {
                let bell = bells.worker(place)?;
                let [wakes, waited, waiter] = waits(place);
                let (sleepless, server) = (bell.is_sleepless().into(), bell.server().into());
                Some([place.into(), wakes, waited, waiter, sleepless, server])
            })
            .collect();
        let names = ["place", "wakes", "waits", "waiter", "sleepless", "served_by"];
        case.facts.table("bells", names, rows);
    } else {
        case.facts.add("places", count);
        let rows: Vec<_> = (0..count)
            .map(|place| (place, waits(place)))
            .filter(|(_, [wakes, waited, _])| *wakes != 0 || *waited != 0)
            .take(SHOWN)
            .map(|(place, [wakes, waited, waiter])| [place.into(), wakes, waited, waiter])
            .collect();
        case.facts.table("bells", ["client", "wakes", "waits", "waiter"], rows);
    }
}

/// Which clients have called whom.
pub fn ready(case: &mut Case<'_>) {
    let Some(bells) = bells(case, false) else { return };
    let mut sum = 0;
    let mut rows = Vec::new();
    for place in 0..bells.bells().places() {
        let Some(bell) = bells.worker(place) else { continue };
        let marked: Vec<Value> = bell.ready().marked().map(Value::from).collect();
        sum += marked.len();
        rows.push([place.into(), marked.into()]);
    }
    case.facts.add("ready", sum);
    case.facts.table("ready_clients", ["place", "clients"], rows);
}

/// Calls that their clients have given up, at whatever time.
pub fn cancels(case: &mut Case<'_>) {
    let Some(bells) = bells(case, false) else { return };
    case.facts.add("clients", bells.bells().clients());
    case.facts.add("workers", bells.bells().places());
}

/// What a slot's entry says, of a table of a service.
pub fn holders(case: &mut Case<'_>, held: &[Held]) {
    let word = |slot: &Held, at: usize| {
        let word = slot.entry.get(4 * at..4 * at + 4).and_then(|word| word.try_into().ok());
        Value::from(word.map(u32::from_le_bytes))
    };
    let live = |slot: &Held, at: usize| slot.live.get(at).copied();
    let who = case.who;
    let common = |slot: &Held| -> [Value; 3] {
        let state = who.life(slot.owner).text();
        [slot.index.into(), crate::look::short(slot.owner).into(), state.into()]
    };
    let held = held.iter().take(SHOWN);
    match (case.header.magic, case.entry.id.role) {
        (Magic::SRVC, 0) => {
            let rows = held.map(|slot| {
                let [index, owner, state] = common(slot);
                let (pid, queued) = (word(slot, 1), live(slot, 1).into());
                [index, owner, state, pid, word(slot, 0), queued, live(slot, 2).into()]
            });
            let names = ["place", "owner", "state", "pid", "incarnation", "queued", "beat"];
            case.facts.table("workers", names, rows);
        }
        (Magic::SRVC, _) => {
            let rows = held.map(|slot| {
                let idempotent = word(slot, 1).as_u64().map(|flags| flags & 1 == 1);
                [word(slot, 0), idempotent.into(), word(slot, 2)]
            });
            case.facts.table("functions", ["function", "idempotent", "threshold_ms"], rows);
        }
        (Magic::BELL, _) => {
            let rows = held.map(|slot| {
                let [index, owner, state] = common(slot);
                let is_leaving = live(slot, 0) == Some(ClientState::Leaving as u32);
                [index, owner, state, word(slot, 0), is_leaving.into()]
            });
            case.facts.table("clients", ["place", "owner", "state", "pid", "leaving"], rows);
        }
        _ => {
            // The words of a `LetterEntry`.
            let rows = held.map(|slot| {
                let number = |at| u32::try_from(word(slot, at).as_u64().unwrap_or(0)).unwrap_or(0);
                let cause = Cause::from_words([number(7), number(8)]).ok().flatten();
                [
                    slot.index.into(),
                    word(slot, 4),
                    word(slot, 11),
                    cause.map(|cause| cause.to_string()).into(),
                    word(slot, 5),
                    word(slot, 6),
                    word(slot, 10),
                ]
            });
            let names = ["slot", "function", "bytes", "its_worker", "place", "pid", "caller"];
            case.facts.table("letters", names, rows);
        }
    }
}
