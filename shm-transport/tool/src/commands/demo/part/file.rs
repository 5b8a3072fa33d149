//! A file, in chunks.

use super::actor::next;
use crate::commands::demo::talk::{CHUNK, END, FILE, Told, now, tell};
use crate::failure::Failure;
use shm_transport::node::{Label, Node, Sender};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads it once, and sends each chunk to all.
pub fn send(node: &Node, path: &Path, to: &[String]) -> Result<(), Failure> {
    let cannot =
        |error: io::Error| Failure::because(format!("cannot read {}: {error}", path.display()));
    let senders: Result<Vec<Sender>, _> = to.iter().map(|to| node.sender(to)).collect();
    let mut senders = senders.map_err(Failure::because)?;
    let mut file = File::open(path).map_err(cannot)?;
    let began = now();
    let (mut chunks, mut bytes) = (0u32, 0);
    let mut sum = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = fill(&mut file, &mut chunk).map_err(cannot)?;
        if length == 0 {
            break;
        }
        let chunk = &chunk[..length];
        sum.update(chunk);
        let label = Label::new(FILE, chunks);
        for sender in &mut senders {
            sender.send_labelled(label, chunk).map_err(Failure::because)?;
        }
        chunks = chunks.wrapping_add(1);
        bytes += length as u64;
    }
    for sender in &mut senders {
        sender.send_labelled(END, b"").map_err(Failure::because)?;
    }
    Ok(tell(&Told::FileSent { began, chunks, bytes, crc32: sum.finalize() })?)
}

/// Reads until the chunk is full, or the file at its end.
fn fill(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Receives it, and checks number and content of each chunk where it lies.
pub fn take(node: &Node) -> Result<(), Failure> {
    let mut receiver = node.receiver().map_err(Failure::because)?;
    let (mut chunks, mut bytes, mut in_order) = (0u32, 0, true);
    let mut sum = crc32fast::Hasher::new();
    loop {
        let chunk = next(&mut receiver)?;
        let label = chunk.label();
        if label.group == FILE {
            in_order &= label.topic == chunks;
            chunks = chunks.wrapping_add(1);
            bytes += chunk.len() as u64;
            sum.update(&chunk);
        }
        chunk.release();
        if label == END {
            let (ended, crc32) = (now(), sum.finalize());
            return Ok(tell(&Told::FileTaken { ended, chunks, bytes, crc32, in_order })?);
        }
    }
}
