//! What lies between a client and an emulator, and may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing flows; whoever connects is not answered.
    Cut,
    /// Every call is answered with this code.
    Refusing(Code),
}

/// What a call is answered with; the number is gRPC's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    PermissionDenied = 7,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether anything flows, and how slowly.
type Weather = (watch::Receiver<State>, watch::Receiver<Duration>);

/// A way to an emulator.
pub struct Wire {
    pub address: String,
    state: watch::Sender<State>,
    /// How long what is sent is on its way, in either direction.
    delay: watch::Sender<Duration>,
    /// The connections of now; their generation ends when they die.
    life: watch::Sender<u64>,
    refused: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, life) = (watch::Sender::new(State::Open), watch::Sender::new(0));
        let delay = watch::Sender::new(Duration::ZERO);
        let connections = Arc::new(AtomicUsize::new(0));
        let wire = Self { address, state, delay, life, refused: Arc::default(), connections };
        let (server, count, refused) = (server.to_owned(), wire.connections.clone(), wire.refused.clone());
        let (state, delay, life) = (wire.state.subscribe(), wire.delay.subscribe(), wire.life.subscribe());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut life = life.clone();
                life.mark_unchanged();
                tokio::spawn(carry(client, server.clone(), refused.clone(), state.clone(), delay.clone(), life));
            }
        });
        wire
    }

    /// Every connection dies without a word: the server sees it end, the client sees nothing, as behind a router that has
    /// lost the flow. What connects from then on is well.
    pub fn die(&self) {
        self.life.send_modify(|life| *life += 1);
    }

    /// Nothing flows any more in either direction, until it is open again; then what was under way goes on.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Every connection ends, and on each new one every call is answered with that code, at once.
    pub fn refuse(&self, code: Code) {
        self.state.send_replace(State::Refusing(code));
    }

    /// What is sent is on its way so long, in either direction.
    pub fn slow(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    pub fn open(&self) {
        self.state.send_replace(State::Open);
    }

    /// How many calls were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut client: TcpStream,
    server: String,
    refused: Arc<AtomicUsize>,
    mut state: watch::Receiver<State>,
    delay: watch::Receiver<Duration>,
    mut life: watch::Receiver<u64>,
) {
    let first = state.wait_for(|state| *state != State::Cut).await.map(|state| *state);
    if let Ok(State::Refusing(code)) = first {
        return refuse(client, (&refused, code), state).await;
    }
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    let (there, back) = ((state.clone(), delay.clone()), (state.clone(), delay));
    {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            () = pump(from_client, to_server, there) => return,
            () = pump(from_server, to_client, back) => return,
            _ = state.wait_for(|state| matches!(state, State::Refusing(_))) => return,
            _ = life.changed() => {}
        }
    }
    drop(server);
    // The client's end is kept, and says nothing.
    std::future::pending::<()>().await;
}

/// Answers every call with that code for as long as calls are refused with it.
async fn refuse(client: TcpStream, (refused, code): (&AtomicUsize, Code), mut state: watch::Receiver<State>) {
    let serve = async {
        let Ok(mut connection) = h2::server::handshake(client).await else { return };
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            refused.fetch_add(1, Ordering::SeqCst);
            let head = http::Response::builder().header("content-type", "application/grpc");
            let head = head.header("grpc-status", code as u16);
            // Whoever has gone needs no answer.
            let _ = answer.send_response(head.body(()).unwrap(), true);
        }
    };
    tokio::select! {
        () = serve => {}
        _ = state.wait_for(|state| *state != State::Refusing(code)) => {}
    }
}

/// Carries bytes in one direction while the way is open.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, (mut state, delay): Weather) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let delay = *delay.borrow();
        tokio::time::sleep(delay).await;
        let _ = state.wait_for(|state| *state != State::Cut).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
