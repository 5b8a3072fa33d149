//! Lanes in memory of a test's own; and random operations on them against an account of who has
//! which lane and what is in it, and on memory that says anything.

use super::memory::Memory;
use super::park::FakePark;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::lane::{Card, CardTooLong, LaneReader, LaneWriter, Lanes, OpenError};
use shm_primitives::lane::{Reserved, Table};
use shm_primitives::part::ClaimError;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::frame::{ReadError, WriteError};
use shm_primitives::table::{Options, OwnDeath, TableFull};
use shm_primitives::wake::WakeWord;
use std::collections::VecDeque;

pub const LANES: u32 = 3;
pub const CAPACITY: u32 = 4096;
/// Bytes of the largest frame's payload.
pub const LARGEST: usize = CAPACITY as usize / 2 - 16;

/// Where in the memory what is.
pub const READY_AT: usize = 320;
pub const BELL_AT: usize = 384;
pub const AREA_AT: usize = 4096;
/// Bytes from one lane to the next.
pub const STRIDE: usize = 4096 + CAPACITY as usize;
/// Where in a lane its ring begins.
pub const RING: usize = 3840;
pub const SIZE: usize = AREA_AT + LANES as usize * STRIDE;

pub const RECEIVER: u32 = 4000;

pub fn receiver() -> OwnerId {
    OwnerId::new(RECEIVER, 1).unwrap()
}

/// Memory for lanes, a table in it, and everything else as `fill` says.
pub fn memory(fill: u8) -> Memory {
    let memory = Memory::new(SIZE, fill);
    Table::init_at(&memory.part(0, READY_AT), Options::new(LANES)).unwrap();
    memory
}

/// The lanes in it.
pub fn lanes(memory: &Memory) -> Lanes<'_> {
    let table = Table::attach(&memory.part(0, READY_AT), Options::DEFAULT_TAG).unwrap();
    let ready = ReadyBitmap::at(&memory.part(READY_AT, 4), LANES as usize).unwrap();
    let bell = WakeWord::at(&memory.part(BELL_AT, 8)).unwrap();
    let area = memory.part(AREA_AT, SIZE - AREA_AT);
    // SAFETY: one memory has one of each, and its ends are on one thread, or keep the protocol.
    unsafe { Lanes::new(receiver(), table, ready, bell, area, CAPACITY) }.unwrap()
}

/// Lanes and senders are taken modulo their number.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Reserve {
        sender: u8,
    },
    Open {
        lane: u8,
        card: u8,
    },
    Push {
        lane: u8,
        len: u16,
    },
    Announce {
        lane: u8,
    },
    Close {
        lane: u8,
    },
    /// What the sender has of the lane is dropped.
    Leave {
        lane: u8,
    },
    /// The sender's handles are forgotten; it does nothing more.
    Die {
        sender: u8,
    },
    /// The receiver takes what the dead one had, who begins anew under another id.
    Recover {
        sender: u8,
    },
    Adopt {
        lane: u8,
    },
    Read {
        lane: u8,
        frames: u8,
    },
    AnnounceRoom {
        lane: u8,
    },
    Finish {
        lane: u8,
    },
    /// The receiver's end is dropped, and can be had again.
    Drop {
        lane: u8,
    },
    /// A word overwritten by somebody who keeps no protocol. From then on nothing is compared.
    Poke {
        at: u16,
        value: u32,
    },
}

const SENDERS: usize = 3;

enum Held<'a> {
    Nothing,
    Reserved(Reserved<'a>),
    Writer(LaneWriter<'a>),
}

/// A lane as the account knows it.
#[derive(Clone, Default, Debug)]
struct Plain {
    holder: Option<OwnerId>,
    /// Who opened it, and its card.
    opened: Option<(OwnerId, Vec<u8>)>,
    /// First byte and length of each frame.
    frames: VecDeque<(u8, usize)>,
}

struct World<'a> {
    memory: &'a Memory,
    lanes: Lanes<'a>,
    park: FakePark,
    /// Of each sender: its generation, and whether it lives.
    senders: [(u32, bool); SENDERS],
    /// By lane.
    held: Vec<Held<'a>>,
    readers: Vec<Option<LaneReader<'a>>>,
    plain: Vec<Plain>,
    frames: u8,
    poked: bool,
}

/// Runs `ops` in memory that holds `fill`; then everybody leaves, and nothing is left.
pub fn run(fill: u8, ops: impl IntoIterator<Item = Op>) {
    let memory = memory(fill);
    let mut world = World {
        memory: &memory,
        lanes: lanes(&memory),
        park: FakePark::new(),
        senders: [(1, true); SENDERS],
        held: (0..LANES).map(|_| Held::Nothing).collect(),
        readers: (0..LANES).map(|_| None).collect(),
        plain: vec![Plain::default(); LANES as usize],
        frames: 0,
        poked: false,
    };
    for op in ops {
        world.step(op);
        world.compare();
    }
    world.end();
    drop(world);
    memory.check_guards();
}

fn content(first: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| first.wrapping_add(at as u8)).collect()
}

impl World<'_> {
    fn id(&self, sender: usize) -> OwnerId {
        OwnerId::new(100 + sender as u32, self.senders[sender].0).unwrap()
    }

    fn step(&mut self, op: Op) {
        let lane_of = |lane: u8| usize::from(lane) % LANES as usize;
        let sender_of = |sender: u8| usize::from(sender) % SENDERS;
        match op {
            Op::Reserve { sender } if sender == u8::MAX => {
                let full = TableFull { slots: LANES };
                let to_itself = self.lanes.reserve(receiver()).map(drop);
                assert_eq!(to_itself, Err(full), "a lane to itself");
            }
            Op::Reserve { sender } => self.reserve(sender_of(sender)),
            Op::Open { lane, card } => self.open(lane_of(lane), usize::from(card) % 80),
            Op::Push { lane, len } => self.push(lane_of(lane), usize::from(len) % (LARGEST + 9)),
            Op::Announce { lane } => {
                let lane = lane_of(lane);
                if let Held::Writer(writer) = &mut self.held[lane] {
                    writer.announce(&self.park);
                    assert!(self.poked || self.lanes.ready().is_marked(lane), "no bit");
                }
            }
            Op::Close { lane } => {
                let lane = lane_of(lane);
                match std::mem::replace(&mut self.held[lane], Held::Nothing) {
                    Held::Writer(writer) => {
                        writer.close(&self.park);
                        assert!(self.poked || self.lanes.ready().is_marked(lane), "no bit");
                        self.plain[lane].holder = Some(receiver());
                    }
                    other => self.held[lane] = other,
                }
            }
            Op::Leave { lane } => {
                let lane = lane_of(lane);
                match std::mem::replace(&mut self.held[lane], Held::Nothing) {
                    Held::Nothing => {}
                    Held::Reserved(reserved) => {
                        drop(reserved);
                        self.plain[lane].holder = None;
                    }
                    Held::Writer(writer) => {
                        drop(writer);
                        self.plain[lane].holder = Some(receiver());
                    }
                }
            }
            Op::Die { sender } => self.die(sender_of(sender)),
            Op::Recover { sender } => self.recover(sender_of(sender)),
            Op::Adopt { lane } => self.adopt(lane_of(lane)),
            Op::Read { lane, frames } => {
                for _ in 0..frames % 8 {
                    self.read(lane_of(lane));
                }
            }
            Op::AnnounceRoom { lane } => {
                if let Some(reader) = &mut self.readers[lane_of(lane)] {
                    reader.announce_room(&self.park);
                    assert!(self.poked || !reader.room_is_wanted(), "nobody waits");
                }
            }
            Op::Finish { lane } => self.finish(lane_of(lane)),
            Op::Drop { lane } => drop(self.readers[lane_of(lane)].take()),
            Op::Poke { at, value } => {
                self.memory.set(usize::from(at) * 4 % SIZE, value);
                self.poked = true;
            }
        }
    }

    fn reserve(&mut self, sender: usize) {
        if !self.senders[sender].1 {
            return;
        }
        let reserved = self.lanes.reserve(self.id(sender));
        if !self.poked {
            let free = self.plain.iter().position(|lane| lane.holder.is_none());
            let found = reserved.as_ref().map(|reserved| reserved.lane() as usize);
            assert_eq!(found, free.ok_or(&TableFull { slots: LANES }));
        }
        if let Ok(reserved) = reserved {
            let lane = reserved.lane() as usize;
            assert_eq!(reserved.place(), (lane * STRIDE, STRIDE));
            self.plain[lane] = Plain { holder: Some(self.id(sender)), ..Plain::default() };
            self.held[lane] = Held::Reserved(reserved);
        }
    }

    fn open(&mut self, lane: usize, card: usize) {
        let reserved = match std::mem::replace(&mut self.held[lane], Held::Nothing) {
            Held::Reserved(reserved) => reserved,
            other => {
                self.held[lane] = other;
                return;
            }
        };
        let bytes: Vec<u8> = (1..=card as u8).collect();
        let opened = reserved.open(&bytes);
        let too_long = (card > Card::MAX).then_some(OpenError::Card(CardTooLong { found: card }));
        assert!(self.poked || opened.as_ref().err() == too_long.as_ref());
        match opened {
            Ok(writer) => {
                assert_eq!(writer.lane() as usize, lane);
                self.plain[lane].opened = self.plain[lane].holder.map(|holder| (holder, bytes));
                self.held[lane] = Held::Writer(writer);
            }
            // It was given back.
            Err(_) => self.plain[lane] = Plain::default(),
        }
    }

    fn push(&mut self, lane: usize, len: usize) {
        let Held::Writer(writer) = &mut self.held[lane] else { return };
        self.frames = self.frames.wrapping_add(1);
        let pushed = writer.ring().push(&content(self.frames, len));
        if self.poked {
            return;
        }
        let frames = &mut self.plain[lane].frames;
        match pushed {
            Ok(()) => frames.push_back((self.frames, len)),
            // An empty ring has room for every frame that there can be.
            Err(WriteError::Full) => assert!(!frames.is_empty(), "full while empty"),
            Err(WriteError::TooLarge { length, maximum }) => {
                assert_eq!((length, maximum), (len, LARGEST));
                assert!(len > LARGEST);
            }
            Err(WriteError::Corrupt) => panic!("{:?}", writer.ring().corruption()),
        }
    }

    fn die(&mut self, sender: usize) {
        let id = self.id(sender);
        for (held, plain) in self.held.iter_mut().zip(&self.plain) {
            if plain.holder == Some(id) {
                std::mem::forget(std::mem::replace(held, Held::Nothing));
            }
        }
        self.senders[sender].1 = false;
    }

    fn recover(&mut self, sender: usize) {
        self.die(sender);
        let id = self.id(sender);
        // SAFETY: its handles are forgotten, and its id is given to nobody again.
        let dead = unsafe { Dead::assume(id) };
        let opened = self.lanes.recover(dead);
        let mut count = 0;
        for plain in self.plain.iter_mut().filter(|plain| plain.holder == Some(id)) {
            match plain.opened {
                Some(_) => {
                    plain.holder = Some(receiver());
                    count += 1;
                }
                None => plain.holder = None,
            }
        }
        assert!(self.poked || opened == Ok(count), "{opened:?} opened, not {count}");
        self.senders[sender] = (self.senders[sender].0 + 1, true);
        // SAFETY: that nothing is done is what is tested.
        let own = unsafe { Dead::assume(receiver()) };
        assert_eq!(self.lanes.recover(own), Err(OwnDeath { id: receiver() }));
    }

    fn adopt(&mut self, lane: usize) {
        let adopted = self.lanes.adopt(lane as u32);
        let plain = &self.plain[lane];
        if self.poked {
            if let Ok(Some(reader)) = adopted {
                self.readers[lane] = Some(reader);
            }
            return;
        }
        match (&plain.opened, &self.readers[lane]) {
            (None, _) => assert!(matches!(adopted, Ok(None)), "nobody has opened it"),
            (Some(_), Some(_)) => {
                let taken = OpenError::End(ClaimError::Owned(receiver()));
                assert_eq!(adopted.map(drop), Err(taken), "taken up twice");
            }
            (Some((sender, card)), None) => {
                let reader = adopted.unwrap().expect("it was opened");
                assert_eq!(reader.sender(), Some(*sender));
                assert_eq!(reader.card().as_bytes(), card);
                assert_eq!(reader.lane() as usize, lane);
                self.readers[lane] = Some(reader);
            }
        }
    }

    fn read(&mut self, lane: usize) {
        let Some(reader) = &mut self.readers[lane] else { return };
        let frames = &mut self.plain[lane].frames;
        match reader.ring().read() {
            Ok(frame) => {
                if !self.poked {
                    let (first, len) = frames.pop_front().expect("a frame that nobody wrote");
                    assert!(*frame == content(first, len), "another frame");
                }
                frame.release();
            }
            Err(ReadError::Empty) => assert!(self.poked || frames.is_empty(), "a frame is lost"),
            Err(error) => assert!(self.poked, "{error}"),
        }
    }

    fn finish(&mut self, lane: usize) {
        let Some(reader) = self.readers[lane].take() else { return };
        let plain = &self.plain[lane];
        let ended = plain.holder == Some(receiver());
        assert!(self.poked || reader.has_ended() == ended);
        let mut cleared = 0;
        self.readers[lane] = reader.finish_with(|cleared_lane| {
            assert_eq!(cleared_lane as usize, lane);
            // The end was given back before, the lane is not yet anybody's.
            let owner = self.memory.get(AREA_AT + lane * STRIDE + RING + 44);
            assert!(self.poked || owner == 0, "in use by {owner}");
            assert!(self.poked || self.lanes.table().owner(cleared_lane) == Some(receiver()));
            cleared += 1;
        });
        let finished = self.readers[lane].is_none();
        assert_eq!(cleared, u32::from(finished));
        if !self.poked {
            assert_eq!(finished, ended && plain.frames.is_empty());
        }
        if finished {
            self.plain[lane] = Plain::default();
        }
    }

    fn compare(&self) {
        if self.poked {
            // That it ends is all there is to say.
            self.lanes.claimed().count();
            self.lanes.ready().marked().count();
            self.lanes.any_from(self.id(0));
            return;
        }
        let holders = self.plain.iter().map(|plain| plain.holder);
        let claimed = (0..).zip(holders.clone()).filter(|(_, holder)| holder.is_some());
        assert!(self.lanes.claimed().eq(claimed.map(|(lane, _)| lane)));
        for (lane, holder) in (0..).zip(holders) {
            assert_eq!(self.lanes.table().owner(lane), holder, "holder of lane {lane}");
        }
        for sender in 0..SENDERS {
            let (generation, _) = self.senders[sender];
            // Its former ids too: what they sent may not be read yet.
            for generation in 1..=generation {
                let id = OwnerId::new(100 + sender as u32, generation).unwrap();
                let opened = |plain: &Plain| plain.opened.as_ref().is_some_and(|(by, _)| *by == id);
                let any = self.plain.iter().any(opened);
                assert_eq!(self.lanes.any_from(id), any, "lanes of {id}");
            }
        }
    }

    /// Everybody leaves, or dies and is recovered; what was sent is read.
    fn end(&mut self) {
        for lane in 0..LANES as u8 {
            self.step(Op::Close { lane });
        }
        for sender in 0..SENDERS {
            self.recover(sender);
        }
        for lane in 0..LANES as usize {
            if self.readers[lane].is_none() {
                self.adopt(lane);
            }
            // As many frames as fit, and once more.
            for _ in 0..=CAPACITY / 8 {
                self.read(lane);
            }
            self.finish(lane);
        }
        self.compare();
        if !self.poked {
            assert_eq!(self.lanes.claimed().count(), 0, "a lane is left");
            let all: Vec<_> = (0..=LANES).map(|_| self.lanes.reserve(self.id(0))).collect();
            assert_eq!(all.iter().filter(|one| one.is_ok()).count(), LANES as usize);
        }
    }
}
