//! What is called for which function.

use super::error::{HandlerError, WorkerError};
use super::reply::Reply;
use super::request::Request;
use shm_primitives::message::MsgHeader;
use std::fmt;

pub(super) type Handler = Box<dyn FnMut(&Request<'_>, Reply<'_>) -> Result<(), HandlerError>>;

pub(super) struct Entry {
    func_id: u32,
    pub run: Handler,
    /// A step of the coarse clock was seen while it ran last.
    pub is_slow: bool,
}

/// The handlers, by their functions' numbers.
#[derive(Default)]
pub(super) struct Handlers {
    entries: Vec<Entry>,
    /// Which was called last.
    last: usize,
}

impl Handlers {
    pub fn register(&mut self, func_id: u32, run: Handler) -> Result<(), WorkerError> {
        if MsgHeader::RESERVED_FUNCTIONS.contains(&func_id) {
            return Err(WorkerError::Reserved { func_id });
        }
        match self.entries.binary_search_by_key(&func_id, |entry| entry.func_id) {
            Ok(_) => Err(WorkerError::Registered { func_id }),
            Err(at) => {
                self.entries.insert(at, Entry { func_id, run, is_slow: false });
                Ok(())
            }
        }
    }

    /// Where that function's handler is.
    #[inline]
    pub fn find(&mut self, func_id: u32) -> Option<usize> {
        // Most calls are of the function that was called before.
        if self.entries.get(self.last).is_some_and(|entry| entry.func_id == func_id) {
            return Some(self.last);
        }
        let at = self.entries.binary_search_by_key(&func_id, |entry| entry.func_id).ok()?;
        self.last = at;
        Some(at)
    }

    #[inline]
    pub fn get(&mut self, at: usize) -> Option<&mut Entry> {
        self.entries.get_mut(at)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.iter().map(|entry| entry.func_id)).finish()
    }
}
