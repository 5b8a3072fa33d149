//! One function per operation, for `.ci/disassembly` to read.

#![no_std]

use firmware::ring::{Consumer, Item, Producer};
use heapless::spsc;
use shm_primitives::ring::frame::{Reader, Writer};
use shm_primitives::wake::{Notifier, SpinPark};

/// Ours.
#[unsafe(no_mangle)]
pub extern "C" fn push_probe(producer: &mut Producer, item: &Item) -> bool {
    producer.push(*item).is_ok()
}

/// Ours.
#[unsafe(no_mangle)]
pub extern "C" fn pop_probe(consumer: &mut Consumer, item: &mut Item) -> bool {
    consumer.pop().map(|popped| *item = popped).is_ok()
}

/// The frame ring's writer, in place. Its packing is the ring's, known when it runs, so this is
/// the code for each.
#[unsafe(no_mangle)]
pub extern "C" fn write_probe(writer: &mut Writer<'static>, payload: &[u8; 16]) -> bool {
    let Ok(mut grant) = writer.grant(payload.len()) else { return false };
    grant.copy_from_slice(payload);
    grant.commit(payload.len());
    true
}

/// The frame ring's reader, in place.
#[unsafe(no_mangle)]
pub extern "C" fn read_probe(reader: &mut Reader<'static>, payload: &mut [u8; 16]) -> bool {
    let Ok(frame) = reader.read() else { return false };
    if frame.len() != payload.len() {
        return false;
    }
    payload.copy_from_slice(&frame);
    frame.release();
    true
}

/// The frame ring's writer, by copy.
#[unsafe(no_mangle)]
pub extern "C" fn frame_push_probe(writer: &mut Writer<'static>, payload: &[u8; 16]) -> bool {
    writer.push(payload).is_ok()
}

/// The frame ring's reader, by copy.
#[unsafe(no_mangle)]
pub extern "C" fn frame_pop_probe(reader: &mut Reader<'static>, payload: &mut [u8; 16]) -> bool {
    reader.pop_into(payload).is_ok()
}

/// What follows a push or a batch of them: the only fence of a sender.
#[unsafe(no_mangle)]
pub extern "C" fn notify_probe(notifier: &mut Notifier<'static>) {
    // Its wake is nothing, so that only what is ours is left.
    notifier.notify(&SpinPark::new(|| 0));
}

/// heapless's, to compare the size with.
#[unsafe(no_mangle)]
pub extern "C" fn heapless_push_probe(
    producer: &mut spsc::Producer<'static, Item>,
    item: &Item,
) -> bool {
    producer.enqueue(*item).is_ok()
}

/// heapless's, to compare the size with.
#[unsafe(no_mangle)]
pub extern "C" fn heapless_pop_probe(
    consumer: &mut spsc::Consumer<'static, Item>,
    item: &mut Item,
) -> bool {
    consumer.dequeue().map(|popped| *item = popped).is_some()
}

// Bare targets have semihosting's.
#[cfg(not(target_os = "none"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
