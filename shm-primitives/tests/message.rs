//! Message headers: their bytes, and what is no message.

use proptest::prelude::*;
use shm_primitives::message::{
    HeaderError, MsgHeader, MsgStatus, Priority, SeqId, SeqIds, UnknownValue,
};

/// The layout in bytes. It must never change.
#[test]
fn golden_bytes() {
    let header = MsgHeader::new(0x0102_0304_0506_0708, 0x1112_1314, 0x2122_2324);
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21];
    assert_eq!(header.to_bytes(), bytes);
    assert_eq!(MsgHeader::from_bytes(bytes), header);
    assert_eq!(
        (header.seq_id(), header.func_id(), header.payload_len()),
        (0x0102_0304_0506_0708, 0x1112_1314, 0x2122_2324)
    );
    assert_eq!(SeqId::new(0xabc, 0x123, 0x45_6789_abcd).unwrap().raw(), 0xabc1_2345_6789_abcd);
}

#[test]
fn seed_values() {
    assert_eq!((MsgHeader::SIZE, MsgHeader::INVALID_SEQ_ID), (16, 0));
    assert_eq!(MsgHeader::RESERVED_FUNCTIONS, 0..=1000);
    assert!(MsgHeader::new(1, 1000, 0).is_reserved());
    assert!(!MsgHeader::new(1, 1001, 0).is_reserved());
    assert!(MsgHeader::new(1, 0, 0).is_valid() && !MsgHeader::new(0, 1001, 0).is_valid());
    assert_eq!([Priority::Low, Priority::High].map(Priority::word), [0, 1]);
    let all = [MsgStatus::Pending, MsgStatus::Processing, MsgStatus::Completed, MsgStatus::Failed];
    assert_eq!(all.map(MsgStatus::word), [0, 1, 2, 3]);
    assert_eq!(all.map(MsgStatus::is_final), [false, false, true, true]);
}

#[test]
fn words_are_checked() {
    for word in 0..4 {
        assert_eq!(MsgStatus::try_from(word).map(u32::from), Ok(word));
    }
    for word in [4, 256, 257, 258, u32::MAX] {
        let error = UnknownValue { what: "message status", found: word, maximum: 3 };
        assert_eq!(MsgStatus::try_from(word), Err(error));
    }
    assert_eq!(Priority::try_from(1), Ok(Priority::High));
    for word in [2, 256, 257, u32::MAX] {
        let error = UnknownValue { what: "priority", found: word, maximum: 1 };
        assert_eq!(Priority::try_from(word), Err(error));
    }
}

#[test]
fn total_size_does_not_wrap() {
    assert_eq!(MsgHeader::new(1, 2, 0).total_size(), 16);
    assert_eq!(MsgHeader::new(1, 2, u32::MAX).total_size(), (1 << 32) + 15);
}

#[test]
fn what_is_no_message() {
    let message = |seq, length| {
        let mut bytes = MsgHeader::new(seq, 1001, length).to_bytes().to_vec();
        bytes.extend([7; 10]);
        bytes
    };
    let found = 15;
    let short = HeaderError::TooShort { found, wanted: 16 };
    assert_eq!(MsgHeader::split(&message(1, 0)[..found]), Err(short));
    assert_eq!(MsgHeader::split(&[]), Err(HeaderError::TooShort { found: 0, wanted: 16 }));
    assert_eq!(MsgHeader::split(&message(0, 10)), Err(HeaderError::InvalidSeqId));
    for length in [0, 9, 11, u32::MAX] {
        let error = HeaderError::WrongLength { found: length, wanted: 10 };
        assert_eq!(MsgHeader::split(&message(1, length)), Err(error));
    }
    assert_eq!(MsgHeader::split(&message(1, 10)).unwrap().1, [7; 10]);
    assert_eq!(MsgHeader::split_prefix(&message(1, 4)).unwrap().1, [7; 4]);
    let error = HeaderError::WrongLength { found: 11, wanted: 10 };
    assert_eq!(MsgHeader::split_prefix(&message(1, 11)), Err(error));
}

#[test]
fn an_error_says_what_was_found() {
    let text = HeaderError::WrongLength { found: 11, wanted: 10 }.to_string();
    assert!(text.contains("11") && text.contains("10"), "{text}");
    let text = MsgStatus::try_from(9).unwrap_err().to_string();
    assert!(text.contains('9') && text.contains('3'), "{text}");
}

#[test]
fn ids_end_and_never_begin_again() {
    let last = SeqId::MAX_COUNTER;
    let mut ids = SeqIds::after(4095, 4095, last - 2).unwrap();
    assert_eq!(ids.left(), 2);
    assert_eq!(ids.next(), Some(u64::MAX - 1));
    assert_eq!(ids.next(), Some(u64::MAX));
    assert_eq!([ids.next(), ids.next()], [None; 2]);
    let mut ids = SeqIds::new(0, 0).unwrap();
    assert_eq!([ids.next(), ids.next()], [Some(1), Some(2)]);
    assert_eq!(SeqIds::new(4096, 0).map(|ids| ids.left()), None);
    assert_eq!(SeqIds::new(0, 4096).map(|ids| ids.left()), None);
    assert_eq!(SeqIds::after(0, 0, last + 1).map(|ids| ids.left()), None);
    assert_eq!(SeqId::new(1, 1, 0), None);
    assert_eq!(SeqId::from_raw(1 << 40), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(seq in 1u64.., func: u32, payload: Vec<u8>, behind: Vec<u8>) {
        let header = MsgHeader::new(seq, func, payload.len() as u32);
        let mut message = header.to_bytes().to_vec();
        message.extend(&payload);
        prop_assert_eq!(MsgHeader::split(&message), Ok((header, &payload[..])));
        message.extend(&behind);
        prop_assert_eq!(MsgHeader::split_prefix(&message), Ok((header, &payload[..])));
        prop_assert_eq!(MsgHeader::split(&message).is_ok(), behind.is_empty());
    }

    #[test]
    fn ids_of_two_clients_differ(
        a in (0..4096u32, 0..4096u32, 1..=SeqId::MAX_COUNTER),
        b in (0..4096u32, 0..4096u32, 1..=SeqId::MAX_COUNTER),
    ) {
        let id = |(place, generation, counter)| SeqId::new(place, generation, counter).unwrap();
        prop_assert_eq!(id(a).raw() == id(b).raw(), a == b);
        prop_assert_eq!((id(a).place(), id(a).generation(), id(a).counter()), a);
        prop_assert_eq!(SeqId::from_raw(id(a).raw()), Some(id(a)));
        prop_assert!(id(a).raw() != MsgHeader::INVALID_SEQ_ID);
        let next = SeqIds::after(a.0, a.1, a.2).unwrap().next().and_then(SeqId::from_raw);
        let expected = SeqId::new(a.0, a.1, a.2 + 1);
        prop_assert_eq!(next, expected);
    }
}
