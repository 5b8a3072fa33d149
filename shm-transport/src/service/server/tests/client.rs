//! A client, made of the primitives.

use super::{LOOKS, PATIENCE, Place, crashed};
use crate::member::{JoinOptions, Member};
use crate::park::FutexPark;
use crate::service::failure::Failure;
use crate::service::mapped::{BellsMapped, ClientMapped, MapError};
use crate::service::name::ServiceName;
use crate::service::role;
use shm_primitives::channel::Client as ClientEnd;
use shm_primitives::layout::service::ClientEntry;
use shm_primitives::message::{MsgStatus, SeqIds};
use shm_primitives::segment::Control;
use shm_primitives::table::Slot;
use std::thread;
use std::time::{Duration, Instant};

/// Its fields are dropped in their order.
pub(super) struct TestClient {
    pub ends: Vec<ClientEnd<'static>>,
    _control: Control<'static>,
    pub slot: Slot<'static, ClientEntry, 1>,
    lanes: ClientMapped,
    pub bells: BellsMapped,
    member: Option<Member>,
    ids: SeqIds,
}

impl TestClient {
    pub fn connect(place: &Place) -> Self {
        let (domain, service) = (&place.domain, ServiceName::try_from("math").unwrap());
        let options = JoinOptions::new().role(role::CLIENT);
        let member = Member::join_with(domain, "client", options).unwrap();
        let shape = *place.control().layout.shape();
        let (bells, mut slot) = BellsMapped::open(domain, &service, |_, bells| {
            Ok::<_, MapError>(bells.reserve_client(member.id()).unwrap())
        })
        .unwrap();
        let key = slot.key();
        let (index, tenancy) = (key.index(), key.generation());
        let made =
            ClientMapped::create::<MapError>(domain, &service, &shape, index, tenancy, member.id());
        let (lanes, control) = made.unwrap();
        slot.update(&ClientEntry::new(std::process::id(), 0));
        let end = |place| {
            let channel = lanes.layout.channel(shape.place(place).unwrap()).unwrap();
            channel.claim_client(member.id()).unwrap()
        };
        let ends = (0..shape.workers()).map(end).collect();
        let ids = SeqIds::new(index, tenancy).unwrap();
        Self { ends, _control: control, slot, lanes, bells, member: Some(member), ids }
    }

    pub fn send(&mut self, place: u32, function: u32, payload: &[u8]) -> u64 {
        let id = self.ids.next().unwrap();
        self.ends[place as usize].request(id, function, payload).unwrap();
        let client = self.slot.key().index();
        let park = FutexPark::new();
        self.bells.layout.announcer(place, client).unwrap().announce(&park);
        id
    }

    /// What came next, if anything.
    fn response(&mut self, place: u32, id: u64) -> Option<Result<Vec<u8>, Failure>> {
        let response = self.ends[place as usize].response().ok()?;
        assert_eq!(response.header().seq_id(), id);
        let found = match response.status() {
            MsgStatus::Completed => Ok(response.to_vec()),
            MsgStatus::Failed => match Failure::from_bytes(&response).unwrap() {
                // Where, and which letter, is looked at elsewhere.
                Failure::Crashed { cause, .. } => crashed(cause),
                other => Err(other),
            },
            other => panic!("{other:?}"),
        };
        response.release();
        Some(found)
    }

    pub fn receive(&mut self, place: u32, id: u64) -> Result<Vec<u8>, Failure> {
        for _ in 0..10 * LOOKS {
            if let Some(found) = self.response(place, id) {
                return found;
            }
            thread::sleep(Duration::from_micros(100));
        }
        panic!("no reply");
    }

    /// The same without sleeping in between.
    pub fn receive_at_once(&mut self, place: u32, id: u64) -> Result<Vec<u8>, Failure> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = self.response(place, id) {
                return found;
            }
        }
        panic!("no reply");
    }

    pub fn call(&mut self, place: u32, function: u32, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let id = self.send(place, function, payload);
        self.receive(place, id)
    }

    /// As a process that ends: the kernel takes its lock, and everything else stays.
    pub fn die(mut self) {
        let member = self.member.take();
        std::mem::forget(self);
        // SAFETY: what it holds is not touched any more.
        unsafe { member.unwrap().leave() }.unwrap();
    }

    pub fn leave(mut self) {
        let member = self.member.take().unwrap();
        self.ends.clear();
        self.lanes.segment.unlink_own(|_| Ok::<_, MapError>(true)).unwrap();
        drop(self);
        // SAFETY: it holds nothing.
        unsafe { member.leave() }.unwrap();
    }
}
