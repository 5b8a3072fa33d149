//! Says hello to `hello_receiver`.
use shm_transport::node::Node;

fn main() -> anyhow::Result<()> {
    let node = Node::join("sender")?;
    node.send("receiver", b"hello")?;
    Ok(())
}
