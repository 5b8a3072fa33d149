//! A worker, made of the primitives. How it behaves is said by [`MODE`].

use super::stick::stick;
use super::{
    DIE, EXIT, MODE, PATIENCE, PID, SLEEP, STICK, STOP_UNTIL_CANCELLED, UNTIL_CANCELLED, kill,
};
use crate::domain::Domain;
use crate::member::{JoinOptions, Member};
use crate::park::FutexPark;
use crate::service::mapped::{BellsMapped, ClientMapped, ControlMapped, MapError};
use crate::service::name::ServiceName;
use crate::service::role;
use crate::service::worker::assignment;
use rustix::process::Signal;
use shm_primitives::channel::Worker as WorkerEnd;
use shm_primitives::layout::service::{Order, WorkerEntry, WorkerState};
use shm_primitives::message::MsgStatus;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::SlotKey;
use std::collections::{HashMap, hash_map};
use std::thread;
use std::time::Duration;

/// Seconds.
const ALARM: u32 = 900;

#[test]
fn worker_process() {
    let Some(mode) = std::env::var_os(MODE) else { return };
    let Some(of) = std::env::var_os(assignment::WORKER) else { return };
    // SAFETY: a system call without memory. Whatever becomes of its test, it ends.
    unsafe { libc::alarm(ALARM) };
    let of = of.into_string().unwrap();
    let (place, incarnation) = of.split_once('.').unwrap();
    let (place, incarnation): (u32, u32) = (place.parse().unwrap(), incarnation.parse().unwrap());
    let mode = mode.into_string().unwrap();
    for rule in mode.split(',') {
        // exit:<code>, also for one place alone: exit:<code>@<place>
        if let Some(exit) = rule.strip_prefix("exit:") {
            let (code, at) = exit.split_once('@').unwrap_or((exit, of.split('.').next().unwrap()));
            if at.parse::<u32>().unwrap() == place {
                std::process::exit(code.parse().unwrap());
            }
        }
        if rule == "never" {
            thread::sleep(PATIENCE);
        }
    }
    std::process::exit(work(place, incarnation, &mode));
}

fn work(place: u32, incarnation: u32, mode: &str) -> i32 {
    let domain = Domain::new(&std::env::var(Domain::VARIABLE).unwrap()).unwrap();
    let domain = domain.in_directory(std::env::var_os(assignment::DIRECTORY).unwrap());
    let service = ServiceName::try_from(&*std::env::var(assignment::SERVICE).unwrap()).unwrap();
    let options = JoinOptions::new().role(role::WORKER);
    let member = Member::join_with(&domain, "worker", options).unwrap();
    if mode == "joins" {
        std::process::exit(4);
    }
    let Ok((control, slot)) = ControlMapped::open(&domain, &service, |_, control| {
        Ok::<_, MapError>(control.claim_worker(place, incarnation, member.id()))
    }) else {
        return 0;
    };
    let mut slot = match slot {
        Ok(slot) => slot,
        Err(error) => {
            eprintln!("{error}");
            return 0;
        }
    };
    slot.update(&WorkerEntry::new(incarnation, std::process::id(), 0));
    let (bells, ()) = BellsMapped::open(&domain, &service, |_, _| Ok::<_, MapError>(())).unwrap();
    let (control, bells) = (&control.layout, &bells.layout);
    let shape = *control.shape();
    let mut monitor = control.monitor(place).unwrap().writer();
    if let Some(file) = mode.strip_prefix("sticks:") {
        stick(file.as_bytes());
    }
    let mut clients: HashMap<SlotKey, ClientMapped> = HashMap::new();
    let mut lanes: HashMap<(u32, SlotKey), WorkerEnd<'static>> = HashMap::new();
    let park = FutexPark::new();
    bells.worker(place).unwrap().serve(place);
    loop {
        let orders = control.orders(place).unwrap().read().unwrap();
        if orders.order != Order::Run && mode != "deaf" || orders.incarnation != incarnation {
            lanes.clear();
            clients.clear();
            slot.release();
            // SAFETY: it holds nothing any more.
            unsafe { member.leave() }.unwrap();
            return 0;
        }
        for found in bells.clients().iter().flatten() {
            let (index, tenancy) = (found.key.index(), found.key.generation());
            if let hash_map::Entry::Vacant(entry) = clients.entry(found.key)
                && let Ok((mapped, ())) =
                    ClientMapped::open(&domain, &service, index, tenancy, |_, _| {
                        Ok::<_, MapError>(())
                    })
            {
                entry.insert(mapped);
            }
        }
        let helped: Vec<u32> = (0..shape.workers())
            .filter(|other| control.orders(*other).unwrap().read().unwrap().helper == Some(place))
            .collect();
        lanes.retain(|(of, _), _| *of == place || helped.contains(of));
        clients.retain(|key, _| {
            let lives = bells.clients().tenancy(key.index()) == Some(*key)
                && bells.clients().owner(key.index()).is_some();
            lanes.retain(|(_, of), _| lives || of != key);
            lives
        });
        for of in helped.into_iter().chain([place]) {
            let _ = bells.worker(of).unwrap().keep(place);
            for (key, mapped) in &clients {
                let lane = shape.lane(of, key.index(), key.generation()).unwrap();
                let channel = mapped.layout.channel(shape.place(of).unwrap()).unwrap();
                let end = match lanes.entry((of, *key)) {
                    hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    hash_map::Entry::Vacant(entry) => {
                        let Ok(end) = channel.claim_worker(member.id(), lane) else { continue };
                        entry.insert(end)
                    }
                };
                while let Ok(request) = end.peek() {
                    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
                    let mut work = request.begin(&mut monitor, now).unwrap();
                    let id = work.header().seq_id();
                    let cancelled = || bells.cancel(of, key.index()).unwrap().is_asked(id);
                    let reply = serve(work.header().func_id(), work.payload(), cancelled);
                    work.reply(MsgStatus::Completed, &reply).unwrap();
                    work.finish().unwrap();
                    bells.client(key.index()).unwrap().bell().shared_notifier().notify(&park);
                }
            }
        }
        slot.live(WorkerEntry::STATE).unwrap().store(WorkerState::Serving as u32, Relaxed);
        thread::sleep(Duration::from_micros(200));
    }
}

fn serve(function: u32, payload: &[u8], cancelled: impl Fn() -> bool) -> Vec<u8> {
    match function {
        DIE => kill(std::process::id(), Signal::KILL),
        EXIT => std::process::exit(payload[0].into()),
        SLEEP => thread::sleep(Duration::from_millis(
            u16::from_le_bytes(payload.try_into().unwrap()).into(),
        )),
        STICK => stick(payload),
        PID => return std::process::id().to_le_bytes().into(),
        UNTIL_CANCELLED | STOP_UNTIL_CANCELLED => {
            if function == STOP_UNTIL_CANCELLED {
                kill(std::process::id(), Signal::STOP);
            }
            while !cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        _ => {}
    }
    payload.into()
}
