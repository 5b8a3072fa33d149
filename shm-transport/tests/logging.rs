//! What the crate logs reaches a program by `log` as well as by `tracing`, with the documented
//! target and level, and nobody else.

use log::{LevelFilter, Log, Metadata, Record};
use shm_transport::config::Loaded;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};

/// Whatever was logged, a line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        assert_eq!(field.name(), "message");
        write!(self.0, "{value:?}").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let about = event.metadata();
        let line = format!("{} {} {}", about.level(), about.target(), message.0);
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        unreachable!("the crate has no spans")
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn read(nodes: &'static str) {
    Loaded::read_with(|name| (name == "SHM_NODES").then(|| nodes.into())).unwrap();
}

// One test: both kinds of receivers are the process's.
#[test]
fn both_kinds_of_logs_get_what_there_is() {
    let by_log = Lines::default();
    log::set_boxed_logger(Box::new(by_log.clone())).unwrap();

    log::set_max_level(LevelFilter::Info);
    read("2");
    assert_eq!(by_log.taken(), [""; 0], "settings are for those who debug");

    log::set_max_level(LevelFilter::Debug);
    read("3");
    Loaded::read_with(|_| None).unwrap();
    let lines = by_log.taken();
    assert_eq!(
        lines,
        [
            "DEBUG shm_transport::config settings: nodes is \"3\" (variable SHM_NODES)",
            "DEBUG shm_transport::config settings: the defaults",
        ]
    );

    let by_tracing = Lines::default();
    tracing::subscriber::with_default(by_tracing.clone(), || read("4"));
    assert_eq!(
        by_tracing.taken(),
        ["DEBUG shm_transport::config settings: nodes is \"4\" (variable SHM_NODES)"]
    );
    assert_eq!(by_log.taken(), [""; 0], "not twice");
}
