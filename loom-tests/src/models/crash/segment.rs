//! Segments whose creator or owner dies while somebody attaches.

use super::{HEIR, WRITER, at_every_step, dead};
use crate::harness::{check, check_eq, models, owner};
use crate::models::segment::{attach, create, look, memory, ring};
use loom::thread;
use shm_primitives::part::End;
use shm_primitives::segment::{SegmentError, State};

models! {
    /// A creator dies: attachers find no segment or a whole one, and after it an heir creates
    /// one in another epoch.
    fn crash_segment_create() {
        // Header, two entries, ring, state, magic.
        at_every_step(16 + 16 + 10 + 2, |mortal| {
            let memory = memory();
            let dying = {
                let (memory, mortal) = (memory.clone(), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| core::mem::forget(create(&memory, WRITER))).is_some()
                })
            };
            let first = look(&memory, WRITER);
            let survived = dying.join().unwrap();
            let left = look(&memory, WRITER);
            check!(left.is_some() == survived, "survived: {survived}, found: {left:?}");
            check!(first.is_none() || first == left, "found {first:?}, then {left:?}");
            let _control = create(&memory, HEIR);
            let second = look(&memory, HEIR);
            check!(second.is_some() && second != left, "the heir's: {second:?}, after {left:?}");
        });
    }

    /// An owner dies while it closes, or gives its word back, and an opener comes: its heir
    /// finds the state it left and closes, and one of the two knows of the other.
    fn crash_segment_close() {
        at_every_step(2, |mortal| {
            let memory = memory();
            let control = create(&memory, WRITER);
            let opened = attach(&memory).unwrap();
            let ring = ring(&opened);
            let dying = {
                let mortal = mortal.clone();
                thread::spawn(move || {
                    mortal.live(move || {
                        let mut control = control;
                        control.close();
                        drop(control);
                    })
                    .is_some()
                })
            };
            let producer = ring.claim_producer(owner(7)).unwrap();
            let confirmed = opened.confirm();
            let survived = dying.join().unwrap();
            let mut heir = if survived {
                check_eq!(opened.owner(), Ok(None), "given back");
                opened.claim_control(owner(HEIR)).unwrap()
            } else {
                opened.recover_control(dead(WRITER), owner(HEIR)).unwrap()
            };
            let left = opened.state();
            match confirmed {
                Ok(()) => {}
                Err(SegmentError::Closing { .. }) => {
                    check_eq!(left, Ok(State::Closing), "what the opener saw");
                }
                Err(error) => check!(false, "{error}"),
            }
            heir.close();
            check_eq!(opened.state(), Ok(State::Closing), "closed by the heir");
            check_eq!(ring.owner(End::Writing), Ok(Some(owner(7))), "the heir sees the opener");
            drop(producer);
        });
    }
}
