//! Who takes a place up, who leaves it, who calls there: each dies at any of its stores, while
//! another goes on. Whoever convicts it frees the lane's end, if it was the dead one's, and
//! announces the lane in its place.

use super::at_every_step_bounded;
use crate::harness::{check, models};
use crate::models::service::{CLIENT, Fixture, HELPER, PLACE, fixture};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::sync::Ordering::{Relaxed, Release};
use shm_primitives::wake::published;

/// Stores of parts of operations: of the server word; of the end of a lane, taken or given back.
const SERVE: u32 = 1;
const END: u32 = 1;

/// After the death of one who may have had the lane's end for `place`.
fn convict(fixture: &Fixture, place: u32) {
    if fixture.end.load(Relaxed) == place + 1 {
        fixture.end.store(0, Release);
    }
    announce(fixture);
}

fn announce(fixture: &Fixture) {
    let mut announcer = fixture.bells().announcer(PLACE, CLIENT).unwrap();
    announcer.announce_after(&fixture.park, &published());
}

models! {
    /// A helper dies between taking the place up and having left it, while a client calls. The
    /// place's own new worker takes it up: the request is there, and was served at most once.
    fn crash_service_help() {
        at_every_step_bounded(Some(2), SERVE + 2 * END, |mortal| {
            let fixture = fixture(None);
            let dying = {
                let (fixture, mortal) = (Arc::clone(&fixture), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| {
                        fixture.bells().worker(PLACE).unwrap().serve(HELPER);
                        // It has it in hand, and does not live to answer it.
                        let _ = fixture.sweep(HELPER);
                        fixture.leave();
                    });
                })
            };
            fixture.call();
            dying.join().unwrap();
            convict(&fixture, HELPER);
            let serving = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    let came = fixture.take_up_and_wait(PLACE);
                    check!(came && !fixture.park.overslept(), "slept through a call");
                })
            };
            fixture.park.expire();
            serving.join().unwrap();
        });
    }

    /// The place's own worker dies while it leaves, with a request in the lane; its helper has
    /// found the end busy, or free, and is not left asleep.
    fn crash_service_leave() {
        at_every_step_bounded(Some(2), END, |mortal| {
            let fixture = fixture(Some(PLACE));
            fixture.call();
            let helping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    let came = fixture.take_up_and_wait(HELPER);
                    check!(came && !fixture.park.overslept(), "left alone with a request");
                })
            };
            let dying = {
                let (fixture, mortal) = (Arc::clone(&fixture), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| fixture.leave());
                })
            };
            dying.join().unwrap();
            convict(&fixture, PLACE);
            fixture.park.expire();
            helping.join().unwrap();
        });
    }

    /// A client dies while it calls, and a helper takes the place up: what was published is found
    /// without oversleeping.
    fn crash_service_call() {
        // The request, the bit.
        at_every_step_bounded(Some(2), 2, |mortal| {
            let fixture = fixture(None);
            let helping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || fixture.take_up_and_wait(HELPER))
            };
            let dying = {
                let (fixture, mortal) = (Arc::clone(&fixture), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| fixture.call());
                })
            };
            dying.join().unwrap();
            let was_published = fixture.request.load(Relaxed) == 1;
            announce(&fixture);
            fixture.park.expire();
            let came = helping.join().unwrap();
            check!(came == was_published, "published: {was_published}, found: {came}");
            check!(!was_published || !fixture.park.overslept(), "slept through a call");
        });
    }
}
