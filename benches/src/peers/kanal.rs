//! `kanal`: a bounded channel, without its waiting.

use crate::traffic::{Receiver, Sender};

impl<T: Send> Sender<T> for kanal::Sender<T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        Self::try_send(self, item).unwrap_or(false)
    }
}

impl<T: Send> Receiver<T> for kanal::Receiver<T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        Self::try_recv(self).ok().flatten()
    }
}
