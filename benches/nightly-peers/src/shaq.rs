//! `shaq`: a queue in shared memory.

use benches::errand::Errand;
use benches::frame::Frame;
use benches::pace::{Pace, Work};
use benches::region::memfd;
use benches::traffic::{BatchReceiver, BatchSender, FrameReceiver, FrameSender, Receiver, Sender};
use benches::{one_way, round_trip, stream};
use shaq::spsc::{Consumer, Producer, minimum_file_size, pair};
use std::num::NonZero;
use std::ops::Range;
use std::time::Duration;

const CAPACITY: usize = 1024;
const KIB: usize = 1024;

/// Runs the case of that name.
pub fn run(case: &str, errand: Errand) -> Result<Duration, String> {
    let work = Work::from_steps(errand.steps);
    match case {
        "u64" => {
            let (tx, rx) = ring(CAPACITY)?;
            Ok(stream::items(streamed(errand), tx, rx))
        }
        "u64 batch 64" => {
            let (tx, rx) = ring(CAPACITY)?;
            Ok(stream::batches(streamed(errand), 64, tx, rx))
        }
        "frame 48" => frames::<48, 64>(errand, 64 * KIB, Pace::Unpaced),
        "frame 64" => frames::<64, 64>(errand, 64 * KIB, Pace::Unpaced),
        "frame 256" => frames::<256, 256>(errand, 64 * KIB, Pace::Unpaced),
        "frame 1024" => frames::<1024, 1024>(errand, 256 * KIB, Pace::Unpaced),
        "frame 65536" => frames::<65536, 65536>(errand, 1024 * KIB, Pace::Unpaced),
        "frame 48 paced writer" => frames::<48, 64>(errand, 64 * KIB, Pace::Writer(work)),
        "frame 48 paced reader" => frames::<48, 64>(errand, 64 * KIB, Pace::Reader(work)),
        "rtt 48" | "rtt spsc 48" => round_trips(errand),
        "one way 48" => one_way::<48, 64>(errand, 64 * KIB),
        "one way 1024" => one_way::<1024, 1024>(errand, 64 * KIB),
        "one way 65536" => one_way::<65536, 65536>(errand, 1024 * KIB),
        _ => Err(format!("no case {case}")),
    }
}

fn streamed(Errand { cpus, count, .. }: Errand) -> stream::Run {
    stream::Run { cpus, count }
}

fn frames<const N: usize, const SLOT: usize>(
    errand: Errand,
    capacity: usize,
    pace: Pace,
) -> Result<Duration, String> {
    let (tx, rx) = ring::<[u8; SLOT]>(capacity / SLOT)?;
    Ok(stream::frames::<N>(streamed(errand), pace, tx, rx))
}

fn round_trips(Errand { cpus, count, .. }: Errand) -> Result<Duration, String> {
    let run = round_trip::Run { cpus, count };
    round_trip::frames::<48>(run, shared::<[u8; 48]>(CAPACITY)?, shared::<[u8; 48]>(CAPACITY)?)
}

/// Between processes, through a ring of so many bytes.
fn one_way<const N: usize, const SLOT: usize>(
    Errand { cpus, count, .. }: Errand,
    capacity: usize,
) -> Result<Duration, String> {
    let (tx, rx) = shared::<[u8; SLOT]>(capacity / SLOT)?;
    one_way::frames::<N>(round_trip::Run { cpus, count }, tx, rx)
}

/// Writes items.
struct Tx<T>(Producer<T>);

/// Reads items.
struct Rx<T>(Consumer<T>);

/// A ring of this process.
fn ring<T: Send>(capacity: usize) -> Result<(Tx<T>, Rx<T>), String> {
    let (tx, rx) = pair(capacity).map_err(|e| format!("{e:?}"))?;
    assert_eq!(tx.capacity(), capacity);
    Ok((Tx(tx), Rx(rx)))
}

/// A ring that processes forked later share.
fn shared<T: Send>(capacity: usize) -> Result<(Tx<T>, Rx<T>), String> {
    let size = minimum_file_size::<T>(capacity);
    let file = memfd(size).map_err(|e| e.to_string())?;
    // SAFETY: nobody else has the file; one process will use this end.
    let tx = unsafe { Producer::create(&file, size) }.map_err(|e| format!("{e:?}"))?;
    // SAFETY: the only consumer, of the only producer's queue.
    let rx = unsafe { tx.join_as_consumer() }.map_err(|e| format!("{e:?}"))?;
    Ok((Tx(tx), Rx(rx)))
}

impl<T: Send> Sender<T> for Tx<T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        self.0.try_write(item).is_ok()
    }
}

impl<T: Send> Receiver<T> for Rx<T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        self.0.try_read()
    }
}

impl BatchSender for Tx<u64> {
    #[inline]
    fn send_some(&mut self, items: Range<u64>) -> usize {
        let mut batch = self.0.write_batch();
        let mut sent = 0;
        for item in items {
            if batch.try_write(item).is_err() {
                break;
            }
            sent += 1;
        }
        sent
    }
}

impl BatchReceiver for Rx<u64> {
    #[inline]
    fn recv_some(&mut self, max: usize, each: impl FnMut(u64)) -> usize {
        let max = NonZero::new(max).expect("a reader that wants some");
        let Some(batch) = self.0.try_reserve_read_batch(max) else {
            return 0;
        };
        let count = batch.len();
        batch.into_iter().for_each(each);
        count
    }
}

impl<const N: usize, const SLOT: usize> FrameSender<N> for Tx<[u8; SLOT]> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let mut batch = self.0.write_batch();
        // SAFETY: filled below, before the batch is dropped.
        let Some(slot) = (unsafe { batch.try_as_mut() }) else {
            return false;
        };
        frame.fill_item(slot);
        true
    }
}

impl<const N: usize, const SLOT: usize> FrameReceiver<N> for Rx<[u8; SLOT]> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let Some(batch) = self.0.try_reserve_read_batch(NonZero::<usize>::MIN) else {
            return false;
        };
        frame.check_item(&batch[0]);
        true
    }
}
