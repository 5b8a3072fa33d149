//! `shm top`, `shm metrics`, `shm bench`.

mod common;

use common::{Place, await_that, shm};
use serde_json::Value;
use shm_transport::node::Node;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

fn node(place: &Place, name: &str) -> Node {
    Node::builder(name).in_domain(place.domain.clone()).join().unwrap()
}

fn of<'v>(found: &'v Value, name: &str) -> &'v Value {
    let nodes = found["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name}: {found}"))
}

#[test]
fn what_nodes_did_and_what_waits() {
    let place = Place::new();
    let slow = place.start("slow", &["recv", "slow"]);
    drop(slow);
    let (camera, screen) = (node(&place, "camera"), place.start("screen", &["recv", "screen"]));
    for _ in 0..10 {
        camera.send("screen", &[1; 100]).unwrap();
    }
    // Until they are read.
    let mut found = Value::Null;
    await_that(|| {
        let done = place.shm(&["top", "-n", "1", "-i", "0.01", "--json"]).with(0);
        found = serde_json::from_str(&done.out).unwrap();
        of(&found, "screen")["messages_received"] == 10
    });
    assert_eq!(of(&found, "screen")["bytes_received"], 1000);
    assert_eq!(of(&found, "screen")["lanes"], 1);
    assert_eq!(of(&found, "screen")["state"], "alive");
    assert_eq!(of(&found, "camera")["messages_sent"], 10);
    assert_eq!(of(&found, "camera")["bytes_sent"], 1000);
    assert_eq!(of(&found, "camera")["lanes_out"], 1);
    assert_eq!(found["rates"].as_array().unwrap().len(), found["nodes"].as_array().unwrap().len());
    let text = place.shm(&["top", "-n", "2", "-i", "0.01"]).with(0).out;
    assert_eq!(text.matches("SENT/s").count(), 2, "a table for each interval: {text}");
    assert!(!text.contains('\u{1b}'), "no redrawing but on a terminal");
    // Nobody reads any more.
    drop(screen);
    let text = place.shm(&["top", "-n", "1", "-i", "0.01"]).with(0).out;
    assert!(text.contains("camera"), "{text}");
}

#[test]
fn rates_are_of_the_interval() {
    let place = Place::new();
    let (camera, _screen) = (node(&place, "camera"), place.start("screen", &["recv", "screen"]));
    camera.send("screen", b"before").unwrap();
    let mut top = place.program(&["top", "-i", "0.1", "-n", "500", "--json"]);
    let mut top = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    // How many camera sent in the next interval, by the rate of it.
    let mut sent = || {
        let line = lines.next().expect("it was looked often enough").unwrap();
        let found: Value = serde_json::from_str(&line).unwrap();
        let nodes = found["nodes"].as_array().unwrap();
        let at = nodes.iter().position(|node| node["name"] == "camera").unwrap();
        let rate = found["rates"][at]["messages_sent"].as_f64().unwrap();
        (rate * found["seconds"].as_f64().unwrap()).round()
    };
    assert_eq!(sent(), 0.0, "what was sent before the first look");
    for _ in 0..50 {
        camera.send("screen", b"after").unwrap();
    }
    // All in one interval, unless this test was slow.
    let mut sum = 0.0;
    while sum < 50.0 {
        sum += sent();
    }
    assert_eq!(sum, 50.0);
    assert_eq!(sent(), 0.0, "they are of one interval alone");
    top.kill().unwrap();
    top.wait().unwrap();
}

/// Checks the text against the grammar of OpenMetrics 1.0, as far as it is used.
fn check(text: &str) -> Vec<(String, f64)> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut seen = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut samples = Vec::new();
    let lines: Vec<_> = text.lines().collect();
    let (end, lines) = lines.split_last().unwrap();
    assert_eq!(*end, "# EOF");
    for line in lines {
        assert!(!line.is_empty() && line.trim() == *line, "{line:?}");
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "TYPE" => {
                    assert!(seen.insert(name.to_owned()), "{name} twice");
                    assert!(matches!(rest, "gauge" | "counter"), "{line}");
                    (family, kind) = (name.into(), rest.into());
                }
                "UNIT" => assert!(name == family && name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(name == family && !rest.is_empty(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (bare, labels) = name.split_once('{').unwrap();
        let suffix = if kind == "counter" { "_total" } else { "" };
        assert_eq!(bare, format!("{family}{suffix}"), "samples stand under their family");
        assert!(bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        let labels = labels.strip_suffix('}').unwrap();
        assert!(labels.starts_with("domain=\"") && labels.ends_with('"'), "{line}");
        assert!(seen.insert(name.to_owned()), "{name} twice");
        samples.push((name.to_owned(), value.parse().unwrap()));
    }
    samples
}

#[test]
fn metrics_are_open_metrics() {
    let place = Place::new();
    let done = place.shm(&["metrics"]).with(0);
    check(&done.out);
    let odd = node(&place, "a\"b\\c\nd");
    let _screen = place.start("screen", &["recv", "screen"]);
    odd.send("screen", &[0; 50]).unwrap();
    let done = place.shm(&["metrics"]).with(0);
    let samples = check(&done.out);
    let domain = place.domain.name();
    let value = |name: &str, labels: &str| {
        let name = format!("{name}{{domain=\"{domain}\"{labels}}}");
        samples.iter().find(|sample| sample.0 == name).unwrap_or_else(|| panic!("{name}")).1
    };
    let this = r#",node="a\"b\\c\nd""#;
    assert_eq!(value("shm_node_sent_messages_total", this), 1.0);
    assert_eq!(value("shm_node_sent_bytes_total", this), 50.0);
    assert_eq!(value("shm_node_up", this), 1.0);
    assert_eq!(value("shm_node_up", r#",node="screen""#), 1.0);
    assert_eq!(value("shm_members", r#",state="alive""#), 2.0);
    assert_eq!(value("shm_segments", ""), 4.0);
    assert!(value("shm_resident_bytes", "") > 100_000.0);
}

#[test]
fn metrics_by_http() {
    let place = Place::new();
    let mut serving = place.program(&["metrics", "--listen", "127.0.0.1:0"]);
    let mut serving = serving.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serving.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let ask = |request: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = String::new();
        // Refused by closing, perhaps, also in the middle of what is asked.
        let _ = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
        answer
    };
    let answer = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    check(body);
    assert!(ask(b"HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    assert!(ask(b"GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert_eq!(ask(&[b'x'; 20_000]), "", "no request");
    // It goes on after all that.
    assert!(ask(b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
    serving.kill().unwrap();
    serving.wait().unwrap();
    let done = shm(&["metrics", "--listen", "256.0.0.1:1"]).with(1);
    assert!(done.err.contains("name another address"), "{done:?}");
}

#[test]
fn bench_measures_and_leaves_nothing() {
    let place = Place::apart();
    let arguments = ["bench", "--json", "--seconds", "0.01", "--directory", place.directory()];
    let found = shm(&arguments).with(0).json();
    let sizes = found["sizes"].as_array().unwrap();
    assert_eq!(sizes.len(), 5);
    for size in sizes {
        let (median, high) = (&size["round_trip_median_ns"], &size["round_trip_99_percent_ns"]);
        assert!(median.as_u64().unwrap() > 0 && high.as_u64() >= median.as_u64(), "{size}");
        assert!(size["messages_per_second"].as_f64().unwrap() > 0.0, "{size}");
    }
    assert_eq!(std::fs::read_dir(place.directory()).unwrap().count(), 0);
    let text = shm(&["bench", "--seconds", "0.01", "--directory", place.directory()]).with(0).out;
    assert!(text.contains("ROUND TRIP"), "{text}");
}
