//! The state word, and what stands in it.

use core::fmt;

/// Which call, among those that have the same slot: 26 bits of its sequence id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u32);

impl Tag {
    /// Bits of a tag.
    pub const BITS: u32 = 26;

    /// The tag of the call with this sequence id, in a table of 2^`index_bits` slots that are
    /// chosen by its lowest bits. Beyond 63 bits there are no others: the tag is 0.
    pub const fn of(seq_id: u64, index_bits: u32) -> Self {
        let above = match seq_id.checked_shr(index_bits) {
            Some(above) => above,
            None => 0,
        };
        // The lowest 26 bits of it.
        Self(above as u32 & ((1 << Self::BITS) - 1))
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:#x})", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {:#x}", self.0)
    }
}

/// By what a call ended. What exactly, is in its result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// By its reply, whatever that says.
    Reply,
    /// By its worker's death.
    Crash,
    /// Its time was up.
    TimeOut,
    /// It was cancelled.
    Cancel,
    /// The way to the worker is lost: what stands in the shared memory makes no sense, or the
    /// service is gone.
    Lost,
}

impl Outcome {
    const fn number(self) -> u32 {
        match self {
            Self::Reply => 1,
            Self::Crash => 2,
            Self::TimeOut => 3,
            Self::Cancel => 4,
            Self::Lost => 5,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Reply),
            2 => Some(Self::Crash),
            3 => Some(Self::TimeOut),
            4 => Some(Self::Cancel),
            5 => Some(Self::Lost),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reply => "replied to",
            Self::Crash => "its worker died",
            Self::TimeOut => "timed out",
            Self::Cancel => "cancelled",
            Self::Lost => "the way to the worker is lost",
        })
    }
}

/// How far a call is; see the [module](crate::completion).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Idle = 0,
    Pending = 1,
    Won = 2,
    Abandoned = 3,
    Settled = 4,
    Taking = 5,
}

/// The word: tag, outcome, phase.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(pub u32);

const PHASE_BITS: u32 = 3;
const OUTCOME_BITS: u32 = 3;
const PHASE: u32 = (1 << PHASE_BITS) - 1;
const OUTCOME: u32 = (1 << OUTCOME_BITS) - 1;

const _: () = assert!(PHASE_BITS + OUTCOME_BITS + Tag::BITS == u32::BITS);

impl State {
    pub const fn new(tag: Tag, phase: Phase, outcome: Option<Outcome>) -> Self {
        let outcome = match outcome {
            Some(outcome) => outcome.number(),
            None => 0,
        };
        Self(tag.0 << (PHASE_BITS + OUTCOME_BITS) | outcome << PHASE_BITS | phase as u32)
    }

    pub const fn tag(self) -> Tag {
        Tag(self.0 >> (PHASE_BITS + OUTCOME_BITS))
    }

    pub const fn outcome(self) -> Option<Outcome> {
        Outcome::from_number(self.0 >> PHASE_BITS & OUTCOME)
    }

    pub const fn is(self, phase: Phase) -> bool {
        self.0 & PHASE == phase as u32
    }

    /// The same call in another phase; one that is idle has no outcome.
    pub const fn to(self, phase: Phase) -> Self {
        let outcome = if matches!(phase, Phase::Idle) { None } else { self.outcome() };
        Self::new(self.tag(), phase, outcome)
    }

    /// How that call has ended, if it is settled.
    pub fn settled(self, tag: Tag) -> Option<Outcome> {
        if self.is(Phase::Settled) && self.tag() == tag { self.outcome() } else { None }
    }

    /// Whether that call is in the slot, and its result is still to come.
    pub fn is_unsettled(self, tag: Tag) -> bool {
        (self.is(Phase::Pending) || self.is(Phase::Won)) && self.tag() == tag
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            Phase::Idle,
            Phase::Pending,
            Phase::Won,
            Phase::Abandoned,
            Phase::Settled,
            Phase::Taking,
        ];
        let phase = phases.into_iter().find(|phase| self.is(*phase));
        write!(f, "{:?} {phase:?} {:?}", self.tag(), self.outcome())
    }
}
