//! Puts everything away when the demonstration is gone, whatever it died of.

use crate::commands::clean::remove_dead;
use crate::failure::Failure;
use shm_transport::domain::Domain;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

/// How long it tries.
const MOST: Duration = Duration::from_secs(10);
/// How often it finds nothing before it believes that.
const LOOKS: u32 = 3;

/// Waits until its standard input ends, whose other end all processes of the demonstration have.
pub fn work(domain: &Domain) -> Result<(), Failure> {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let (begun, mut empty) = (Instant::now(), 0);
    while empty < LOOKS && begun.elapsed() < MOST {
        // The last of them may just be dying.
        remove_dead(domain);
        let is_empty = domain.segments().is_ok_and(|mut segments| segments.next().is_none());
        empty = if is_empty { empty + 1 } else { 0 };
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
