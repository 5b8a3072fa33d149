//! A push and a pop on one thread: what the operations cost when no line moves.

use benches::groups::spsc::CAPACITY;
use benches::region::Region;
use benches::traffic::{Receiver, Sender};
use benches::{ours, peers};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn push_pop(group: &mut Group, name: &str, mut tx: impl Sender<u64>, mut rx: impl Receiver<u64>) {
    group.bench_function(name, |bench| {
        bench.iter(|| {
            tx.try_send(black_box(1));
            rx.try_recv()
        });
    });
}

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc push+pop");
    let region = Region::private(ours::spsc_size::<u64>(CAPACITY as u32)).expect("memory");
    let (tx, rx) = ours::spsc(&region, CAPACITY as u32);
    push_pop(&mut group, "ours", tx, rx);
    let (tx, rx) = rtrb::RingBuffer::new(CAPACITY);
    push_pop(&mut group, "rtrb", tx, rx);
    let mut queue = peers::heapless::queue();
    let (tx, rx) = queue.split();
    push_pop(&mut group, "heapless", tx, rx);
    let (tx, rx) = peers::ringbuf::ring(CAPACITY);
    push_pop(&mut group, "ringbuf", tx, rx);
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
