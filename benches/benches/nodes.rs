//! A message from a node to another and its receipt, on one thread: what that costs when no line
//! moves.

use benches::frame::Template;
use benches::ours::node::Place;
use benches::traffic::{FrameReceiver, FrameSender};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Written and read in place, each side by the handle that it has for itself.
fn handles<const N: usize>(group: &mut Group, place: &Place) {
    let from = place.node("from").join().expect("a node");
    let to = place.node("to").join().expect("a node");
    let mut tx = from.sender("to").expect("it has joined");
    let mut rx = to.receiver().expect("it has joined");
    let template = Template::<N>::new();
    let mut counter = 0;
    group.bench_function("sender, receiver", |bench| {
        bench.iter(|| {
            counter += 1;
            let frame = template.frame(counter);
            assert!(FrameSender::try_send(&mut tx, frame) && rx.try_recv(frame));
            assert!(FrameSender::try_send(&mut tx, frame), "full, with none in it");
            // A look takes in new lanes only now and then.
            while !rx.try_recv(frame) {}
        });
    });
}

/// By the calls that any thread may make at any time, and a message of one's own.
fn calls<const N: usize>(group: &mut Group, place: &Place) {
    let from = place.node("from").join().expect("a node");
    let to = place.node("to").join().expect("a node");
    let payload = [1; N];
    group.bench_function("send, try_recv", |bench| {
        bench.iter(|| {
            from.send("to", black_box(&payload)).expect("room");
            to.try_recv().expect("a whole lane").expect("a message")
        });
    });
}

fn size<const N: usize>(criterion: &mut Criterion) {
    let place = Place::new().expect("a domain");
    let mut group = criterion.benchmark_group(format!("node {N} send+receive"));
    handles::<N>(&mut group, &place);
    calls::<N>(&mut group, &place);
    group.finish();
}

fn all(criterion: &mut Criterion) {
    size::<48>(criterion);
    size::<1024>(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
