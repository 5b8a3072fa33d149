//! What stands in a frame of the response ring.

use crate::message::{HeaderError, MsgHeader, MsgStatus};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What stands before a reply's payload. The header's length is that of the payload alone.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(super) struct ReplyHeader {
    message: MsgHeader,
    status: U32,
}

/// Bytes of it.
pub(super) const REPLY_HEADER: usize = size_of::<ReplyHeader>();

const _: () = assert!(REPLY_HEADER == 20);

/// Bytes of a reply's frame with `payload` bytes, the frame's own header among them.
pub(super) const fn footprint(payload: u32) -> u64 {
    (8 + REPLY_HEADER as u64 + payload as u64).next_multiple_of(8)
}

impl ReplyHeader {
    pub(super) fn new(message: MsgHeader, status: MsgStatus) -> Self {
        Self { message, status: U32::new(status.word()) }
    }

    pub(super) fn to_bytes(self) -> [u8; REPLY_HEADER] {
        zerocopy::transmute!(self)
    }

    /// Takes apart a frame: its header is copied once, then checked.
    pub(super) fn parse(frame: &[u8]) -> Result<(MsgHeader, MsgStatus), HeaderError> {
        match frame.first_chunk() {
            Some(head) => Self::check(*head, frame.len()),
            None => Err(HeaderError::TooShort { found: frame.len(), wanted: REPLY_HEADER }),
        }
    }

    /// Takes apart the header of a frame of `size` bytes, as many as it has itself at least.
    pub(super) fn check(
        head: [u8; REPLY_HEADER],
        size: usize,
    ) -> Result<(MsgHeader, MsgStatus), HeaderError> {
        let Self { message, status } = zerocopy::transmute!(head);
        let payload = size - REPLY_HEADER;
        if !message.is_valid() {
            return Err(HeaderError::InvalidSeqId);
        }
        if message.payload_len() as usize != payload {
            return Err(HeaderError::WrongLength { found: message.payload_len(), wanted: payload });
        }
        let found = status.get();
        match MsgStatus::from_word(found) {
            // A call that nobody has taken up has no reply.
            None | Some(MsgStatus::Pending) => Err(HeaderError::BadStatus { found }),
            Some(status) => Ok((message, status)),
        }
    }
}
