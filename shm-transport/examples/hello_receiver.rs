//! Run it, and then `hello_sender` as often as you like.
use shm_transport::node::Node;

fn main() -> anyhow::Result<()> {
    let node = Node::join("receiver")?;
    let listener = node.on_message(|message| {
        println!("{} says: {}", message.sender(), String::from_utf8_lossy(message));
    })?;
    listener.join(); // until the node leaves, or this is stopped by Ctrl-C
    Ok(())
}
