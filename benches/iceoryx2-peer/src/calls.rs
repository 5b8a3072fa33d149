//! `iceoryx2`'s request-response, between two processes that poll.
//!
//! Connections are made as in [`between`](crate::between): the client first, then the server, and
//! then the first request.

use crate::cases::{node, text};
use crate::place::Place;
use benches::frame::Template;
use benches::round_trip::{self, Run};
use benches::spin;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;
use std::collections::VecDeque;
use std::time::Duration;

type Service = ipc::Service;
type Factory<const N: usize> = PortFactory<Service, [u8; N], (), [u8; N], ()>;
type Pending<const N: usize> = PendingResponse<Service, [u8; N], (), [u8; N], ()>;

/// A service of one client and one server, with so many requests in flight.
fn service<const N: usize>(node: &Node<Service>, requests: usize) -> Result<Factory<N>, String> {
    node.service_builder(&ServiceName::new("calls").map_err(text)?)
        .request_response::<[u8; N], [u8; N]>()
        .max_clients(1)
        .max_servers(1)
        .enable_safe_overflow_for_requests(false)
        .enable_safe_overflow_for_responses(false)
        .max_active_requests_per_client(requests)
        .max_loaned_requests(1)
        .max_response_buffer_size(1)
        .max_borrowed_responses_per_pending_response(1)
        .open_or_create()
        .map_err(text)
}

fn send<const N: usize>(
    client: &Client<Service, [u8; N], (), [u8; N], ()>,
    template: &Template<N>,
    number: u64,
) -> Pending<N> {
    let mut request = client.loan_uninit().expect("a request that nobody holds");
    template.frame(number).fill_item(request.payload_mut());
    // SAFETY: `fill_item` leaves no byte of it uninitialised.
    let request = unsafe { request.assume_init() };
    request.send().expect("a service that is whole")
}

fn receive<const N: usize>(pending: &Pending<N>, template: &Template<N>, number: u64) {
    let answered = || match pending.receive().expect("a service that is whole") {
        Some(response) => {
            template.frame(number).check_item(response.payload());
            true
        }
        None => false,
    };
    spin::until(answered, || {});
}

/// Requests of `N` bytes that come back as they were, one at a time.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn one<const N: usize>(place: &Place, run: Run) -> Result<Duration, String> {
    // The default of a service.
    window::<N>(place, run, 1)
}

/// The same with so many in flight; the oldest is waited for.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn window<const N: usize>(
    place: &Place,
    run: Run,
    requests: usize,
) -> Result<Duration, String> {
    round_trip::between(
        run,
        |asking| {
            let node = node(place).expect("a node");
            let service = service::<N>(&node, requests + 1).expect("a service");
            let client = service.client_builder().create().expect("a client");
            asking.meet();
            asking.meet();
            let template = Template::new();
            let mut window = VecDeque::with_capacity(requests);
            asking.trips(|number| {
                // With one at a time its trip ends before the next begins, and is timed whole.
                window.push_back(send(&client, &template, number));
                if window.len() == requests {
                    let oldest = window.pop_front().expect("a full window");
                    receive(&oldest, &template, number + 1 - requests as u64);
                }
            })
        },
        |answering| {
            let node = node(place).expect("a node");
            let service = service::<N>(&node, requests + 1).expect("a service");
            answering.meet();
            let server = service.server_builder().create().expect("a server");
            answering.meet();
            answering.answers(|_| {
                let answered = || match server.receive().expect("a service that is whole") {
                    Some(request) => {
                        request.send_copy(*request).expect("a service that is whole");
                        true
                    }
                    None => false,
                };
                spin::until(answered, || {});
            });
        },
    )
}
