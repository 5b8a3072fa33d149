//! Memory that is no pool, and descriptors of queues.

use super::{CHUNKS, DATA, ID, LARGE, OPTIONS, SMALL, connected, leak, parts};
use crate::common::memory::Memory;
use shm_primitives::part::{AttachError, Corrupt, Kind, QueueDescriptor, Shareable};
use shm_primitives::pool::{ChunkHandle, Limits, LoanError, MarksRef, Options, PoolRef};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc;

#[test]
fn layout() {
    let (parts, publisher) = connected(Limits::NONE);
    let found: Vec<_> = [64, 68, 72, 76, 28, 32, 20].map(|at| parts.memory.get(at)).into();
    assert_eq!(found, [ID, 2, 5, 3, 6, DATA as u32, 8]);
    let table: Vec<_> = (0..12).map(|n| parts.memory.get(128 + 4 * n)).collect();
    assert_eq!(table, [64, 3, 0, 6, 256, 2, 3, 9, 0, 0, 0, 0]);
    assert_eq!([0, 1, 2].map(|place| parts.memory.get(256 + 4 * place)), [1, 2, 3]);
    assert_eq!(parts.memory.size(), DATA + 3 * SMALL + 2 * LARGE);
    let pool = parts.pool;
    assert_eq!(pool.size(), parts.memory.size());
    assert_eq!((pool.id(), pool.chunks(), pool.places()), (ID, 5, 3));
    assert_eq!(pool.classes().collect::<Vec<_>>(), [(64, 3), (256, 2)]);
    assert_eq!((pool.max_length(), pool.alignment()), (LARGE, 64));

    let row = parts.rows[1];
    assert_eq!([64, 68, 72, 20, 32].map(|at| row.get(at)), [ID, 2, 5, 8, 128]);
    assert_eq!(row.size(), 128 + 4 * CHUNKS);
    let generation = parts.memory.get(320);
    let shared = publisher.loan(10).unwrap().share();
    assert_eq!(parts.memory.get(320), generation.wrapping_add(1));
    let handle = shared.lend(1, 5).unwrap();
    assert_eq!(
        handle,
        ChunkHandle { pool: ID, chunk: 0, generation: generation.wrapping_add(1), length: 10 }
    );
    assert_eq!(row.get(128), 5 << 2 | 1);
    let holder = parts.holder(1);
    let borrowed = holder.borrow(handle).unwrap();
    assert_eq!(row.get(128), 5 << 2 | 3);
    drop(borrowed);
    assert_eq!(row.get(128), 0);
}

/// Chunks at each alignment lie where they should.
#[test]
fn alignments() {
    for alignment in [64u32, 128, 1024, 4096] {
        let options = Options::new(1, 0).class(100, 3).class(5000, 2).alignment(alignment);
        let parts = parts(options);
        let publisher = parts.publisher(Limits::NONE);
        let loans: Vec<_> = (0..5).map(|_| publisher.loan(100).unwrap()).collect();
        for (n, loan) in loans.iter().enumerate() {
            assert!(loan.as_ptr().addr().is_multiple_of(alignment as usize));
            let least = if n < 3 { 100 } else { 5000 };
            assert_eq!(loan.capacity(), (least as u32).next_multiple_of(alignment) as usize);
        }
        assert_eq!(publisher.loan(1).err(), Some(LoanError::Exhausted));
    }
}

fn attached(memory: &'static Memory) -> Result<(), AttachError> {
    // SAFETY: nobody writes meanwhile.
    let trusted = unsafe { PoolRef::attach(memory.region()) }.map(|pool| pool.id());
    assert_eq!(trusted, PoolRef::attach_untrusted(memory.region()).map(|pool| pool.id()));
    trusted.map(drop)
}

fn attached_marks(memory: &'static Memory) -> Result<(), AttachError> {
    // SAFETY: nobody writes meanwhile.
    let trusted = unsafe { MarksRef::attach(memory.region()) }.map(|marks| marks.id());
    assert_eq!(trusted, MarksRef::attach_untrusted(memory.region()).map(|marks| marks.id()));
    trusted.map(drop)
}

#[test]
fn spoilt_pools() {
    use AttachError::*;
    let corrupt = |what, found, limit| Corrupt(super_corrupt(what, found, limit));
    let table: &[(usize, u32, AttachError)] = &[
        (0, 1, WrongMagic { found: 1, wanted: u32::from_le_bytes(*b"SHMP") }),
        (4, 0, WrongVersion { found: 0, wanted: 1 }),
        (8, 5, WrongKind { found: Kind::CHUNK_MARKS, wanted: Kind::CHUNK_POOL }),
        (16, 2, NewerRequired { found: 2, wanted: 1 }),
        (20, 16, corrupt("chunks, rounded up,", 16, 8)),
        (20, 7, BadCapacity { found: 7, maximum: 1 << 20 }),
        (24, 4, WrongElementSize { found: 4, wanted: 1 }),
        (28, 5, UnsupportedOption { found: 32 }),
        (28, 13, UnsupportedOption { found: 8192 }),
        (28, 40, UnsupportedOption { found: 40 }),
        (28, 7, corrupt("size of a class", 64, 128)),
        (32, 512, corrupt("offset of the chunks", 512, 384)),
        (68, 0, BadClass { number: 0 }),
        (68, 9, BadClass { number: 9 }),
        (68, u32::MAX, BadClass { number: u32::MAX }),
        (68, 1, corrupt("chunks, rounded up,", 8, 4)),
        (72, 6, corrupt("number of chunks", 6, 5)),
        (76, 4097, TooMany { what: "places for subscribers", found: 4097, maximum: 4096 }),
        (76, 40, corrupt("offset of the chunks", 384, 512)),
        (128, 0, BadClass { number: 0 }),
        (128, u32::MAX, BadClass { number: 0 }),
        (128, 256, BadClass { number: 1 }),
        (128, 63, corrupt("size of a class", 63, 64)),
        (132, 0, BadClass { number: 0 }),
        (132, u32::MAX, TooMany { what: "chunks", found: u32::MAX, maximum: 1 << 20 }),
        (148, 1 << 20, TooMany { what: "chunks", found: (1 << 20) + 3, maximum: 1 << 20 }),
        (136, 1, corrupt("first chunk of a class", 1, 0)),
        (156, 10, corrupt("offset of a class", 10, 9)),
        (144, 1 << 30, corrupt("size", 0, 0)),
    ];
    for (offset, value, wanted) in table {
        let parts = parts(OPTIONS);
        parts.memory.set(*offset, *value);
        let before = parts.memory.bytes();
        let found = attached(parts.memory).unwrap_err();
        if (*offset, *value) == (144, 1 << 30) {
            assert!(matches!(found, TooSmall { .. }), "{found}");
        } else {
            assert_eq!(found, *wanted, "{offset}");
        }
        assert!(found.to_string().len() > 10);
        assert!(parts.memory.bytes() == before, "written to while refusing: {wanted}");
    }
    let parts = parts(OPTIONS);
    parts.memory.set(12, 1);
    assert!(matches!(attached(parts.memory), Err(WrongLayout { found: 1, .. })));
    // SAFETY: nobody else knows this memory.
    let init = |region, options| unsafe { PoolRef::init_at(region, options) }.map(drop);
    let memory = leak(8192);
    let size = OPTIONS.required_size().unwrap();
    let small = memory.part(0, size - 1);
    assert_eq!(init(small, OPTIONS), Err(TooSmall { found: size - 1, wanted: size }));
    assert!(matches!(init(memory.part(32, 4096), OPTIONS), Err(Misaligned { wanted: 64, .. })));
    assert_eq!(OPTIONS.alignment(4096).required_size(), None, "two classes of one size");
    let coarse = Options::new(1, 1).class(64, 3).class(5000, 1).alignment(4096);
    assert_eq!(coarse.required_size(), Some(4096 * 6));
    assert!(matches!(
        init(leak(32768).part(64, 30000), coarse),
        Err(Misaligned { wanted: 4096, .. })
    ));
    let none = Options::new(1, 1);
    assert_eq!(init(memory.region(), none), Err(BadClass { number: 0 }));
    assert_eq!((none.chunks(), none.required_size()), (0, None));
    assert_eq!(init(memory.region(), none.class(64, 1).class(32, 1)), Err(BadClass { number: 1 }));
    let nine = (1..10).fold(none, |options, n| options.class(n * 64, 1));
    assert_eq!(init(memory.region(), nine), Err(BadClass { number: 9 }));
    let huge = none.class(1 << 30, 1 << 20);
    assert!(matches!(init(memory.region(), huge), Err(TooSmall { .. })));
    assert!(memory.bytes().iter().all(|byte| *byte == 0xa5), "written to while refusing");
}

fn super_corrupt(what: &'static str, found: u32, limit: u32) -> Corrupt {
    Corrupt { what, found, limit }
}

#[test]
fn spoilt_marks() {
    use AttachError::*;
    let corrupt = |what, found, limit| Corrupt(super_corrupt(what, found, limit));
    let table: &[(usize, u32, AttachError)] = &[
        (0, 1, WrongMagic { found: 1, wanted: u32::from_le_bytes(*b"SHMP") }),
        (8, 4, WrongKind { found: Kind::CHUNK_POOL, wanted: Kind::CHUNK_MARKS }),
        (20, 1 << 21, BadCapacity { found: 1 << 21, maximum: 1 << 20 }),
        (20, 16, corrupt("number of marks", 5, 16)),
        (24, 1, WrongElementSize { found: 1, wanted: 4 }),
        (32, 0, corrupt("offset of the marks", 0, 128)),
        (68, 0, corrupt("id of the marks", 0, 1)),
        (72, 0, corrupt("number of marks", 0, 8)),
        (72, 9, corrupt("number of marks", 9, 8)),
        (72, u32::MAX, corrupt("number of marks", u32::MAX, 8)),
        (72, 8, TooSmall { found: 148, wanted: 160 }),
    ];
    for (offset, value, wanted) in table {
        let row = parts(OPTIONS).rows[0];
        row.set(*offset, *value);
        let before = row.bytes();
        assert_eq!(attached_marks(row), Err(*wanted), "{offset}");
        assert!(row.bytes() == before, "written to while refusing: {wanted}");
    }
    let parts = parts(OPTIONS);
    // SAFETY: nobody else knows this memory.
    let init = |region, id| unsafe { MarksRef::init_at(region, &parts.pool, id) }.map(drop);
    assert_eq!(init(leak(148).region(), 0), Err(UnsupportedOption { found: 0 }));
    assert_eq!(init(leak(147).region(), 1), Err(TooSmall { found: 147, wanted: 148 }));
    assert!(matches!(init(leak(256).part(4, 200), 1), Err(Misaligned { wanted: 64, .. })));
}

// ---- Errors.

#[test]
fn queue_descriptors() {
    fn shareable<T: Shareable>() {}
    shareable::<QueueDescriptor>();
    shareable::<ChunkHandle>();
    use AttachError::*;
    let memory = leak(8192);
    let segment = memory.region();
    let size = |capacity: u32| spsc::Options::new(capacity).required_size::<u32>();
    let said = QueueDescriptor { offset: 4096, capacity: 64, alignment: 4096 };
    let found = said.resolve(&segment, size).unwrap();
    assert_eq!(found.base(), memory.part(4096, 0).base());
    assert_eq!(Some(found.len()), size(64));
    let fails = |said: QueueDescriptor| said.resolve(&segment, size).map(drop).unwrap_err();
    for capacity in [0, 3, 1 << 31, u32::MAX] {
        let error = BadCapacity { found: capacity, maximum: 1 << 30 };
        assert_eq!(fails(QueueDescriptor { capacity, ..said }), error);
    }
    for alignment in [0, 1, 32, 96, 8192, u32::MAX] {
        let error = UnsupportedOption { found: alignment };
        assert_eq!(fails(QueueDescriptor { alignment, ..said }), error);
    }
    let wanted = 8192 + size(64).unwrap();
    let beyond = fails(QueueDescriptor { offset: 8192, ..said });
    assert_eq!(beyond, TooSmall { found: 8192, wanted });
    for offset in [4096 + 64, u64::MAX, u64::MAX - 4095, 1 << 40] {
        assert!(matches!(
            fails(QueueDescriptor { offset, alignment: 4096, ..said }),
            TooSmall { .. } | Misaligned { .. }
        ));
    }
    assert!(matches!(fails(QueueDescriptor { offset: 64, ..said }), Misaligned { .. }));
    // A segment that happens to lie so that the sum is aligned.
    let shifted = memory.part(64, 8000);
    let odd = QueueDescriptor { offset: 64, capacity: 64, alignment: 128 };
    assert!(matches!(odd.resolve(&shifted, size), Err(Misaligned { .. })));
    let at_end = 8192 - size(64).unwrap();
    let last = QueueDescriptor { offset: at_end as u64, alignment: 64, ..said };
    assert!(last.resolve(&segment, size).is_ok());
    assert_eq!(
        last.resolve(&segment, |_| None).map(drop).unwrap_err(),
        BadCapacity { found: 64, maximum: 1 << 30 }
    );
    let _: Region<'_> = segment;
}
