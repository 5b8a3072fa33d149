//! `iceoryx2`: its publish-subscribe between processes, here on one thread.

use crate::place::Place;
use iceoryx2::prelude::*;
use std::fmt::Display;
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}

/// A node that leaves signals alone.
pub(crate) fn node(place: &Place) -> Result<Node<ipc::Service>, String> {
    NodeBuilder::new()
        .config(place.config())
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()
        .map_err(text)
}

/// The only service of its place.
fn name() -> Result<ServiceName, String> {
    ServiceName::new("chunks").map_err(text)
}

/// Takes samples of `SIZE` bytes and gives them back unused.
///
/// # Errors
///
/// When it has no service, or no sample.
pub fn loans<const SIZE: usize>(place: &Place, count: u64) -> Result<Duration, String> {
    let node = node(place)?;
    let service = node
        .service_builder(&name()?)
        .publish_subscribe::<[u8; SIZE]>()
        .open_or_create()
        .map_err(text)?;
    let publisher = service.publisher_builder().create().map_err(text)?;
    let clock = Instant::now();
    for _ in 0..count {
        black_box(publisher.loan_uninit().map_err(text)?.payload_mut().as_mut_ptr());
    }
    Ok(clock.elapsed())
}

/// Sends samples of `SIZE` bytes to a subscriber on the same thread: the first word is written and
/// read.
///
/// # Errors
///
/// When it has no service, no sample, or loses one.
pub fn messages<const SIZE: usize>(place: &Place, count: u64) -> Result<Duration, String> {
    let node = node(place)?;
    let service = node
        .service_builder(&name()?)
        .publish_subscribe::<[u8]>()
        .open_or_create()
        .map_err(text)?;
    let publisher =
        service.publisher_builder().initial_max_slice_len(SIZE).create().map_err(text)?;
    let subscriber = service.subscriber_builder().create().map_err(text)?;
    let clock = Instant::now();
    for number in 0..count {
        let mut sample = publisher.loan_slice_uninit(SIZE).map_err(text)?;
        for (to, byte) in sample.payload_mut().iter_mut().zip(number.to_le_bytes()) {
            to.write(byte);
        }
        // SAFETY: of what was not written any bytes are valid, and the mapping's are there.
        unsafe { sample.assume_init() }.send().map_err(text)?;
        let received = subscriber.receive().map_err(text)?.ok_or("a lost sample")?;
        assert_eq!(received.payload()[..8], number.to_le_bytes());
    }
    Ok(clock.elapsed())
}
