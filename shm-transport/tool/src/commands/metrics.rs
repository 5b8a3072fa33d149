//! `shm metrics`: the state of a domain in the OpenMetrics text format.
//!
//! The format is that of the OpenMetrics specification 1.0: families one after the other, each
//! with its type, unit and help; samples of counters end in `_total`; the text ends in `# EOF`.

use crate::cli::{Global, Metrics};
use crate::failure::Failure;
use crate::look::{DomainNow, Life, NodeReading, ServiceNow, Survey, WorkerNow};
use crate::output;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bytes of a request that are read, and how long for.
const REQUEST: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints them once, or answers whoever asks by HTTP.
pub fn run(global: &Global, options: &Metrics) -> Result<(), Failure> {
    let domain = global.domain()?;
    let name = domain.name().to_owned();
    let mut survey = Survey::new(domain);
    let Some(address) = &options.listen else {
        let text = text(&name, &survey.look()?);
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        return Ok(stdout.flush()?);
    };
    let listener = TcpListener::bind(address).map_err(|error| {
        Failure::because(format!("cannot listen at {address}: {error}; name another address"))
    })?;
    // Whoever started this with port 0 wants to know it.
    let found = listener.local_addr()?;
    writeln!(output::stdout(global.color), "http://{found}/metrics")?;
    for stream in listener.incoming() {
        // One who breaks off is none of the others' business.
        let _ = stream.and_then(|stream| answer(stream, || Ok(text(&name, &survey.look()?))));
    }
    Ok(())
}

/// Answers one request.
fn answer(
    mut stream: TcpStream,
    text: impl FnOnce() -> std::io::Result<String>,
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (begun, mut request) = (Instant::now(), Vec::new());
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if request.len() > REQUEST || left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            len => request.extend(&buffer[..len]),
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next(), words.next());
    let (status, kind, body) = match (method, path) {
        (Some(b"GET" | b"HEAD"), Some(b"/metrics" | b"/")) => ("200 OK", CONTENT, text()?),
        (Some(b"GET" | b"HEAD"), _) => ("404 Not Found", "text/plain", "ask for /metrics\n".into()),
        _ => ("405 Method Not Allowed", "text/plain", "ask with GET\n".into()),
    };
    let length = body.len();
    let body = if method == Some(b"HEAD") { "" } else { &body };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// A value of one kind of all nodes.
type Of = fn(&NodeReading) -> f64;

/// The families of nodes: name, type, unit, help, value.
const NODES: [(&str, &str, &str, &str, Of); 14] = [
    ("shm_node_up", "gauge", "", "1 if the kernel says that the node's process lives.", |node| {
        f64::from(u8::from(node.state == Life::Alive))
    }),
    ("shm_node_silent_seconds", "gauge", "seconds", "Time since the last heartbeat.", |node| {
        f64::from(node.silent_ms) / 1000.0
    }),
    ("shm_node_sent_messages", "counter", "messages", "Messages accepted for sending.", |node| {
        node.now.counts.messages_sent as f64
    }),
    ("shm_node_sent_bytes", "counter", "bytes", "Bytes of them.", |node| {
        node.now.counts.bytes_sent as f64
    }),
    ("shm_node_received_messages", "counter", "messages", "Messages received.", |node| {
        node.now.counts.messages_received as f64
    }),
    ("shm_node_received_bytes", "counter", "bytes", "Bytes of them.", |node| {
        node.now.counts.bytes_received as f64
    }),
    (
        "shm_node_dropped_messages",
        "counter",
        "messages",
        "Messages given up by the sender since a lane was full.",
        |node| node.now.counts.dropped as f64,
    ),
    (
        "shm_node_filtered_messages",
        "counter",
        "messages",
        "Messages left out by the receiver's filter.",
        |node| node.now.counts.filtered as f64,
    ),
    ("shm_node_lost_messages", "counter", "messages", "Messages that could not be read.", |node| {
        node.now.counts.lost as f64
    }),
    (
        "shm_node_queued_bytes",
        "gauge",
        "bytes",
        "Bytes that wait in the node's lanes, at least.",
        |node| node.now.queued as f64,
    ),
    (
        "shm_node_fullest_lane_ratio",
        "gauge",
        "ratio",
        "How full the fullest of the node's lanes is.",
        |node| f64::from(node.now.fullest) / 100.0,
    ),
    ("shm_node_lanes_in", "gauge", "", "Lanes into the node from other processes.", |node| {
        f64::from(node.now.lanes)
    }),
    ("shm_node_lanes_out", "gauge", "", "Lanes of others that the node sends through.", |node| {
        f64::from(node.lanes_out)
    }),
    (
        "shm_node_resident_bytes",
        "gauge",
        "bytes",
        "Memory that the node's segment takes.",
        |node| node.resident as f64,
    ),
];

/// A value of one kind of all services, and of all their places of workers.
type OfService = fn(&ServiceNow) -> f64;
type OfPlace = fn(&WorkerNow) -> f64;

/// The families of services: name, type, unit, help, value.
const SERVICES: [(&str, &str, &str, &str, OfService); 11] = [
    ("shm_service_supervised", "gauge", "", "1 if a living server looks after it.", |service| {
        f64::from(u8::from(service.is_supervised()))
    }),
    ("shm_service_workers_up", "gauge", "", "Workers that serve.", |service| service.up() as f64),
    ("shm_service_workers_wanted", "gauge", "", "Workers that are to serve.", |service| {
        f64::from(service.wanted)
    }),
    ("shm_service_workers_stuck", "gauge", "", "Workers that survive SIGKILL.", |service| {
        service.stuck() as f64
    }),
    ("shm_service_clients", "gauge", "", "Clients that are connected.", |service| {
        service.clients as f64
    }),
    ("shm_service_crashes", "counter", "", "Workers that died unasked.", |service| {
        service.crashes as f64
    }),
    ("shm_service_poisoned_calls", "counter", "calls", "Calls whose worker died.", |service| {
        service.poisoned as f64
    }),
    ("shm_service_kills", "counter", "", "Workers killed because they hung.", |service| {
        service.kills as f64
    }),
    ("shm_service_letters", "gauge", "", "Dead letters.", |service| service.letters as f64),
    ("shm_service_lost_letters", "counter", "letters", "Dead letters without room.", |service| {
        service.letters_lost as f64
    }),
    ("shm_service_resident_bytes", "gauge", "bytes", "Memory of its segments.", |service| {
        service.resident as f64
    }),
];

/// The same of places.
const PLACES: [(&str, &str, &str, &str, OfPlace); 6] = [
    ("shm_worker_processed_calls", "counter", "calls", "Calls answered.", |place| {
        place.processed as f64
    }),
    ("shm_worker_failed_calls", "counter", "calls", "Calls that failed, of those.", |place| {
        place.failed as f64
    }),
    ("shm_worker_busy_seconds", "counter", "seconds", "Time in handlers.", |place| {
        place.busy_seconds
    }),
    ("shm_worker_queued_calls", "gauge", "calls", "Calls that wait, as it said last.", |place| {
        f64::from(place.queued)
    }),
    // A gauge: it begins anew with the service, whatever the supervisor writes.
    ("shm_worker_restarts", "gauge", "", "Workers started as the last had died.", |place| {
        f64::from(place.restarts)
    }),
    ("shm_worker_up", "gauge", "", "1 if the supervisor says that it serves.", |place| {
        f64::from(u8::from(place.condition == "up"))
    }),
];

/// The families of services and of their workers.
fn services(text: &mut String, domain: &str, services: &[ServiceNow]) {
    for (name, kind, unit, help, of) in SERVICES {
        family(text, name, kind, unit, help);
        let total = if kind == "counter" { "_total" } else { "" };
        for service in services {
            let (label, value) = (escaped(&service.name), of(service));
            let _ =
                writeln!(text, "{name}{total}{{domain=\"{domain}\",service=\"{label}\"}} {value}");
        }
    }
    for (name, kind, unit, help, of) in PLACES {
        family(text, name, kind, unit, help);
        let total = if kind == "counter" { "_total" } else { "" };
        for service in services {
            let label = escaped(&service.name);
            for place in &service.workers {
                let WorkerNow { place: number, group, .. } = place;
                let _ = writeln!(
                    text,
                    "{name}{total}{{domain=\"{domain}\",service=\"{label}\",\
                     place=\"{number}\",group=\"{group}\"}} {}",
                    of(place)
                );
            }
        }
    }
}

/// The whole text.
fn text(domain: &str, now: &DomainNow) -> String {
    let mut text = String::new();
    let domain = escaped(domain);
    for (name, kind, unit, help, of) in NODES {
        family(&mut text, name, kind, unit, help);
        let total = if kind == "counter" { "_total" } else { "" };
        for node in &now.nodes {
            let node_name = escaped(&node.name);
            let value = of(node);
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{name}{total}{{domain=\"{domain}\",node=\"{node_name}\"}} {value}");
        }
    }
    services(&mut text, &domain, &now.services);
    family(&mut text, "shm_members", "gauge", "", "Processes of the domain.");
    for (state, count) in [("alive", now.members_alive), ("dead", now.members_dead)] {
        let _ = writeln!(text, "shm_members{{domain=\"{domain}\",state=\"{state}\"}} {count}");
    }
    family(&mut text, "shm_segments", "gauge", "", "Segments of the domain.");
    let _ = writeln!(text, "shm_segments{{domain=\"{domain}\"}} {}", now.segments);
    let help = "Memory that all segments of the domain take.";
    family(&mut text, "shm_resident_bytes", "gauge", "bytes", help);
    let _ = writeln!(text, "shm_resident_bytes{{domain=\"{domain}\"}} {}", now.resident);
    text.push_str("# EOF\n");
    text
}

fn family(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

/// As a label's value is written.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn units_end_the_names() {
        for (name, kind, unit, help, _) in NODES {
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
            assert!(matches!(kind, "gauge" | "counter") && help.ends_with('.'), "{name}");
        }
        let services = SERVICES.map(|(name, _, unit, ..)| (name, unit));
        for (name, unit) in
            services.into_iter().chain(PLACES.map(|(name, _, unit, ..)| (name, unit)))
        {
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
        }
    }
}
