//! Your own protocol: numbered requests one way, replies the other.
//!
//! ```text
//! offset  size
//!      0     4  number, counted up by the client; a reply has its request's
//!      4        text; in a reply the same in capitals
//! ```
//!
//! A server replies, then releases the request. If it dies in between, its successor replies
//! again: once more for one request at the most, and the number tells the client.

use crate::pipe::{Error, Pipe, Receiver, Sender};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::ClaimError;
use shm_primitives::wake::{Deadline, Park};

const NUMBER: usize = size_of::<u32>();

/// Requests and replies.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    requests: Pipe<'a>,
    replies: Pipe<'a>,
}

/// How a link lies in memory: the requests' pipe, then the replies'.
#[cfg(not(loom))]
mod layout {
    use super::Link;
    use crate::pipe::Pipe;
    use shm_primitives::part::AttachError;
    use shm_primitives::region::Region;
    use shm_primitives::ring::frame::Options;

    const REQUESTS: Options = Options::new(16 * 1024);
    const REPLIES: Options = Options::new(4 * 1024);

    impl<'a> Link<'a> {
        /// Bytes that a link takes.
        pub const SIZE: usize = Pipe::size(REQUESTS) + Pipe::size(REPLIES);

        /// Makes a link.
        ///
        /// # Errors
        ///
        /// The region is too small, or not aligned to 64.
        ///
        /// # Safety
        ///
        /// Nobody uses the region yet.
        pub unsafe fn create(region: &Region<'a>) -> Result<Self, AttachError> {
            let (requests, replies) = Self::split(region)?;
            // SAFETY: passed on; the two do not overlap.
            unsafe {
                let replies = Pipe::create(replies, REPLIES)?;
                Ok(Self { requests: Pipe::create(requests, REQUESTS)?, replies })
            }
        }

        /// The link that another process made.
        ///
        /// # Errors
        ///
        /// There is none.
        ///
        /// # Safety
        ///
        /// Whoever else uses the region uses it as this module does.
        pub unsafe fn attach(region: &Region<'a>) -> Result<Self, AttachError> {
            let (requests, replies) = Self::split(region)?;
            // SAFETY: passed on.
            unsafe {
                Ok(Self { requests: Pipe::attach(requests)?, replies: Pipe::attach(replies)? })
            }
        }

        fn split(region: &Region<'a>) -> Result<(Region<'a>, Region<'a>), AttachError> {
            let first = Pipe::size(REQUESTS);
            region
                .part(0, first)
                .zip(region.part(first, Pipe::size(REPLIES)))
                .ok_or(AttachError::TooSmall { found: region.len(), wanted: Self::SIZE })
        }
    }
}

impl<'a> Link<'a> {
    /// The side that asks.
    ///
    /// # Errors
    ///
    /// Somebody has it.
    pub fn client(&self, me: OwnerId) -> Result<Client<'a>, ClaimError> {
        let (requests, replies) = (self.requests.sender(me)?, self.replies.receiver(me)?);
        Ok(Client { requests, replies, asked: 0, answered: 0 })
    }

    /// The side that answers.
    ///
    /// # Errors
    ///
    /// Somebody has it.
    pub fn server(&self, me: OwnerId) -> Result<Server<'a>, ClaimError> {
        Ok(Server { requests: self.requests.receiver(me)?, replies: self.replies.sender(me)? })
    }

    /// The side that answers, taken over from one proven dead.
    ///
    /// # Errors
    ///
    /// Somebody else has it.
    pub fn recover_server(
        &self,
        dead: Dead<OwnerId>,
        me: OwnerId,
        park: &impl Park,
    ) -> Result<Server<'a>, ClaimError> {
        Ok(Server {
            requests: self.requests.recover_receiver(dead, me, park)?,
            replies: self.replies.recover_sender(dead, me, park)?,
        })
    }
}

/// The side that asks.
#[derive(Debug)]
pub struct Client<'a> {
    requests: Sender<'a>,
    replies: Receiver<'a>,
    asked: u32,
    answered: u32,
}

impl Client<'_> {
    /// Sends a request; several may be under way. Its number.
    ///
    /// # Errors
    ///
    /// It was not sent.
    pub fn ask(&mut self, text: &str, park: &impl Park, deadline: Deadline) -> Result<u32, Error> {
        let number = self.asked;
        self.requests.send(NUMBER + text.len(), park, deadline, |message| {
            message[..NUMBER].copy_from_slice(&number.to_le_bytes());
            message[NUMBER..].copy_from_slice(text.as_bytes());
        })?;
        self.asked = number.wrapping_add(1);
        Ok(number)
    }

    /// The next reply, and its number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn answer(&mut self, park: &impl Park, deadline: Deadline) -> Result<(u32, String), Error> {
        loop {
            let reply = self.replies.recv(park, deadline)?;
            let answer = match reply.split_first_chunk() {
                Some((&number, text)) if u32::from_le_bytes(number) == self.answered => {
                    Some(String::from_utf8_lossy(text).into_owned())
                }
                // A second reply to an earlier request.
                _ => None,
            };
            reply.release(park);
            if let Some(text) = answer {
                let number = self.answered;
                self.answered = number.wrapping_add(1);
                return Ok((number, text));
            }
        }
    }

    /// Asks nothing more, and waits until the server has answered everything and closed too.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or the replies cannot be read.
    pub fn finish(mut self, park: &impl Park, deadline: Deadline) -> Result<(), Error> {
        self.requests.close(park);
        loop {
            match self.replies.recv(park, deadline) {
                Ok(reply) => reply.release(park),
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The side that answers.
#[derive(Debug)]
pub struct Server<'a> {
    requests: Receiver<'a>,
    replies: Sender<'a>,
}

impl Server<'_> {
    /// Answers one request, waiting for it.
    ///
    /// # Errors
    ///
    /// There is none, or no room for the reply; then the request stays.
    pub fn serve(&mut self, park: &impl Park, deadline: Deadline) -> Result<(), Error> {
        let request = self.requests.recv(park, deadline)?;
        self.replies.send(request.len(), park, deadline, |reply| {
            reply.copy_from_slice(&request);
            reply.iter_mut().skip(NUMBER).for_each(u8::make_ascii_uppercase);
        })?;
        // Last, so that whoever dies before leaves it to a successor.
        request.release(park);
        Ok(())
    }

    /// Answers nothing more.
    pub fn close(self, park: &impl Park) {
        self.replies.close(park);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::park::FutexPark;

    /// What the processes in `tests/` meet only by chance: death after the reply and before the
    /// release.
    #[test]
    fn a_second_reply_is_dropped() {
        let [client, first, second] = [1, 2, 3].map(|index| OwnerId::new(index, 1).unwrap());
        let (park, now) = (FutexPark, Deadline::NOW);
        let memory = Memory::create(Link::SIZE).unwrap();
        // SAFETY: the memory is this test's alone.
        let link = unsafe { Link::create(&memory.region()) }.unwrap();
        let mut client = link.client(client).unwrap();
        client.ask("one", &park, now).unwrap();
        client.ask("two", &park, now).unwrap();

        let mut server = link.server(first).unwrap();
        let request = server.requests.recv(&park, now).unwrap();
        server.replies.send(request.len(), &park, now, |it| it.copy_from_slice(&request)).unwrap();
        // A process that is killed drops nothing.
        std::mem::forget(server);
        // SAFETY: the handle is gone, and was the only one with this id.
        let dead = unsafe { Dead::assume(first) };
        let mut server = link.recover_server(dead, second, &park).unwrap();
        while server.serve(&park, now).is_ok() {}

        assert_eq!(client.answer(&park, now), Ok((0, "one".into())));
        assert_eq!(client.answer(&park, now), Ok((1, "TWO".into())));
        assert_eq!(client.answer(&park, now), Err(Error::TimedOut));
    }
}
