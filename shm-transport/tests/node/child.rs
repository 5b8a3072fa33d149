//! Processes that do as they are told: a line in is an order, a line out its answer.

pub use crate::common::child::{Child, say};

use crate::help::{self, payload};
use crate::segment_help::Place;
use shm_transport::domain::Domain;
use shm_transport::node::{Node, NodeBuilder, SendError, Sender};
use std::collections::HashMap;
use std::fmt::Debug;
use std::io::stdin;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

/// The variable that makes this binary such a process: the directory of its domain.
const DIRECTORY: &str = "NODE_DIRECTORY";
/// Ends whatever has lost its test.
const SECONDS: u32 = 100;

impl Child {
    /// Starts one for the domain of that place.
    pub fn start(place: &Place) -> Self {
        let mut command = Self::playing("child::role");
        command.env(DIRECTORY, &place.directory);
        Self::of(command)
    }

    /// Starts one that has joined under that name.
    pub fn joined(place: &Place, name: &str, options: &str) -> Self {
        let mut child = Self::start(place);
        child.expect(&format!("join {name} {options}"), "joined");
        child
    }
}

/// The name of an error's variant.
fn variant(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Not a test, but what the tests start.
#[test]
fn role() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // A long torture takes as much longer.
    let longer = std::env::var("SHM_TORTURE_SECONDS").ok().and_then(|text| text.parse().ok());
    let longer: u32 = longer.unwrap_or(0);
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(SECONDS + longer) };
    let domain = Domain::new("test").unwrap().in_directory(directory);
    Obeying { domain, nodes: HashMap::new(), senders: HashMap::new() }.obey();
    exit(0);
}

struct Obeying {
    domain: Domain,
    nodes: HashMap<String, Node>,
    /// By the name of their node and of whom they send to.
    senders: HashMap<(String, String), Sender>,
}

/// Settings in words.
fn with_options(mut builder: NodeBuilder, options: &[&str]) -> NodeBuilder {
    for option in options {
        let (key, value) = option.split_once('=').unwrap();
        let milliseconds = || Duration::from_millis(value.parse().unwrap());
        builder = match key {
            "heartbeat" => builder.heartbeat(milliseconds()),
            "silent" => builder.silent_after(milliseconds()),
            "full" => builder.full(value.parse().unwrap()),
            "wait" => builder.wait(value.parse().unwrap()),
            "lane" => builder.lane_bytes(value.parse().unwrap()),
            "nodes" => builder.nodes(value.parse().unwrap()),
            "warm" => builder.warm_up(value.parse().unwrap()),
            "most" => builder.max_message(value.parse().unwrap()),
            _ => panic!("no option: {option}"),
        };
    }
    builder
}

impl Obeying {
    fn obey(&mut self) {
        for line in stdin().lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            let answer = self.one(&words);
            say(answer);
        }
        self.senders.clear();
        self.nodes.clear();
    }

    fn one(&mut self, words: &[&str]) -> String {
        match *words {
            ["join", name, ref options @ ..] => {
                match with_options(help::builder(&self.domain, name), options).join() {
                    Ok(node) => {
                        self.nodes.insert(name.into(), node);
                        "joined".into()
                    }
                    Err(error) => format!("{} {error}", variant(&error)),
                }
            }
            // As many as there are names `<prefix>0`, `<prefix>1` and so on.
            ["join-many", prefix, from, to, ref options @ ..] => {
                for number in number(from)..number(to) {
                    let name = format!("{prefix}{number}");
                    let builder = with_options(help::builder(&self.domain, &name), options);
                    match builder.join() {
                        Ok(node) => drop(self.nodes.insert(name, node)),
                        Err(error) => return format!("{} {number}", variant(&error)),
                    }
                }
                "joined".into()
            }
            ["leave", name] => match self.nodes[name].leave() {
                Ok(()) => "left".into(),
                Err(error) => variant(&error),
            },
            ["drop", name] => {
                self.nodes.remove(name);
                "dropped".into()
            }
            ["warm-up", name] => self.nodes[name].warm_up().unwrap().to_string(),
            ["nodes", name] => self.nodes[name].nodes().unwrap().len().to_string(),
            ["send", from, to, stream, first, count, length] => {
                self.send(from, to, number(stream), number(first), number(count), number(length))
            }
            // Messages through a lane of its own, until one is not accepted; how many were.
            ["fill", from, to, stream, length] => {
                let node = &self.nodes[from];
                let key = (from.to_owned(), to.to_owned());
                let sender = self.senders.entry(key).or_insert_with(|| node.sender(to).unwrap());
                let mut accepted = 0;
                loop {
                    match sender.try_send(&payload(
                        number(stream),
                        accepted,
                        number(length) as usize,
                    )) {
                        Ok(()) => accepted += 1,
                        Err(SendError::Full { .. }) => return accepted.to_string(),
                        Err(error) => return format!("{} {accepted}", variant(&error)),
                    }
                }
            }
            // Through a lane of its own, of lengths up to `longest`, mostly short.
            ["stream", from, to, stream, count, longest] => {
                let mut sender = self.nodes[from].sender(to).unwrap();
                let mut random = help::Random::new(number(stream).into());
                for count in 0..number(count) {
                    let length = crate::stress::length(&mut random, number(longest).into());
                    if let Err(error) = sender.send(&payload(number(stream), count, length)) {
                        return format!("{} {count}", variant(&error));
                    }
                }
                "sent".into()
            }
            // So many to each of `n0`, `n1` and so on, and as many from each.
            ["mesh", name, own, nodes, each] => {
                self.mesh(name, number(own), number(nodes), number(each))
            }
            // Without an end: for one that is to be killed.
            ["flood", from, to, stream, most] => {
                let node = &self.nodes[from];
                let mut sender = node.sender(to).unwrap();
                let mut random = help::Random::new(u64::from(number(stream)));
                say("flooding");
                for count in 0.. {
                    let length = help::HEADER as u64 + random.below(u64::from(number(most)));
                    let bytes = payload(number(stream), count, length as usize);
                    if let Err(error) = sender.send(&bytes) {
                        return format!("{} {count}", variant(&error));
                    }
                }
                unreachable!("a long time")
            }
            ["broadcast", from, stream, number_of, length] => {
                let bytes = payload(number(stream), number(number_of), number(length) as usize);
                match self.nodes[from].broadcast(&bytes) {
                    Ok(reached) => reached.to_string(),
                    Err(error) => variant(&error),
                }
            }
            // Next message: from whom, stream, number and length.
            ["receive", name, milliseconds] => {
                let time = Duration::from_millis(u64::from(number(milliseconds)));
                match self.nodes[name].recv_timeout(time) {
                    Ok(None) => "nothing".into(),
                    Ok(Some(message)) => {
                        let (stream, number) = help::check(&message);
                        format!("{} {stream} {number} {}", message.sender(), message.len())
                    }
                    Err(error) => format!("{} {error}", variant(&error)),
                }
            }
            // So many in order from number `first` of a stream on.
            ["receive-all", name, stream, first, count] => {
                for expected in number(first)..number(first) + number(count) {
                    match self.nodes[name].recv_timeout(help::PATIENCE) {
                        Ok(Some(message)) => {
                            let found = help::check(&message);
                            if found != (number(stream), expected) {
                                return format!("{found:?} in the place of {expected}");
                            }
                        }
                        other => return format!("{other:?} in the place of {expected}"),
                    }
                }
                "received".into()
            }
            // Sends so many back.
            ["echo", name, count] => {
                let node = &self.nodes[name];
                say("echoing");
                for at in 0..number(count) {
                    let Some(message) = node.recv_timeout(help::PATIENCE).unwrap() else {
                        return format!("nothing in the place of {at}");
                    };
                    let label = message.label();
                    node.send_labelled(&message.sender().to_string(), label, &message).unwrap();
                }
                "echoed".into()
            }
            ["torture", name, seed, process, log] => {
                let seed = u64::from(number(seed));
                crate::torture::party(&self.domain, name, seed, number(process), Path::new(log));
                "left".into()
            }
            ["stats", name] => {
                let stats = self.nodes[name].stats();
                format!(
                    "{} {} {} {} {} {}",
                    stats.messages_sent,
                    stats.bytes_sent,
                    stats.messages_received,
                    stats.bytes_received,
                    stats.dropped,
                    stats.filtered
                )
            }
            _ => panic!("no order: {words:?}"),
        }
    }

    fn mesh(&self, name: &str, own: u32, nodes: u32, each: u32) -> String {
        let node = &self.nodes[name];
        let others = || (0..nodes).filter(|other| *other != own);
        for count in 0..each {
            for other in others() {
                let length = help::HEADER + (count * 101 + other) as usize;
                let bytes = payload(own, count, length);
                if let Err(error) = node.send(&format!("n{other}"), &bytes) {
                    return error.to_string();
                }
            }
        }
        let mut next: HashMap<u32, u32> = others().map(|other| (other, 0)).collect();
        for _ in 0..(nodes - 1) * each {
            let Ok(Some(message)) = node.recv_timeout(help::PATIENCE) else {
                return format!("what is missing comes after {next:?}");
            };
            let (stream, count) = help::check(&message);
            assert_eq!(message.sender().to_string(), format!("n{stream}"));
            let next = next.get_mut(&stream).unwrap();
            if *next != count {
                return format!("{count} of {stream} in the place of {next}");
            }
            *next += 1;
        }
        "meshed".into()
    }

    fn send(
        &self,
        from: &str,
        to: &str,
        stream: u32,
        first: u32,
        count: u32,
        length: u32,
    ) -> String {
        for number in first..first + count {
            let bytes = payload(stream, number, length as usize);
            if let Err(error) = self.nodes[from].send(to, &bytes) {
                return format!("{} {number}", variant(&error));
            }
        }
        "sent".into()
    }
}

fn number(word: &str) -> u32 {
    word.parse().unwrap()
}
