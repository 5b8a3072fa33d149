//! Finding out who serves a place, and ringing it.

use super::bell::WorkerLine;
use super::Bells;
use crate::ready::ReadyBitmap;
use crate::wake::{Fenced, Notifier, Park, published};
use core::fmt;

/// Tells whoever serves a worker place that there is something in the lane of one client: one
/// thread at a time. See the [module](crate::place).
///
/// The client has one for each of its lanes. One who gives the worker's end of a lane back, or who
/// convicts somebody, makes one in passing.
pub struct Announcer<'a> {
    bells: Bells<'a>,
    line: &'a WorkerLine,
    ready: ReadyBitmap<'a>,
    place: u32,
    client: u32,
    /// Whose bell the notifier is.
    told: u32,
    notifier: Notifier<'a, true>,
}

impl<'a> Announcer<'a> {
    pub(super) fn new(
        bells: Bells<'a>,
        line: &'a WorkerLine,
        ready: ReadyBitmap<'a>,
        place: u32,
        client: u32,
    ) -> Self {
        let notifier = line.bell.shared_notifier();
        Self { bells, line, ready, place, client, told: place, notifier }
    }

    /// Says so, after a request was published, or several; which place's worker was told. That is
    /// the place's own if nobody serves it.
    ///
    /// Neither blocks nor makes a system call while that worker is awake: a fence and three loads
    /// of two lines; and no fence if it never sleeps.
    #[inline]
    pub fn announce(&mut self, park: &impl Park) -> u32 {
        let (server, line) = self.server();
        // A bit that is cleared at this moment is missed, until that worker's next sweep.
        if line.is_sleepless() && self.ready.is_marked(self.client as usize) {
            return server;
        }
        self.announce_after(park, &published())
    }

    /// The same after a fence that served several lanes, or something else besides.
    #[inline]
    pub fn announce_after(&mut self, park: &impl Park, fenced: &Fenced) -> u32 {
        self.ready.mark(self.client as usize, fenced);
        // Looked up behind the fence: this is the look that the one who takes the place up can
        // rely on.
        let (server, line) = self.server();
        if server != self.told {
            self.notifier = line.bell.shared_notifier();
            self.told = server;
        }
        self.notifier.notify_after(park, fenced);
        server
    }

    #[inline(always)]
    fn server(&self) -> (u32, &'a WorkerLine) {
        let named = self.line.named();
        match self.bells.line(named) {
            Some(line) => (named, line),
            None => (self.place, self.line),
        }
    }
}

impl fmt::Debug for Announcer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer")
            .field("place", &self.place)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
