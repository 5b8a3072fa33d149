//! Memory that is not what one wants to attach to: every way it can be wrong is an error
//! of its own that says what was found and what was wanted, and nothing is written.

mod common;

use common::memory::Memory;
use common::{dead, owner};
use shm_primitives::part::{
    AttachError, ClaimError, Corrupt, End, Kind, PartHeader, Shareable, Untrusted,
};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{Options, SpscRingRef};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Offsets of the part header's words.
mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 4;
    pub const KIND: usize = 8;
    pub const LAYOUT: usize = 12;
    pub const MIN_READER: usize = 16;
    pub const CAPACITY: usize = 20;
    pub const STRIDE: usize = 24;
    pub const OPTIONS: usize = 28;
    pub const DATA: usize = 32;
    pub const OWNERS: [usize; 2] = [40, 44];
    pub const RESERVED: std::ops::Range<usize> = 48..64;
}

/// A structure's ways to attach, their results reduced to the error.
type Attach = fn(Region<'_>) -> Result<(), AttachError>;

/// Words overwritten, and what attaching must then say.
type Spoilt<'a> = (&'a [(usize, u32)], AttachError);

/// Attaching fails in the wanted way, by each of the `attach`, and writes nothing.
fn refused(
    memory: &Memory,
    region: impl Fn() -> Region<'static>,
    attach: &[Attach],
    wanted: AttachError,
) {
    let before = memory.bytes();
    for attach in attach {
        assert_eq!(attach(region()), Err(wanted));
    }
    assert!(memory.bytes() == before, "written to while refusing: {wanted}");
}

/// Each row of the table against a structure made afresh.
fn refuses_each(create: fn() -> &'static Memory, attach: &[Attach], table: &[Spoilt<'_>]) {
    let mut texts = BTreeSet::new();
    for (words, wanted) in table {
        let memory = create();
        attach.iter().for_each(|attach| attach(memory.region()).unwrap());
        words.iter().for_each(|(offset, value)| memory.set(*offset, *value));
        refused(memory, || memory.region(), attach, *wanted);
        says(wanted);
        assert!(texts.insert(wanted.to_string()), "twice: {wanted}");
    }
}

/// The text is there and fit to be shown.
fn says(error: &impl Display) {
    let text = error.to_string();
    assert!(text.len() > 10 && !text.ends_with('.') && text.is_ascii(), "{text:?}");
}

/// Memory for the rest of the test: regions of it need no borrow.
fn memory(len: usize, fill: u8) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, fill)))
}

mod spsc {
    use super::*;

    type Ring<T = u32> = SpscRingRef<'static, T>;

    const OPTIONS: Options = Options::new(8).start(5);
    const WRITE: usize = 64;
    const RELEASED: usize = 128;
    const CONSUMED: usize = 192;

    /// A ring at 5, and more memory than it takes.
    fn create() -> &'static Memory {
        let memory = memory(1024, 0x5a);
        // SAFETY: nobody else knows this memory.
        unsafe { Ring::<u32>::init_at(memory.region(), OPTIONS) }.unwrap();
        memory
    }

    fn trusted<T: Shareable>(region: Region<'_>, capacity: Option<u32>) -> Result<(), AttachError> {
        // SAFETY: no handle is made, so no protocol can be broken.
        unsafe { SpscRingRef::<T>::attach(region, capacity) }.map(drop)
    }

    fn untrusted<T: Shareable>(
        region: Region<'_>,
        capacity: Option<u32>,
    ) -> Result<(), AttachError> {
        SpscRingRef::<T, Untrusted>::attach_untrusted(region, capacity).map(drop)
    }

    const ATTACH: &[Attach] =
        &[|region| trusted::<u32>(region, None), |region| untrusted::<u32>(region, None)];

    fn layout_hash() -> u32 {
        create().get(at::LAYOUT)
    }

    #[test]
    fn spoilt_headers() {
        use AttachError::*;
        const MAGIC: u32 = PartHeader::MAGIC;
        let hash = layout_hash();
        let data =
            |found, limit| Corrupt(super::Corrupt { what: "offset of the elements", found, limit });
        refuses_each(
            create,
            ATTACH,
            &[
                (&[(at::MAGIC, 0)], WrongMagic { found: 0, wanted: MAGIC }),
                (
                    &[(at::MAGIC, MAGIC.swap_bytes())],
                    WrongMagic { found: MAGIC.swap_bytes(), wanted: MAGIC },
                ),
                (&[(at::KIND, 2)], WrongKind { found: Kind::FRAME_RING, wanted: Kind::SPSC_RING }),
                (&[(at::KIND, 77)], WrongKind { found: Kind(77), wanted: Kind::SPSC_RING }),
                (&[(at::VERSION, 0)], WrongVersion { found: 0, wanted: 1 }),
                (&[(at::MIN_READER, 2)], NewerRequired { found: 2, wanted: 1 }),
                (&[(at::VERSION, 9), (at::MIN_READER, 8)], NewerRequired { found: 8, wanted: 1 }),
                (&[(at::STRIDE, 8)], WrongElementSize { found: 8, wanted: 4 }),
                (&[(at::STRIDE, 0)], WrongElementSize { found: 0, wanted: 4 }),
                (&[(at::LAYOUT, 0x1234_5678)], WrongLayout { found: 0x1234_5678, wanted: hash }),
                (&[(at::CAPACITY, 0)], BadCapacity { found: 0, maximum: 1 << 30 }),
                (&[(at::CAPACITY, 12)], BadCapacity { found: 12, maximum: 1 << 30 }),
                (&[(at::CAPACITY, 1 << 31)], BadCapacity { found: 1 << 31, maximum: 1 << 30 }),
                // A power of two, but the region is smaller.
                (&[(at::CAPACITY, 256)], TooSmall { found: 1024, wanted: 256 + 256 * 4 }),
                (&[(at::OPTIONS, 13)], UnsupportedOption { found: 13 }),
                (&[(at::OPTIONS, 32)], UnsupportedOption { found: 32 }),
                (&[(at::OPTIONS, u32::MAX)], UnsupportedOption { found: u32::MAX }),
                (&[(at::OPTIONS, 9)], data(256, 512)),
                (&[(at::DATA, 0)], data(0, 256)),
                (&[(at::DATA, 260)], data(260, 256)),
                (&[(at::DATA, u32::MAX)], data(u32::MAX, 256)),
            ],
        );
    }

    #[test]
    fn regions_that_do_not_fit() {
        use AttachError::*;
        let memory = create();
        let size = 256 + 8 * 4;
        assert_eq!(OPTIONS.required_size::<u32>(), Some(size));
        for len in [0, 63, 64, 255] {
            refused(memory, || memory.part(0, len), ATTACH, TooSmall { found: len, wanted: 256 });
        }
        refused(
            memory,
            || memory.part(0, size - 1),
            ATTACH,
            TooSmall { found: size - 1, wanted: size },
        );
        assert_eq!(ATTACH[0](memory.part(0, size)), Ok(()));
        for offset in [1, 4, 32] {
            let found = memory.base().addr().get() + offset;
            let error = Misaligned { found, wanted: 64 };
            refused(memory, || memory.part(offset, 900), ATTACH, error);
            says(&error);
        }
    }

    /// Elements for DMA lose their alignment where the segment is mapped at a worse
    /// address.
    #[test]
    fn regions_aligned_for_less() {
        let memory = memory(3 * 4096, 0);
        let options = Options::new(8).alignment(4096);
        let size = options.required_size::<u32>().unwrap();
        // SAFETY: nobody else knows this memory.
        unsafe { Ring::<u32>::init_at(memory.part(0, size), options) }.unwrap();
        for offset in (0..256).step_by(4) {
            memory.set(64 + offset, memory.get(offset));
        }
        let found = memory.base().addr().get() + 64;
        let wanted = AttachError::Misaligned { found, wanted: 4096 };
        refused(memory, || memory.part(64, 2 * 4096), ATTACH, wanted);
    }

    #[test]
    fn another_capacity_than_expected() {
        use AttachError::*;
        const ATTACH: &[Attach] = &[
            |region| trusted::<u32>(region, Some(16)),
            |region| untrusted::<u32>(region, Some(16)),
        ];
        let memory = create();
        let error = UnexpectedCapacity { found: 8, wanted: 16 };
        refused(memory, || memory.region(), ATTACH, error);
        says(&error);
        assert_eq!(trusted::<u32>(memory.region(), Some(8)), Ok(()));
    }

    #[test]
    fn another_element_type() {
        use AttachError::*;
        let memory = create();
        let attach: &[Attach] = &[
            |region| trusted::<[u8; 3]>(region, None),
            |region| untrusted::<[u8; 3]>(region, None),
        ];
        refused(memory, || memory.region(), attach, WrongElementSize { found: 4, wanted: 3 });
        // The same size, but another alignment.
        for attach in [trusted::<[u16; 2]>, untrusted::<[u16; 2]>] {
            let before = memory.bytes();
            let error = attach(memory.region(), None);
            assert!(matches!(error, Err(WrongLayout { found, .. }) if found == layout_hash()));
            assert!(memory.bytes() == before);
        }
    }

    /// Nothing was created here yet, or garbage lies here.
    #[test]
    fn memory_without_a_part() {
        for fill in [0, 0xff, 0x5a] {
            let memory = memory(1024, fill);
            let found = u32::from_ne_bytes([fill; 4]);
            let wanted = AttachError::WrongMagic { found, wanted: PartHeader::MAGIC };
            refused(memory, || memory.region(), ATTACH, wanted);
        }
    }

    /// What a later version may look like to this one.
    #[test]
    fn a_newer_version() {
        let memory = create();
        memory.set(at::VERSION, 2);
        at::RESERVED.step_by(4).for_each(|offset| memory.set(offset, 0xfeed_0000));
        let ring =
            SpscRingRef::<u32, Untrusted>::attach_untrusted(memory.region(), Some(8)).unwrap();
        let mut producer = ring.claim_producer(owner(1)).unwrap();
        let mut consumer = ring.claim_consumer(owner(2)).unwrap();
        for lap in 0..20 {
            producer.push(lap).unwrap();
            assert_eq!(consumer.pop(), Ok(lap));
        }
        assert!(at::RESERVED.step_by(4).all(|offset| memory.get(offset) == 0xfeed_0000));
    }

    /// What cannot be created; also nothing is written.
    #[test]
    fn refused_creations() {
        use AttachError::*;
        let memory = memory(8192, 0x5a);
        let before = memory.bytes();
        let create = |region, options| {
            // SAFETY: nobody else knows this memory.
            unsafe { Ring::<u32>::init_at(region, options) }.map(drop)
        };
        for capacity in [0, 3, 12, (1 << 30) + 1, 1 << 31, u32::MAX] {
            let error = BadCapacity { found: capacity, maximum: 1 << 30 };
            assert_eq!(create(memory.region(), Options::new(capacity)), Err(error));
            says(&error);
        }
        for alignment in [0, 3, 96, 8192, u32::MAX] {
            let error = UnsupportedOption { found: alignment };
            assert_eq!(create(memory.region(), Options::new(8).alignment(alignment)), Err(error));
            says(&error);
        }
        for len in [0, 255, 287] {
            let error = TooSmall { found: len, wanted: 288 };
            assert_eq!(create(memory.part(0, len), Options::new(8)), Err(error));
        }
        let result = create(memory.region(), Options::new(1 << 30));
        assert!(matches!(result, Err(TooSmall { found: 8192, .. })));
        let found = memory.base().addr().get() + 64;
        let error = Misaligned { found, wanted: 4096 };
        assert_eq!(create(memory.part(64, 8000), Options::new(8).alignment(4096)), Err(error));
        // SAFETY: nobody else knows this memory.
        let nothing = unsafe { Ring::<[u32; 0]>::init_at(memory.region(), Options::new(8)) };
        assert!(nothing.is_err(), "elements without a size");
        assert!(memory.bytes() == before);
    }

    /// Claims and recoveries of both ends, by handles of both kinds, that all must be
    /// refused with `wanted` and leave the memory as it is.
    fn refuses_claims(memory: &'static Memory, end: End, wanted: ClaimError) {
        let before = memory.bytes();
        // SAFETY: the words spoilt here are for the claim to find; no element is used.
        let trusted = unsafe { Ring::<u32>::attach(memory.region(), None) }.unwrap();
        let untrusted =
            SpscRingRef::<u32, Untrusted>::attach_untrusted(memory.region(), None).unwrap();
        let errors = match end {
            End::Writing => {
                [trusted.claim_producer(owner(9)).err(), untrusted.claim_producer(owner(9)).err()]
            }
            End::Reading => {
                [trusted.claim_consumer(owner(9)).err(), untrusted.claim_consumer(owner(9)).err()]
            }
        };
        assert_eq!(errors, [Some(wanted); 2]);
        assert!(memory.bytes() == before, "written to while refusing: {wanted}");
        says(&wanted);
    }

    #[test]
    fn impossible_positions() {
        let ahead = |what, found| ClaimError::Corrupt(Corrupt { what, found, limit: 8 });
        // Created at 5: (words, for the producer, for the consumer).
        const WRITTEN: &str = "write position ahead of the consumed one by";
        for (word, value, producer, consumer) in [
            (WRITE, 14, Some((WRITTEN, 9)), Some((WRITTEN, 9))),
            (WRITE, 4, Some((WRITTEN, u32::MAX)), Some((WRITTEN, u32::MAX))),
            (CONSUMED, 6, Some((WRITTEN, u32::MAX)), Some((WRITTEN, u32::MAX))),
            (WRITE, 0x8000_0005, Some((WRITTEN, 1 << 31)), Some((WRITTEN, 1 << 31))),
        ] {
            let memory = create();
            memory.set(word, value);
            if let Some((what, found)) = producer {
                refuses_claims(memory, End::Writing, ahead(what, found));
            }
            if let Some((what, found)) = consumer {
                refuses_claims(memory, End::Reading, ahead(what, found));
            }
        }
        // At the limits they are possible.
        for (word, value) in [(WRITE, 13), (RELEASED, 5u32.wrapping_sub(8))] {
            let memory = create();
            memory.set(word, value);
            let ring =
                SpscRingRef::<u32, Untrusted>::attach_untrusted(memory.region(), None).unwrap();
            ring.claim_producer(owner(1)).unwrap();
            ring.claim_consumer(owner(2)).unwrap();
        }
    }

    #[test]
    fn ends_in_use() {
        for end in [End::Writing, End::Reading] {
            let memory = create();
            memory.set(at::OWNERS[end as usize], owner(3).word());
            refuses_claims(memory, end, ClaimError::Owned(owner(3)));
        }
    }

    #[test]
    fn owner_words_that_no_owner_has() {
        let corrupt =
            |found| Corrupt { what: "owner word, of no generation", found, limit: 1 << 12 };
        for end in [End::Writing, End::Reading] {
            for word in [1, 0xfff] {
                let memory = create();
                memory.set(at::OWNERS[end as usize], word);
                refuses_claims(memory, end, corrupt(word).into());
                // SAFETY: no handle is made.
                let ring = unsafe { Ring::<u32>::attach(memory.region(), None) }.unwrap();
                assert_eq!(ring.owner(end), Err(corrupt(word)));
                let recovered = match end {
                    End::Writing => ring.recover_producer(dead(1), owner(9)).err(),
                    End::Reading => ring.recover_consumer(dead(1), owner(9)).err(),
                };
                assert_eq!(recovered, Some(corrupt(word).into()));
                assert_eq!(memory.get(at::OWNERS[end as usize]), word);
            }
        }
    }

    /// Proof that one owner is dead takes nothing from another, nor from nobody.
    #[test]
    fn recoveries_from_the_wrong_owner() {
        for found in [None, Some(owner(3))] {
            let wanted = ClaimError::NotTheOwner { found };
            let memory = create();
            at::OWNERS.iter().for_each(|at| memory.set(*at, found.map_or(0, |id| id.word())));
            let before = memory.bytes();
            // SAFETY: no handle is made.
            let ring = unsafe { Ring::<u32>::attach(memory.region(), None) }.unwrap();
            assert_eq!(ring.recover_producer(dead(1), owner(9)).err(), Some(wanted));
            assert_eq!(ring.recover_consumer(dead(1), owner(9)).err(), Some(wanted));
            assert!(memory.bytes() == before);
            says(&wanted);
        }
    }
}
