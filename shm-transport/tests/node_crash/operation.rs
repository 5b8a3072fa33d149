//! What nodes do when they die.

use std::fmt;

/// What is done under a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// The first node of a domain joins.
    JoinFirst,
    /// A node joins, and there is another.
    Join,
    /// A node joins under the name of one that was killed, with large messages unread.
    JoinAfterDeath,
    /// A node joins a domain whose nodes are all dead, and leave no room for another.
    JoinFull,
    /// The first message: makes the lane.
    SendFirst,
    /// The second.
    SendSecond,
    /// The first large message: makes the pool, and a place in it.
    SendLarge,
    /// The second.
    SendSecondLarge,
    /// A message to two nodes, none of which was sent to before.
    Broadcast,
    /// The same with a large one, which all share.
    BroadcastLarge,
    /// A sender of its own is made, used and dropped: the lane is left to its receiver.
    OwnSender,
    /// A message is sent to a name that another has by now.
    SendAnew,
    /// A message is read and released: takes up the lane.
    Receive,
    /// A large one: opens the pool.
    ReceiveLarge,
    /// A message is read out of a full lane, whose sender waits for room.
    ReceiveFull,
    /// A message is read, and the lane, which its sender has left, is given back with its memory.
    ReceiveLast,
    /// Its thread takes back what a dead one had of it, and puts away the rest.
    Keep,
    /// Takes leave with nothing unread but a small message.
    Leave,
    /// Takes leave while a large message of its own is unread, and one to it.
    LeaveBusy,
    /// Takes leave as the last one: nothing stays but what it does not come to.
    LeaveLast,
    /// Puts away what two dead nodes left that nobody else looks after.
    Sweep,
    /// The same after another has died of it, at some step.
    SweepAnew,
    /// The same beside a node that has not read yet what a dead one has sent.
    SweepBeside,
}

use Operation::*;

pub const ALL: [Operation; 23] = [
    JoinFirst,
    Join,
    JoinAfterDeath,
    JoinFull,
    SendFirst,
    SendSecond,
    SendLarge,
    SendSecondLarge,
    Broadcast,
    BroadcastLarge,
    OwnSender,
    SendAnew,
    Receive,
    ReceiveLarge,
    ReceiveFull,
    ReceiveLast,
    Keep,
    Leave,
    LeaveBusy,
    LeaveLast,
    Sweep,
    SweepAnew,
    SweepBeside,
];

impl Operation {
    /// Who is there before and after: "one", and "two".
    pub fn survivors(self) -> usize {
        match self {
            JoinFirst | JoinAfterDeath | JoinFull | LeaveLast | Sweep | SweepAnew => 0,
            Join | SendFirst | SendSecond | Keep | Leave | SweepBeside => 1,
            SendLarge | SendSecondLarge | Broadcast | BroadcastLarge | OwnSender | SendAnew
            | Receive | ReceiveLarge | ReceiveFull | ReceiveLast | LeaveBusy => 2,
        }
    }

    /// Whether "victim" has been a node, and was killed, before the one who is to die begins.
    pub fn has_dead(self) -> bool {
        matches!(self, JoinAfterDeath | JoinFull | Sweep | SweepAnew | SweepBeside)
    }

    /// Whether the survivors look after the dead; otherwise only who joins does, and who sweeps.
    pub fn is_looked_after(self) -> bool {
        !matches!(self, Keep | SweepBeside)
    }

    pub fn is_broadcast(self) -> bool {
        matches!(self, Broadcast | BroadcastLarge)
    }

    /// Messages that "one" certainly gets, and that it gets if the victim survives.
    pub fn messages(self) -> [&'static [u32]; 2] {
        match self {
            JoinFirst | Join | JoinAfterDeath | JoinFull | Receive | ReceiveLarge | ReceiveFull
            | ReceiveLast | LeaveLast | Sweep | SweepAnew => [&[], &[]],
            SendFirst | SendLarge | Broadcast | BroadcastLarge => [&[], &[1]],
            // What came before went to the one who had the name before.
            SendAnew => [&[], &[2]],
            SendSecond | SendSecondLarge => [&[1], &[1, 2]],
            Keep => [&[], &[1, 2, 3, 4]],
            OwnSender => [&[], &[1, 2]],
            Leave => [&[1], &[1]],
            LeaveBusy | SweepBeside => [&[1, 2], &[1, 2]],
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
