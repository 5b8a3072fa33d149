//! A service by hand, for tests of one of its sides: the other two do what the test says.

use super::failure::Failure;
use super::mapped::{BellsMapped, ClientMapped, ControlMapped, MapError};
use super::name::ServiceName;
use super::worker::Assignment;
use crate::domain::Domain;
use crate::member::Member;
use crate::park::FutexPark;
use shm_primitives::channel::{self, Recovered, RequestError};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::service::{
    Announcer, ClientEntry, ClientState, Condition, Order, Orders, Shape, WorkerEntry, WorkerState,
};
use shm_primitives::message::{MsgStatus, SeqIds};
use shm_primitives::part::ClaimError;
use shm_primitives::place::Cause;
use shm_primitives::segment::Control;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::Slot;
use shm_primitives::wake::{Deadline, published};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what is about to be so.
#[track_caller]
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A directory in memory that is gone with it.
pub struct Place {
    pub directory: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("shm-transport-unit-{}-{number}", std::process::id());
        let directory = PathBuf::from("/dev/shm").join(name);
        std::fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn domain(&self) -> Domain {
        Domain::new("bare").unwrap().in_directory(&self.directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A service's segments, and its supervisor, who does nothing by himself. Its fields are dropped
/// in their order.
pub struct Bare {
    pub control_word: Control<'static>,
    _bells_word: Control<'static>,
    pub control: ControlMapped,
    pub bells: BellsMapped,
    pub member: Member,
    pub domain: Domain,
    pub service: ServiceName,
    pub shape: Shape,
    pub place: Place,
}

impl Bare {
    pub fn new(shape: Shape) -> Self {
        Self::at(Place::new(), shape)
    }

    /// The same in that directory.
    pub fn at(place: Place, shape: Shape) -> Self {
        let domain = place.domain();
        let service = ServiceName::try_from("math").unwrap();
        let member = Member::join(&domain, "supervisor").unwrap();
        let owner = member.id();
        let made = BellsMapped::create::<MapError>(&domain, &service, &shape, owner).unwrap();
        let (bells, bells_word) = made;
        let made =
            ControlMapped::create(&domain, &service, &shape, owner, |_, _| Ok::<_, MapError>(()));
        let (control, control_word) = made.unwrap();
        Self {
            control_word,
            _bells_word: bells_word,
            control,
            bells,
            member,
            domain,
            service,
            shape,
            place,
        }
    }

    /// Closes and unlinks everything, as a server that stops.
    pub fn stop(self) -> Place {
        let Self { mut control_word, mut _bells_word, control, bells, member, place, .. } = self;
        control_word.close();
        _bells_word.close();
        bells.segment.unlink_own(|_| Ok::<_, MapError>(true)).unwrap();
        control.segment.unlink_own(|_| Ok::<_, MapError>(true)).unwrap();
        drop((control_word, _bells_word));
        drop((control, bells));
        // SAFETY: everything was given back.
        unsafe { member.leave() }.unwrap();
        place
    }

    /// The supervisor dies; what it had stays.
    pub fn orphan(self) -> (ControlMapped, BellsMapped, Place) {
        let Self { control_word, _bells_word, control, bells, member, place, .. } = self;
        control_word.keep();
        _bells_word.keep();
        // SAFETY: nothing is touched under that id any more.
        unsafe { member.leave() }.unwrap();
        (control, bells, place)
    }

    /// All files there are.
    pub fn files(&self) -> Vec<String> {
        self.place.files()
    }

    pub fn assignment(&self, place: u32, incarnation: u32) -> Assignment {
        let (domain, service) = (self.domain.clone(), self.service);
        Assignment { domain, service, place, incarnation }
    }

    pub fn orders(&self, place: u32) -> Orders {
        self.control.layout.orders(place).unwrap().read().unwrap()
    }

    /// Says that, and rings.
    pub fn order(&self, place: u32, orders: Orders) {
        let writer = self.control.layout.orders_writer(place, &self.control_word);
        writer.unwrap().write(&orders);
        self.ring(place);
    }

    pub fn run(&self, place: u32, incarnation: u32) {
        let orders = Orders { incarnation, order: Order::Run, ..self.orders(place) };
        self.order(place, Orders { condition: Condition::Up, ..orders });
    }

    pub fn drain(&self, place: u32) {
        self.order(place, Orders { order: Order::Drain, ..self.orders(place) });
    }

    pub fn help(&self, place: u32, helper: Option<u32>) {
        self.order(place, Orders { helper, ..self.orders(place) });
        if let Some(helper) = helper {
            self.ring(helper);
        }
    }

    pub fn ring(&self, place: u32) {
        let bell = self.bells.layout.worker(place).unwrap();
        bell.bell().shared_notifier().notify(&FutexPark::new());
    }

    /// The worker that says that it serves; `None` if none does.
    pub fn serving(&self, place: u32) -> Option<WorkerEntry> {
        let workers = self.control.layout.workers();
        let found = workers.read(place).unwrap()?;
        let state = workers.live(found.key, WorkerEntry::STATE)?;
        (state == WorkerState::Serving as u32).then_some(found.entry)
    }

    #[track_caller]
    pub fn wait_serving(&self, place: u32, incarnation: u32) {
        soon("a worker serves", || {
            self.serving(place).is_some_and(|entry| entry.incarnation == incarnation)
        });
    }

    /// A live word of the worker at that place.
    pub fn live(&self, place: u32, word: usize) -> u32 {
        self.control.layout.workers().live_word(place, word).unwrap().load(Relaxed)
    }

    pub fn counters(&self, place: u32) -> [u64; 8] {
        self.control.layout.counters(place).unwrap().values()
    }

    /// The proof of a process's death, which is waited for.
    pub fn convict(&self, owner: OwnerId) -> Dead<OwnerId> {
        let mut dead = None;
        soon("its lock has fallen", || {
            dead = self.member.processes().convict(owner).unwrap().dead();
            dead.is_some()
        });
        dead.unwrap()
    }

    /// Puts away what the dead worker of a place left, as a supervisor does; the call that it had
    /// in hand, whose caller is told.
    pub fn recover(
        &self,
        place: u32,
        dead: Dead<OwnerId>,
        clients: &mut [BareClient],
    ) -> Option<u64> {
        let owner = self.member.id();
        let mut monitor = self.control.layout.monitor(place).unwrap().recover_writer(dead);
        let mut poison = None;
        for client in clients {
            let (key, shape) = (client.slot.as_ref().unwrap().key(), &self.shape);
            let channel = client.mapped.layout.channel(shape.place(place).unwrap()).unwrap();
            let lane = shape.lane(place, key.index(), key.generation()).unwrap();
            match channel.recover_worker(dead, owner, lane, &mut monitor) {
                Ok(Recovered::Poison(mut found)) => {
                    assert_eq!(poison, None, "one at the most");
                    poison = Some(found.header().seq_id());
                    let failure = Failure::Crashed {
                        cause: Cause::Unknown,
                        attempt: 1,
                        place: 0,
                        letter: None,
                    };
                    found.fail(&failure.to_bytes(64)).unwrap();
                    drop(found.skip());
                }
                Ok(Recovered::Nothing(worker) | Recovered::Answered(_, worker)) => drop(worker),
                Err(ClaimError::NotTheOwner { found: None }) => {}
                Err(error) => panic!("{error}"),
            }
            let bell = self.bells.layout.client(key.index()).unwrap().bell();
            bell.shared_notifier().notify(&FutexPark::new());
        }
        monitor.reset();
        self.control.layout.workers().recover(dead, owner).unwrap().for_each(drop);
        self.member.processes().clear(dead, self.member.membership()).unwrap();
        poison
    }

    pub fn client(&self) -> BareClient {
        BareClient::connect(self)
    }
}

/// A client, one thread's. Its fields are dropped in their order.
pub struct BareClient {
    pub lanes: HashMap<u32, (channel::Client<'static>, Announcer<'static>)>,
    pub slot: Option<Slot<'static, ClientEntry, 1>>,
    pub control: Control<'static>,
    pub mapped: ClientMapped,
    pub bells: BellsMapped,
    pub ids: SeqIds,
    pub shape: Shape,
    pub owner: OwnerId,
    member: Member,
}

impl BareClient {
    pub fn connect(bare: &Bare) -> Self {
        let member = Member::join(&bare.domain, "client").unwrap();
        let opened = BellsMapped::open(&bare.domain, &bare.service, |_, bells| {
            Ok::<_, MapError>(bells.reserve_client(member.id()).unwrap())
        });
        let (bells, mut slot) = opened.unwrap();
        let key = slot.key();
        let (domain, service, shape) = (&bare.domain, &bare.service, &bare.shape);
        let (place, tenancy) = (key.index(), key.generation());
        let made =
            ClientMapped::create::<MapError>(domain, service, shape, place, tenancy, member.id());
        let (mapped, control) = made.unwrap();
        slot.update(&ClientEntry::new(std::process::id(), 0));
        let ids = SeqIds::new(place, tenancy).unwrap();
        let owner = member.id();
        let (slot, lanes) = (Some(slot), HashMap::new());
        Self { lanes, slot, mapped, control, bells, ids, shape: *shape, owner, member }
    }

    pub fn index(&self) -> u32 {
        self.slot.as_ref().unwrap().key().index()
    }

    pub fn lane(&mut self, place: u32) -> &mut (channel::Client<'static>, Announcer<'static>) {
        let index = self.index();
        self.lanes.entry(place).or_insert_with(|| {
            let channel = self.mapped.layout.channel(self.shape.place(place).unwrap()).unwrap();
            let announcer = self.bells.layout.announcer(place, index).unwrap();
            (channel.claim_client(self.owner).unwrap(), announcer)
        })
    }

    /// Sends without ringing; the call's id.
    pub fn publish(&mut self, place: u32, func: u32, payload: &[u8]) -> Result<u64, RequestError> {
        let seq = self.ids.next().unwrap();
        self.lane(place).0.request(seq, func, payload).map(|()| seq)
    }

    pub fn announce(&mut self, place: u32) {
        self.lane(place).1.announce_after(&FutexPark::new(), &published());
    }

    pub fn send(&mut self, place: u32, func: u32, payload: &[u8]) -> u64 {
        let seq = self.publish(place, func, payload).unwrap();
        self.announce(place);
        seq
    }

    /// The next reply of that lane: the call's id, status, payload.
    #[track_caller]
    pub fn receive(&mut self, place: u32) -> (u64, MsgStatus, Vec<u8>) {
        self.receive_within(place, PATIENCE).expect("a reply")
    }

    pub fn receive_within(
        &mut self,
        place: u32,
        time: Duration,
    ) -> Option<(u64, MsgStatus, Vec<u8>)> {
        let index = self.index();
        let park = FutexPark::new();
        let bell = self.bells.layout.client(index).unwrap().bell();
        let (lane, _) = self.lane(place);
        if !lane.wait(&mut bell.waiter(), &park, Deadline::after(&park, time)) {
            return None;
        }
        let response = lane.response().unwrap();
        let found = (response.header().seq_id(), response.status(), response.to_vec());
        response.release();
        Some(found)
    }

    /// A call and its answer.
    #[track_caller]
    pub fn call(&mut self, place: u32, func: u32, payload: &[u8]) -> (MsgStatus, Vec<u8>) {
        let seq = self.send(place, func, payload);
        let (answered, status, payload) = self.receive(place);
        assert_eq!(answered, seq);
        (status, payload)
    }

    /// Leaves as a client does: says so, gives everything back.
    pub fn leave(mut self) {
        if let Some(state) = self.slot.as_ref().unwrap().live(ClientEntry::STATE) {
            state.store(ClientState::Leaving as u32, Relaxed);
        }
        self.lanes.clear();
        self.control.close();
        self.mapped.segment.unlink_own(|_| Ok::<_, MapError>(true)).unwrap();
        drop(self.slot.take());
        let Self { control, mapped, member, bells, .. } = self;
        drop(control);
        drop((mapped, bells));
        // SAFETY: everything was given back.
        unsafe { member.leave() }.unwrap();
    }
}
