//! A body for message headers.

use shm_primitives::message::{HeaderError, MsgHeader, MsgStatus, Priority, SeqId};

/// Any bytes: the parser says what they are, in agreement with a plain reading of them, and
/// what it accepts is made again byte for byte.
pub fn parse(data: &[u8]) {
    let exact = MsgHeader::split(data);
    let first = MsgHeader::split_prefix(data);
    let Some((head, rest)) = data.split_at_checked(16) else {
        let error = HeaderError::TooShort { found: data.len(), wanted: 16 };
        assert_eq!((exact, first), (Err(error), Err(error)));
        return;
    };
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (seq, func, length) = (number(&head[..8]), number(&head[8..12]), number(&head[12..]));
    let there = rest.len() as u64;
    assert_eq!(exact.is_ok(), seq != 0 && length == there);
    assert_eq!(first.is_ok(), seq != 0 && length <= there);
    for (header, payload) in [exact, first].into_iter().flatten() {
        assert_eq!((header.seq_id(), u64::from(header.func_id())), (seq, func));
        assert_eq!(payload.len() as u64, length);
        assert_eq!(header.total_size(), 16 + length);
        let again = MsgHeader::new(seq, func as u32, length as u32);
        assert_eq!((again, &again.to_bytes()[..]), (header, head));
        assert_eq!(payload, &rest[..payload.len()]);
    }
    if let Some(id) = SeqId::from_raw(seq) {
        let made = SeqId::new(id.place(), id.generation(), id.counter());
        assert_eq!(made.map(SeqId::raw), Some(seq));
    }
    let word = func as u32;
    assert_eq!(MsgStatus::from_word(word).map(MsgStatus::word), (word < 4).then_some(word));
    assert_eq!(Priority::from_word(word).map(Priority::word), (word < 2).then_some(word));
}
