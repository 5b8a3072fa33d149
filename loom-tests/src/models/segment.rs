//! Segments: creating against attaching, closing against attaching, and who owns one.
//!
//! Offsets of parts are counted in bytes, and loom's words are larger than four of them: a first
//! part that nobody uses makes room for header and table.

use crate::harness::{Lent, Memory, check, check_eq, explore, models, owner};
use loom::thread;
use shm_primitives::part::{End, Kind};
use shm_primitives::ring::spsc::{Options, SpscRingRef};
use shm_primitives::segment::{
    Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError, State,
};
use shm_primitives::sync::{Shadow, spin_loop};

pub(super) const MAGIC: Magic = Magic::PHNX;
pub(super) const VERSION: u32 = 3;
const FILLER: PartId = PartId { kind: Kind(100), role: 0 };
const RING: PartId = PartId { kind: Kind::SPSC_RING, role: 7 };
const OPTIONS: Options = Options::new(2).start(7);
pub(super) const KNOWN: Known<2> = Known::new(MAGIC, VERSION, [FILLER, RING]);

type Ring = SpscRingRef<'static, u32>;

pub(super) fn parts() -> [NewPart; 2] {
    let ring = OPTIONS.required_size::<u32>().unwrap() as u64;
    let filler = Segment::modelled_size(2) as u64;
    [NewPart::optional(FILLER, filler), NewPart::required(RING, ring)]
}

/// Memory in which nothing was created yet; it outlives the threads of its model.
pub(super) fn memory() -> Lent<Memory> {
    let parts = parts();
    let plan = Plan::new(MAGIC, VERSION, &parts);
    let memory = Lent::new(Memory::new(plan.required_size().unwrap()));
    // SAFETY: nobody else knows this memory; every model keeps it until its threads are joined.
    unsafe {
        let region = memory.get().region();
        Segment::zero_at(&region, &plan);
        let offset = plan.required_size().unwrap() - parts[1].length.next_multiple_of(64) as usize;
        let ring = region.part(offset, parts[1].length as usize).unwrap();
        SpscRingRef::<u32>::zero_at(&ring, OPTIONS);
    }
    memory
}

/// Creates the segment and its ring.
pub(super) fn create(memory: &Lent<Memory>, by: u32) -> Control<'static> {
    let parts = parts();
    let plan = Plan::new(MAGIC, VERSION, &parts).own([11, 12]).min_reader(2);
    // SAFETY: the model keeps the memory; one of its threads at a time creates.
    unsafe {
        let creating = Segment::create(memory.get().region(), &plan, owner(by)).unwrap();
        SpscRingRef::<u32>::init_at(creating.part(RING).unwrap(), OPTIONS).unwrap();
        creating.publish()
    }
}

pub(super) fn attach(memory: &Lent<Memory>) -> Result<Segment<'static, 2>, SegmentError> {
    // SAFETY: the model keeps the memory.
    unsafe { Segment::attach(memory.get().region(), &KNOWN) }
}

/// The ring of a segment attached to, whole.
pub(super) fn ring(segment: &Segment<'static, 2>) -> Ring {
    let part = segment.require(RING);
    check!(part.is_ok(), "the ring is not in the table");
    // SAFETY: all writers are in this file.
    let ring = unsafe { SpscRingRef::attach(part.unwrap(), Some(2)) };
    check!(ring.is_ok(), "attached to a part not made: {:?}", ring.as_ref().err());
    ring.unwrap()
}

/// Attaches while `creator` may be at work: all of the segment, or none. Its epoch if it is
/// there.
pub(super) fn look(memory: &Lent<Memory>, creator: u32) -> Option<u32> {
    match attach(memory) {
        Ok(segment) => {
            check_eq!((segment.version(), segment.own()), (VERSION, [11, 12]), "header");
            let consumer = ring(&segment).claim_consumer(owner(9));
            check!(consumer.is_ok(), "unfinished positions: {consumer:?}");
            check!(consumer.unwrap().pop().is_err(), "an element in a new ring");
            Some(segment.epoch())
        }
        Err(SegmentError::WrongMagic { found: Magic(0), .. }) => None,
        Err(SegmentError::Initialising { owner: by }) => {
            check!(by.is_none() || by == Some(owner(creator)), "created by {by:?}");
            None
        }
        Err(error) => {
            check!(false, "attached to half a segment: {error}");
            None
        }
    }
}

models! {
    /// An attacher finds no segment, or a whole one with its parts.
    fn segment_create_attach() {
        explore(|| {
            let memory = memory();
            let creating = {
                let memory = memory.clone();
                thread::spawn(move || core::mem::forget(create(&memory, 1)))
            };
            look(&memory, 1);
            creating.join().unwrap();
            check_eq!(look(&memory, 1), Some(1), "after it");
        });
    }

    /// Either an opener that has claimed an end sees that the segment is closing, or the owner
    /// that closes it sees the end claimed.
    fn segment_close_confirm() {
        explore(|| {
            let memory = memory();
            let mut control = create(&memory, 1);
            let opened = attach(&memory).unwrap();
            let (seen_by_owner, ring) = (ring(&opened), ring(&opened));
            let closing = thread::spawn(move || {
                control.close();
                seen_by_owner.owner(End::Writing).unwrap().is_some()
            });
            let producer = ring.claim_producer(owner(2)).unwrap();
            let confirmed = opened.confirm().is_ok();
            let seen = closing.join().unwrap();
            check!(seen || !confirmed, "opened and closed, and neither knows of the other");
            check!(attach(&memory).is_err(), "opened after it was closed");
            drop(producer);
        });
    }

    /// Attaching while it is being closed: the segment, or that it is closing.
    fn segment_close_attach() {
        explore(|| {
            let memory = memory();
            let mut control = create(&memory, 1);
            let closing = thread::spawn(move || {
                control.close();
                drop(control);
            });
            match attach(&memory) {
                Ok(segment) => {
                    ring(&segment);
                }
                Err(SegmentError::Closing { owner: by }) => {
                    check!(by.is_none() || by == Some(owner(1)), "closed by {by:?}");
                }
                Err(error) => check!(false, "{error}"),
            }
            closing.join().unwrap();
            check_eq!(attach(&memory).err(), Some(SegmentError::Closing { owner: None }), "after");
        });
    }

    /// Who takes the owner word finds all done that its former owner did.
    fn segment_release_claim() {
        explore(|| {
            let memory = memory();
            let control = create(&memory, 1);
            let segment = attach(&memory).unwrap();
            // What belongs to the owner, outside this structure.
            let theirs = Lent::new(Shadow::new());
            let releasing = {
                let theirs = theirs.clone();
                thread::spawn(move || {
                    // SAFETY: the model keeps it.
                    Shadow::write(core::slice::from_ref(unsafe { theirs.get() }));
                    drop(control);
                })
            };
            let mut control = loop {
                match segment.claim_control(owner(2)) {
                    Ok(control) => break control,
                    Err(_) => spin_loop(),
                }
            };
            // SAFETY: as above.
            Shadow::write(core::slice::from_ref(unsafe { theirs.get() }));
            control.close();
            check_eq!(segment.state(), Ok(State::Closing), "closed by its second owner");
            check_eq!(segment.owner(), Ok(Some(owner(2))), "owned by the second");
            releasing.join().unwrap();
        });
    }
}
