//! A frame written and read on one thread: what that costs when no line moves.

use benches::frame::Template;
use benches::region::Region;
use benches::traffic::{FrameReceiver, FrameSender};
use benches::{ours, peers};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

const BYTES: usize = 64 * 1024;

fn write_read<const N: usize>(
    group: &mut Group,
    name: &str,
    mut tx: impl FrameSender<N>,
    mut rx: impl FrameReceiver<N>,
) {
    let template = Template::new();
    let mut counter = 0;
    group.bench_function(name, |bench| {
        bench.iter(|| {
            counter += 1;
            let frame = template.frame(counter);
            assert!(tx.try_send(frame) && rx.try_recv(frame));
        });
    });
}

fn size<const N: usize, const SLOT: usize>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("frame {N} write+read"));
    let region = Region::private(ours::frames_size(BYTES)).expect("memory");
    let (tx, rx) = ours::frames(&region, BYTES);
    write_read::<N>(&mut group, "ours", tx, rx);
    let (tx, rx) = peers::rtrb::slots::<SLOT>(BYTES);
    write_read::<N>(&mut group, "rtrb", tx, rx);
    let queue = peers::bbqueue::queue(BYTES);
    let (tx, rx) = peers::bbqueue::framed::<u16>(&queue);
    write_read::<N>(&mut group, "bbqueue", tx, rx);
    group.finish();
}

fn all(criterion: &mut Criterion) {
    size::<48, 64>(criterion);
    size::<1024, 1024>(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
