//! Leader and followers: who leads, who is counted, and threads that take turns.

use shm_primitives::leader::{Leadership, Leading};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[test]
fn one_leads() {
    let leadership = Leadership::new(1);
    assert!(!leadership.is_led());
    let mut leading = leadership.try_lead().expect("nobody leads");
    *leading += 1;
    assert!(leadership.is_led() && leadership.try_lead().is_none());
    assert!(!leading.resign(), "nobody follows");
    assert_eq!(leadership.try_lead().as_deref(), Some(&2));
    assert!(!leadership.is_led(), "dropped");
}

#[test]
fn who_resigns_knows_of_followers() {
    let leadership = Leadership::new(());
    let leading = leadership.try_lead().expect("nobody leads");
    leadership.follow();
    leadership.follow();
    assert_eq!(leadership.followers(), 2);
    assert!(!leadership.unfollow(), "somebody leads, who will wake the other");
    assert!(leading.resign());
    leadership.follow();
    assert!(leadership.unfollow(), "nobody leads, and one follows");
    assert!(!leadership.unfollow(), "the last");
    assert_eq!(leadership.followers(), 0);
}

/// Followers come and go while somebody begins to lead: that is no reason not to.
#[test]
fn followers_do_not_keep_from_leading() {
    let leadership = Leadership::new(());
    leadership.follow();
    let leading = leadership.try_lead();
    assert!(leading.is_some_and(Leading::resign));
}

#[test]
fn a_panic_resigns() {
    let leadership = Leadership::new(());
    let died = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _leading = leadership.try_lead().expect("nobody leads");
            panic!("expected by the test");
        });
        thread.join()
    });
    assert!(died.is_err());
    assert!(leadership.try_lead().is_some());
}

/// Each of many threads leads often; what they do as leaders is not torn.
#[test]
fn threads() {
    const EACH: u32 = 2000;
    let leadership = Leadership::new(0u32);
    let tries = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut led = 0;
                while led < EACH {
                    match leadership.try_lead() {
                        Some(mut leading) => {
                            *leading += 1;
                            led += 1;
                            let _ = leading.resign();
                        }
                        None => {
                            leadership.follow();
                            tries.fetch_add(1, Relaxed);
                            std::thread::yield_now();
                            let _ = leadership.unfollow();
                        }
                    }
                }
            });
        }
    });
    assert_eq!(leadership.try_lead().as_deref(), Some(&(4 * EACH)));
    assert_eq!(leadership.followers(), 0);
}
