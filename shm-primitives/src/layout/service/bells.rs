//! `BELL`: what clients and workers ring, and who the clients are.

use super::shape::check_places;
use super::{ClientEntry, Shape, VERSION};
use crate::identity::OwnerId;
use crate::layout::{in_part, whole};
use crate::part::{Corrupt, Kind, LINE};
use crate::place::{
    Announcer, Bells, CancelWord, ClientBell, ClientLine, WorkerBell, WorkerLine,
};
use crate::region::Region;
use crate::segment::{Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::table::{Options, Slot, SlotTable, TableFull};

/// The part of the worker places' bells.
pub const WORKER_BELLS: PartId = PartId { kind: Kind::WAKE_WORD, role: 0 };
/// The part of the client places' bells.
pub const CLIENT_BELLS: PartId = PartId { kind: Kind::WAKE_WORD, role: 1 };
/// The part of the ready bits.
pub const READY: PartId = PartId { kind: Kind::READY_BITMAP, role: 0 };
/// The part of the table of client places.
pub const CLIENTS: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
/// The part of the cancel words.
pub const CANCELS: PartId = PartId { kind: Kind::CANCELS, role: 0 };

const KNOWN: Known<5> =
    Known::new(Magic::BELL, VERSION, [WORKER_BELLS, CLIENT_BELLS, READY, CLIENTS, CANCELS]);

/// What the slots are.
const TAG: u32 = u32::from_le_bytes(*b"CLNT");

/// Words of a line.
const LINE_WORDS: usize = LINE / size_of::<AtomicU32>();

/// The table of client places: slot *c* is that of the client at place *c*.
pub type ClientPlaces<'a> = SlotTable<'a, ClientEntry, 1>;

/// Words of one worker place's ready bits: whole lines.
const fn ready_row(clients: u32) -> usize {
    Bells::words_for(clients).next_multiple_of(LINE_WORDS)
}

/// Words of one client's cancel words: whole lines.
const fn cancel_row(workers: u32) -> usize {
    (workers as usize).next_multiple_of(LINE_WORDS)
}

pub(super) const fn parts(shape: &Shape) -> Option<[NewPart; 5]> {
    if shape.check().is_err() {
        return None;
    }
    let (workers, clients) = (shape.workers(), shape.clients);
    let Some(places) = ClientPlaces::required_size(clients) else { return None };
    // No overflow: at most 2^14 places, 2^12 clients, and 2^16 of both.
    Some([
        NewPart::required(WORKER_BELLS, workers as u64 * LINE as u64),
        NewPart::required(CLIENT_BELLS, clients as u64 * LINE as u64),
        NewPart::required(READY, workers as u64 * ready_row(clients) as u64 * 4),
        NewPart::required(CLIENTS, places as u64),
        NewPart::required(CANCELS, clients as u64 * cancel_row(workers) as u64 * 4),
    ])
}

pub(super) const fn plan<'p>(shape: &Shape, parts: &'p [NewPart]) -> Plan<'p> {
    Plan::new(Magic::BELL, VERSION, parts).own([shape.workers(), shape.clients])
}

/// What clients and workers of a service ring. See the [module](crate::layout::service).
#[derive(Debug)]
pub struct BellsLayout<'a> {
    segment: Segment<'a, 5>,
    bells: Bells<'a>,
    client_bells: &'a [ClientLine],
    clients: ClientPlaces<'a>,
    cancels: &'a [AtomicU32],
}

impl<'a> BellsLayout<'a> {
    /// Creates the segment at the start of `region`: nobody there, nothing marked, nobody serves.
    /// Nobody can attach before all of it stands. `owner` is the supervisor.
    ///
    /// # Errors
    ///
    /// `Impossible` if there can be no such service, `TooSmall`, `Misaligned` (to 64). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// As [`Segment::create`].
    pub unsafe fn init_at(
        region: Region<'a>,
        shape: &Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'a>), SegmentError> {
        let parts = parts(shape).ok_or(SegmentError::Impossible("there is no such shape"))?;
        // SAFETY: passed on.
        let creating = unsafe { Segment::create(whole(&region)?, &plan(shape, &parts), owner)? };
        for part in &parts {
            let id = part.id;
            let region = creating.part(id).ok_or(SegmentError::MissingPart(id))?;
            if id == CLIENTS {
                let options = Options::new(shape.clients).tag(TAG);
                ClientPlaces::init_at(&region, options).map_err(in_part(id))?;
                continue;
            }
            let words = AtomicU32::slice_at(&region, region.len() / size_of::<AtomicU32>());
            words.map_err(in_part(id))?.iter().for_each(|word| word.store(0, Relaxed));
        }
        let control = creating.publish();
        Ok((Self::attach(region)?, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger.
    ///
    /// # Errors
    ///
    /// What is there is none, is not ready, or requires a newer reader: see [`SegmentError`].
    /// Nothing is written.
    pub fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let segment = Segment::attach(region, &KNOWN)?;
        let [workers, clients] = segment.own();
        check_places(workers, clients)?;
        let lines = WorkerLine::slice_at(&segment.require(WORKER_BELLS)?, workers as usize);
        let lines = lines.map_err(in_part(WORKER_BELLS))?;
        let client_bells = ClientLine::slice_at(&segment.require(CLIENT_BELLS)?, clients as usize);
        let client_bells = client_bells.map_err(in_part(CLIENT_BELLS))?;
        // No overflow: see `parts`.
        let ready = workers as usize * ready_row(clients);
        let ready = AtomicU32::slice_at(&segment.require(READY)?, ready);
        let ready = ready.map_err(in_part(READY))?;
        let cancels = clients as usize * cancel_row(workers);
        let cancels = AtomicU32::slice_at(&segment.require(CANCELS)?, cancels);
        let cancels = cancels.map_err(in_part(CANCELS))?;
        let places = ClientPlaces::attach(&segment.require(CLIENTS)?, TAG);
        let places = places.map_err(in_part(CLIENTS))?;
        if places.slots() != clients {
            let what = "slots of the table of client places";
            return Err(Corrupt { what, found: places.slots(), limit: clients }.into());
        }
        let Some(bells) = Bells::new(lines, ready, clients) else {
            unreachable!("as many lines and words as they need")
        };
        Ok(Self { segment, bells, client_bells, clients: places, cancels })
    }

    /// The segment: state, epoch, owner.
    pub fn segment(&self) -> &Segment<'a, 5> {
        &self.segment
    }

    /// All bells of worker places, and the ready bits.
    pub fn bells(&self) -> Bells<'a> {
        self.bells
    }

    /// Which clients there are.
    pub fn clients(&self) -> ClientPlaces<'a> {
        self.clients
    }

    /// Takes a client place that is nobody's, without an entry: publish one when the client's
    /// segment is there. Its cancel words are cleared, and it is not sleepless.
    ///
    /// # Errors
    ///
    /// [`TableFull`]: each place is somebody's.
    pub fn reserve_client(
        &self,
        owner: OwnerId,
    ) -> Result<Slot<'a, ClientEntry, 1>, TableFull> {
        let slot = self.clients.reserve(owner)?;
        let client = slot.key().index();
        for place in 0..self.bells.places() {
            if let Some(word) = self.cancel(place, client) {
                word.clear();
            }
        }
        if let Some(bell) = self.client(client) {
            bell.set_sleepless(false);
        }
        Ok(slot)
    }

    /// The bell of worker place `place`; `None` if there is no such place.
    pub fn worker(&self, place: u32) -> Option<WorkerBell<'a>> {
        self.bells.worker(place)
    }

    /// The bell of client place `client`; `None` if there is no such place.
    pub fn client(&self, client: u32) -> Option<ClientBell<'a>> {
        self.client_bells.get(client as usize).map(ClientBell::new)
    }

    /// What client `client` rings when it has published in its lane to worker place `place`;
    /// `None` if there is no such place or client.
    pub fn announcer(&self, place: u32, client: u32) -> Option<Announcer<'a>> {
        self.bells.announcer(place, client)
    }

    /// Where client `client` says which of its calls to worker place `place` it gives up; `None`
    /// if there is no such place or client.
    pub fn cancel(&self, place: u32, client: u32) -> Option<CancelWord<'a>> {
        let workers = self.bells.places();
        if place >= workers || client >= self.bells.clients() {
            return None;
        }
        // No overflow: there are so many words.
        let at = client as usize * cancel_row(workers) + place as usize;
        self.cancels.get(at).map(CancelWord::new)
    }
}
