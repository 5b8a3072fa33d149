//! A worker by hand, for one client.

use super::*;
use crate::member::Member;
use crate::park::FutexPark;
use crate::service::mapped::{ClientMapped, MapError};
use shm_primitives::channel;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{WorkerEntry, WorkerState};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::MonitorWriter;
use shm_primitives::region::Region;
use shm_primitives::ring::frame;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::Slot;
use std::mem::ManuallyDrop;

/// A worker at its place. What it has is leaked if it dies.
pub struct Hand<'b> {
    pub bare: &'b Bare,
    pub place: u32,
    pub client: u32,
    pub lane: ManuallyDrop<Option<channel::Worker<'static>>>,
    pub mapped: Option<ClientMapped>,
    monitor: MonitorWriter<'b>,
    slot: ManuallyDrop<Slot<'static, WorkerEntry, 4>>,
    member: Option<Member>,
}

impl<'b> Hand<'b> {
    /// It takes its place, as incarnation 1.
    pub fn new(bare: &'b Bare, place: u32) -> Self {
        let member = Member::join(&bare.domain, "hand").unwrap();
        let mut slot = bare.control.layout.claim_worker(place, 1, member.id()).unwrap();
        slot.update(&WorkerEntry::new(1, std::process::id(), 0));
        slot.live(WorkerEntry::STATE).unwrap().store(WorkerState::Serving as u32, Relaxed);
        bare.bells.layout.worker(place).unwrap().serve(place);
        let monitor = bare.control.layout.monitor(place).unwrap().writer();
        let (lane, slot) = (ManuallyDrop::new(None), ManuallyDrop::new(slot));
        let member = Some(member);
        Self { bare, place, client: 0, lane, mapped: None, monitor, slot, member }
    }

    pub fn id(&self) -> OwnerId {
        self.member.as_ref().unwrap().id()
    }

    /// Takes its end of the lane of that client.
    pub fn meet(&mut self, client: u32) {
        let key = self.bare.bells.layout.clients().tenancy(client).unwrap();
        let (shape, tenancy) = (&self.bare.shape, key.generation());
        let (domain, service) = (&self.bare.domain, &self.bare.service);
        let opened =
            ClientMapped::open(domain, service, client, tenancy, |_, _| Ok::<_, MapError>(()));
        let (mapped, ()) = opened.unwrap();
        let channel = mapped.layout.channel(shape.place(self.place).unwrap()).unwrap();
        let lane = shape.lane(self.place, client, tenancy).unwrap();
        self.client = client;
        *self.lane = Some(channel.claim_worker(self.id(), lane).unwrap());
        self.mapped = Some(mapped);
    }

    /// Gives its end of the lane back, and takes that of the responses by itself: to write there
    /// what no worker writes. It is to be dropped before the hand meets the client anew.
    pub fn responses(&mut self) -> frame::Writer<'static> {
        drop(self.lane.take());
        let shape = &self.bare.shape;
        let at = shape.client_shape(0).place_of(shape.place(self.place).unwrap()).unwrap();
        let options = shape.normal.channel().unwrap().responses;
        let begin = at.end - options.required_size().unwrap();
        let here = self.mapped.as_ref().unwrap().segment.region();
        let part = here.part(begin, at.end - begin).unwrap();
        // SAFETY: the same memory, which stays mapped until the hand is dropped or meets somebody.
        let part = unsafe { Region::<'static>::new(part.base(), part.len()) };
        // SAFETY: writers keep the ring's protocol, if not the channel's.
        let ring = unsafe { frame::FrameRingRef::attach(part, None) }.unwrap();
        ring.claim_writer(self.id()).unwrap()
    }

    fn ring(&self) {
        let bell = self.bare.bells.layout.client(self.client).unwrap();
        bell.bell().shared_notifier().notify(&FutexPark::new());
    }

    /// Answers all requests that are there; how many.
    pub fn echo_all(&mut self) -> usize {
        let mut served = 0;
        while let Ok(request) = self.lane.as_mut().unwrap().peek() {
            let mut work = request.begin(&mut self.monitor, 1).unwrap();
            let payload = work.payload().to_vec();
            work.reply(MsgStatus::Completed, &payload).unwrap();
            work.finish().unwrap();
            served += 1;
        }
        self.ring();
        served
    }

    /// Answers the next one, if there is one; how many.
    pub fn echo_one(&mut self) -> usize {
        let Ok(request) = self.lane.as_mut().unwrap().peek() else { return 0 };
        let mut work = request.begin(&mut self.monitor, 1).unwrap();
        let payload = work.payload().to_vec();
        work.reply(MsgStatus::Completed, &payload).unwrap();
        work.finish().unwrap();
        self.ring();
        1
    }

    #[track_caller]
    pub fn echo(&mut self) {
        soon("a request", || self.echo_all() != 0);
    }

    /// Begins the next request, after it has come, and dies; what its id was. With `answer` it is
    /// answered before.
    #[track_caller]
    pub fn die(mut self, answer: Option<&[u8]>) -> OwnerId {
        soon("a request", || !self.lane.as_mut().unwrap().is_request_empty());
        let request = self.lane.as_mut().unwrap().peek().unwrap();
        let mut work = request.begin(&mut self.monitor, 1).unwrap();
        if let Some(answer) = answer {
            work.reply(MsgStatus::Completed, answer).unwrap();
        }
        std::mem::forget(work);
        let member = self.member.take().unwrap();
        let id = member.id();
        // Its segment stays mapped: the lane is leaked, too.
        std::mem::forget(self.mapped.take());
        // SAFETY: it touches nothing any more.
        unsafe { member.leave() }.unwrap();
        id
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else { return };
        // SAFETY: once each, here.
        unsafe {
            ManuallyDrop::drop(&mut self.lane);
            ManuallyDrop::drop(&mut self.slot);
        }
        drop(self.mapped.take());
        // SAFETY: all was given back.
        let _ = unsafe { member.leave() };
    }
}
