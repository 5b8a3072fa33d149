//! Whose turn it is, while there is always something to do that takes long.

use super::*;

/// So long that a look at everything is due after each.
const SLOW: Duration = Duration::from_millis(12);
/// Calls that keep the worker busy.
const MANY: usize = 12;

/// A worker whose calls take long, the first of them until it is let go; and in which order they
/// were served.
struct Slow<'b> {
    bare: &'b Bare,
    worker: Running,
    go_on: mpsc::Sender<()>,
    has_begun: mpsc::Receiver<()>,
    order: Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
}

impl<'b> Slow<'b> {
    fn start(bare: &'b Bare) -> Self {
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = Arc::clone(&order);
        let worker = start(bare, 0, 1, move |worker| {
            let run = move |request: &Request<'_>, reply: Reply<'_>| {
                match request.payload() {
                    b"first" => {
                        begun.send(()).unwrap();
                        may_go_on.recv().unwrap();
                    }
                    b"quick" => return reply.send(b""),
                    _ => thread::sleep(SLOW),
                }
                noted.lock().unwrap().push(request.payload().to_vec());
                reply.send(b"")
            };
            worker.on(ECHO, run).unwrap()
        });
        Self { bare, worker, go_on, has_begun, order }
    }

    /// `client` keeps it busy at `place`; meanwhile the other sends a call. How many were served
    /// before that one.
    fn before(self, client: &mut BareClient, place: u32, other: (&mut BareClient, u32)) -> usize {
        client.send(place, ECHO, b"first");
        self.has_begun.recv().unwrap();
        for _ in 0..MANY {
            client.send(place, ECHO, b"busy");
        }
        let (other, at) = other;
        other.send(at, ECHO, b"other");
        self.go_on.send(()).unwrap();
        other.receive(at);
        for _ in 0..=MANY {
            client.receive(place);
        }
        stop(self.bare, 0, self.worker);
        let order = self.order.lock().unwrap();
        order.iter().position(|payload| payload == b"other").unwrap()
    }
}

#[test]
fn a_new_client_has_its_turn() {
    let bare = Bare::new(SHAPE);
    let slow = Slow::start(&bare);
    let (mut client, mut other) = (bare.client(), bare.client());
    let before = slow.before(&mut client, 0, (&mut other, 0));
    assert!(before <= 3, "after {before} calls");
}

/// Its lane, or the first one's, was there before.
#[test]
fn so_has_each_that_is_known() {
    for first in [0, 1] {
        let bare = Bare::new(SHAPE);
        let slow = Slow::start(&bare);
        let mut clients = [bare.client(), bare.client()];
        clients[first].call(0, ECHO, b"quick");
        clients[1 - first].call(0, ECHO, b"quick");
        let [client, other] = &mut clients;
        let before = slow.before(client, 0, (other, 0));
        assert!(before <= 3, "after {before} calls");
    }
}

/// Among many, one whose lane has cooled.
#[test]
fn so_has_one_that_was_quiet() {
    let bare = Bare::new(SHAPE);
    let slow = Slow::start(&bare);
    let mut clients: Vec<BareClient> = (0..20).map(|_| bare.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.call(0, ECHO, b"quick").1, b""));
    let bits = bare.bells.layout.worker(0).unwrap().ready();
    let (client, others) = clients.split_first_mut().unwrap();
    let other = others.last_mut().unwrap();
    soon("the other one's lane has cooled", || {
        client.call(0, ECHO, b"quick");
        !bits.is_marked(other.index() as usize)
    });
    let before = slow.before(client, 0, (other, 0));
    assert!(before <= 3, "after {before} calls");
}

/// A normal call, while VIP calls are always there.
#[test]
fn so_has_a_normal_call_among_vip_calls() {
    let bare = Bare::new(SHAPE);
    let slow = Slow::start(&bare);
    let (mut client, mut other) = (bare.client(), bare.client());
    bare.help(2, Some(0));
    client.call(2, ECHO, b"quick");
    other.call(0, ECHO, b"quick");
    let before = slow.before(&mut client, 2, (&mut other, 0));
    assert!(before <= 3, "after {before} calls");
}
