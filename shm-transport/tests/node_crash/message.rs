//! Messages that say by themselves whether they are whole, from whom they are, and which they are.

use crate::eventually;
use shm_transport::node::Node;
use std::time::Duration;

/// Bytes of a message that goes through a lane, and of one that is too large for that.
pub const SMALL: usize = 40;
pub const LARGE: usize = 6000;

/// A message that says by itself whether it is whole.
pub fn message(author: &str, number: u32, length: usize) -> Vec<u8> {
    let mut text = format!("{author} {number} ").into_bytes();
    for at in text.len()..length {
        text.push((at as u32).wrapping_mul(31).wrapping_add(number) as u8);
    }
    text
}

/// Who wrote it, and which it is.
pub fn parse(found: &[u8]) -> (String, u32) {
    let mut words = found.splitn(3, |byte| *byte == b' ');
    let mut word = || String::from_utf8_lossy(words.next().unwrap_or(b"?")).into_owned();
    let (author, number) = (word(), word());
    let number = number.parse().unwrap_or_else(|_| panic!("no message: {found:?}"));
    assert!(found == message(&author, number, found.len()), "not whole: {author} {number}");
    assert!([SMALL, LARGE].contains(&found.len()), "cut: {author} {number}");
    (author, number)
}

/// All messages of `author` that come to `node`: at least as many as `least`, and whatever is
/// there then.
pub fn drain(node: &Node, author: &str, least: usize) -> Vec<u32> {
    let mut found = Vec::new();
    let mut take = |message: &[u8]| {
        let (by, number) = parse(message);
        assert_eq!(by, author, "{number}");
        found.push(number);
        found.len()
    };
    let mut count = 0;
    eventually("accepted messages do not come", || {
        if count < least
            && let Some(message) = node.recv_timeout(Duration::from_millis(1)).unwrap()
        {
            count = take(&message);
        }
        (count >= least).then_some(())
    });
    // Before it waits it looks everywhere.
    while let Some(message) = node.recv_timeout(Duration::from_millis(1)).unwrap() {
        take(&message);
    }
    found
}
