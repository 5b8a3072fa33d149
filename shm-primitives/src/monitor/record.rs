//! What stands in a copy, and what it means.

use crate::latch;
use core::fmt;

const PROCESSING: u32 = 1 << 31;
const GROUP: u32 = 1 << 30;
const WORKER_SHIFT: u32 = 16;

/// Which group of workers a transaction belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// The ordinary one.
    Normal = 0,
    /// The one for callers that must not wait behind the others.
    Vip = 1,
}

/// What a worker processes: one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The message's sequence id. Not 0, which is the invalid id.
    pub seq_id: u64,
    /// The worker's group.
    pub group: Group,
    /// The worker's place, at most [`MAX_WORKER`](Self::MAX_WORKER).
    pub worker: u16,
    /// The lane that the message stands in.
    pub lane: u16,
    /// The lane's epoch: which of the connections that had this lane.
    pub lane_epoch: u32,
    /// The position of the response ring's writer when the transaction began. A final reply
    /// to it stands there or later, or has not been written.
    pub reply_position: u32,
    /// When it began, in nanoseconds of a monotonic clock that the supervisor reads too. A
    /// coarse one will do. A channel's worker adds one for each report of progress.
    pub start: u64,
}

impl Transaction {
    /// The largest worker place: 14 bits.
    pub const MAX_WORKER: u16 = (1 << 14) - 1;
}

/// Why a transaction cannot be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidTransaction {
    /// The sequence id is 0, which says that there is no transaction.
    NoSequenceId,
    /// The worker's place is larger than [`Transaction::MAX_WORKER`].
    Worker {
        /// The place asked for.
        found: u16,
    },
}

impl fmt::Display for InvalidTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSequenceId => f.write_str("sequence id 0 is no transaction's"),
            Self::Worker { found } => {
                write!(f, "worker {found}; the largest is {}", Transaction::MAX_WORKER)
            }
        }
    }
}

impl core::error::Error for InvalidTransaction {}

/// What a monitor said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snapshot {
    /// The worker is processing nothing.
    Idle {
        /// What it processed last; `None` if nothing since its monitor was made or reset.
        last: Option<Transaction>,
    },
    /// The worker is processing this, or died while it did.
    Processing(Transaction),
}

impl Snapshot {
    /// Whether the worker is processing something.
    #[doc(alias = "IsProcessing")]
    pub fn is_processing(&self) -> bool {
        matches!(self, Self::Processing(_))
    }

    /// The sequence id of what it is processing; `None` if that is nothing.
    #[doc(alias = "GetProcessingSeq")]
    pub fn processing_seq(&self) -> Option<u64> {
        match self {
            Self::Processing(transaction) => Some(transaction.seq_id),
            Self::Idle { .. } => None,
        }
    }

    /// What it is processing, or else what it processed last.
    pub fn transaction(&self) -> Option<Transaction> {
        match *self {
            Self::Processing(transaction) => Some(transaction),
            Self::Idle { last } => last,
        }
    }

    /// The group of [`transaction`](Self::transaction).
    #[doc(alias = "GetGroupId")]
    pub fn group(&self) -> Option<Group> {
        self.transaction().map(|transaction| transaction.group)
    }

    /// The worker's place in [`transaction`](Self::transaction).
    #[doc(alias = "GetWorkerIndex")]
    pub fn worker(&self) -> Option<u16> {
        self.transaction().map(|transaction| transaction.worker)
    }

    /// When [`transaction`](Self::transaction) began, in nanoseconds.
    #[doc(alias = "GetStartTimestamp")]
    pub fn start(&self) -> Option<u64> {
        self.transaction().map(|transaction| transaction.start)
    }
}

/// The words of a copy, in this process's own memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record(pub latch::Record);

impl Record {
    /// No transaction yet.
    pub(super) const EMPTY: Self = Self([0; 7]);

    #[inline(always)]
    pub(super) fn processing(transaction: &Transaction) -> Result<Self, InvalidTransaction> {
        let &Transaction { seq_id, group, worker, lane, lane_epoch, reply_position, start } =
            transaction;
        if seq_id == 0 {
            return Err(InvalidTransaction::NoSequenceId);
        }
        if worker > Transaction::MAX_WORKER {
            return Err(InvalidTransaction::Worker { found: worker });
        }
        let group = match group {
            Group::Normal => 0,
            Group::Vip => GROUP,
        };
        Ok(Self([
            seq_id as u32,
            (seq_id >> 32) as u32,
            start as u32,
            (start >> 32) as u32,
            PROCESSING | group | u32::from(worker) << WORKER_SHIFT | u32::from(lane),
            lane_epoch,
            reply_position,
        ]))
    }

    /// The same, no longer being processed.
    #[inline(always)]
    pub(super) fn ended(mut self) -> Self {
        self.0[4] &= !PROCESSING;
        self
    }

    /// What it says. Every bit of `place` means something, so any words do; those with the
    /// invalid sequence id say that there is no transaction.
    pub(super) fn decode(&self) -> Snapshot {
        let [seq_low, seq_high, start_low, start_high, place, lane_epoch, reply_position] = self.0;
        let seq_id = u64::from(seq_low) | u64::from(seq_high) << 32;
        if seq_id == 0 {
            return Snapshot::Idle { last: None };
        }
        let transaction = Transaction {
            seq_id,
            group: if place & GROUP == 0 { Group::Normal } else { Group::Vip },
            worker: (place >> WORKER_SHIFT) as u16 & Transaction::MAX_WORKER,
            lane: place as u16,
            lane_epoch,
            reply_position,
            start: u64::from(start_low) | u64::from(start_high) << 32,
        };
        if place & PROCESSING == 0 {
            Snapshot::Idle { last: Some(transaction) }
        } else {
            Snapshot::Processing(transaction)
        }
    }
}
