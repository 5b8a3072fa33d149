//! `iceoryx2`: its publish-subscribe between two processes that poll. A sample is loaned, written
//! in place and sent, and read in place.
//!
//! A subscriber takes part in a connection from its next look on, and until then a publisher whose
//! samples are all under way drops them. So the publishers connect first, then the subscribers, and
//! then the first sample is sent.

use crate::cases::{node, text};
use crate::place::Place;
use benches::frame::Frame;
use benches::round_trip::Run;
use benches::traffic::{FrameReceiver, FrameSender};
use benches::{one_way, round_trip};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use std::time::Duration;

type Service = ipc::Service;

/// Writes frames of `N` bytes.
struct Tx<const N: usize>(Publisher<Service, [u8; N], ()>);

/// Reads them.
struct Rx<const N: usize>(Subscriber<Service, [u8; N], ()>);

/// A service of one publisher and one subscriber, with so many samples between them. A publisher
/// that finds its subscriber's buffer full waits, which is the default, instead of overwriting.
fn service<const N: usize>(
    node: &Node<Service>,
    name: &str,
    samples: usize,
) -> Result<PortFactory<Service, [u8; N], ()>, String> {
    node.service_builder(&ServiceName::new(name).map_err(text)?)
        .publish_subscribe::<[u8; N]>()
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(samples)
        .subscriber_max_borrowed_samples(1)
        .open_or_create()
        .map_err(text)
}

fn publisher<const N: usize>(service: &PortFactory<Service, [u8; N], ()>) -> Result<Tx<N>, String> {
    let builder = service.publisher_builder().max_loaned_samples(1);
    let builder = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
    Ok(Tx(builder.create().map_err(text)?))
}

fn subscriber<const N: usize>(
    service: &PortFactory<Service, [u8; N], ()>,
    samples: usize,
) -> Result<Rx<N>, String> {
    Ok(Rx(service.subscriber_builder().buffer_size(samples).create().map_err(text)?))
}

impl<const N: usize> FrameSender<N> for Tx<N> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let mut sample = self.0.loan_uninit().expect("a sample that nobody holds");
        frame.fill_item(sample.payload_mut());
        // SAFETY: `fill_item` leaves no byte of it uninitialised.
        let sample = unsafe { sample.assume_init() };
        let reached = sample.send().expect("a service that is whole");
        assert_eq!(reached, 1, "a frame that reached nobody");
        true
    }
}

impl<const N: usize> FrameReceiver<N> for Rx<N> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let Some(sample) = self.0.receive().expect("a service that is whole") else {
            return false;
        };
        frame.check_item(sample.payload());
        true
    }
}

/// Frames of `N` bytes one way, with so many samples between the two.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn one_way<const N: usize>(
    place: &Place,
    run: Run,
    samples: usize,
) -> Result<Duration, String> {
    one_way::between(
        run,
        |writing| {
            let node = node(place).expect("a node");
            let service = service::<N>(&node, "there", samples).expect("a service");
            let mut tx = publisher(&service).expect("a publisher");
            writing.meet();
            tx.0.update_connections().expect("a connection");
            writing.meet();
            writing.meet();
            writing.go(&mut tx);
        },
        |reading| {
            let node = node(place).expect("a node");
            let service = service::<N>(&node, "there", samples).expect("a service");
            let mut rx = subscriber(&service, samples).expect("a subscriber");
            reading.meet();
            reading.meet();
            rx.0.update_connections().expect("a connection");
            reading.meet();
            reading.go(&mut rx)
        },
    )
}

/// Frames of `N` bytes there and back, by a service each way.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn round_trip<const N: usize>(place: &Place, run: Run) -> Result<Duration, String> {
    // The default of a service.
    const SAMPLES: usize = 2;
    round_trip::between(
        run,
        |asking| {
            let node = node(place).expect("a node");
            let there = service::<N>(&node, "there", SAMPLES).expect("a service");
            let back = service::<N>(&node, "back", SAMPLES).expect("a service");
            let mut tx = publisher(&there).expect("a publisher");
            let mut rx = subscriber(&back, SAMPLES).expect("a subscriber");
            asking.meet();
            tx.0.update_connections().expect("a connection");
            asking.meet();
            rx.0.update_connections().expect("a connection");
            asking.meet();
            asking.go(&mut tx, &mut rx)
        },
        |answering| {
            let node = node(place).expect("a node");
            let there = service::<N>(&node, "there", SAMPLES).expect("a service");
            let back = service::<N>(&node, "back", SAMPLES).expect("a service");
            let mut tx = publisher(&back).expect("a publisher");
            let mut rx = subscriber(&there, SAMPLES).expect("a subscriber");
            answering.meet();
            tx.0.update_connections().expect("a connection");
            answering.meet();
            rx.0.update_connections().expect("a connection");
            answering.meet();
            answering.go(&mut tx, &mut rx);
        },
    )
}
