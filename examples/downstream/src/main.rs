//! Asks a worker, kills it, and answers what is left itself. See the README.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use shm_primitives::identity::OwnerId;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ask(),
        ["work", id, parent] => {
            let id = OwnerId::from_word(id.parse()?).ok_or("no such id")?;
            downstream::worker::work(id, parent.parse()?)
        }
        _ => Err("usage: downstream".into()),
    }
}

#[cfg(not(loom))]
fn ask() -> Result<(), Box<dyn std::error::Error>> {
    use downstream::link::Link;
    use downstream::memory::Memory;
    use downstream::park::FutexPark;
    use downstream::worker::{CREATOR, Worker};
    use shm_primitives::wake::Deadline;
    use std::time::Duration;

    let memory = Memory::create(Link::SIZE)?;
    // SAFETY: the memory is new, and only workers will get it, which keep to this crate.
    let link = unsafe { Link::create(&memory.region()) }?;
    let mut worker = Worker::start(&std::env::current_exe()?, &memory)?;
    let mut client = link.client(CREATOR)?;
    let park = FutexPark;
    let soon = || Deadline::after(&park, Duration::from_secs(10));

    for text in ["one", "two", "three"] {
        client.ask(text, &park, soon())?;
        println!("worker {}: {}", worker.pid(), client.answer(&park, soon())?.1);
    }

    worker.kill()?;
    client.ask("four", &park, soon())?;
    client.ask("five", &park, soon())?;
    let (status, dead) = worker.wait()?;
    println!("worker {}: {status}", worker.pid());
    let mut server = link.recover_server(dead, CREATOR, &park)?;
    while server.serve(&park, Deadline::NOW).is_ok() {}
    while let Ok((_, text)) = client.answer(&park, Deadline::NOW) {
        println!("in its place: {text}");
    }
    Ok(())
}
