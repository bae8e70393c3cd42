//! Answers that are lost, connections that are cut, and delay, by a proxy before the service and one before its consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::kills::Load;
use super::plant::Plant;

/// Answers that most connections pass before one is lost.
const ANSWERS: usize = 6;

/// How many connections there were, and how many of their answers were lost.
#[derive(Clone, Default)]
struct Proxy {
    connections: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    /// Nothing is lost any more.
    calm: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens, and passes on to `to`, 20 ms late each way. Of every third connection the first answer is lost, of the others
    /// a later one, and the connection is cut: what was asked has been done, and whoever asked does not know.
    async fn before(to: &str) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (proxy, to) = (Self::default(), to.trim_start_matches("http://").to_owned());
        let (passing, at) = (proxy.clone(), to);
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let (passing, at) = (passing.clone(), at.clone());
                tokio::spawn(async move { passing.pass(client, &at).await });
            }
        });
        (proxy, url)
    }

    async fn pass(self, client: TcpStream, to: &str) {
        let Ok(server) = TcpStream::connect(to).await else { return };
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        let passing = match connection {
            _ if self.calm.load(Ordering::SeqCst) => usize::MAX,
            unlucky if unlucky.is_multiple_of(3) => 0,
            _ => ANSWERS,
        };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let asking = tokio::spawn(async move {
            pump(&mut from_client, &mut to_server, usize::MAX).await;
        });
        pump(&mut from_server, &mut to_client, passing).await;
        if from_server.read(&mut [0]).await.is_ok_and(|read| read > 0) {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        asking.abort();
    }
}

/// Passes on so many blocks at most.
async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, most: usize) {
    let mut block = vec![0; 1 << 16];
    for _ in 0..most {
        let Ok(read) = from.read(&mut block).await else { return };
        tokio::time::sleep(Duration::from_millis(20)).await;
        if read == 0 || to.write_all(&block[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_on_both_sides_lose_nothing_and_double_nothing() {
    let mut plant = Plant::new().await;
    let (consumers, url) = Proxy::before(&plant.target).await;
    plant.target = url;
    let service = plant.start();
    let (publishers, url) = Proxy::before(&service.url).await;
    let load = Load::begin(&plant.publisher, &url);
    tokio::time::sleep(Duration::from_secs(4)).await;
    load.end().await;
    // Each loss doubles the pause of its message; that it comes to rest is looked for when nothing is lost any more.
    consumers.calm.store(true, Ordering::SeqCst);
    let (promised, dispatches, arrivals) = plant.comes_to_rest(&service).await;
    let (asked, answered) = (publishers.lost.load(Ordering::SeqCst), consumers.lost.load(Ordering::SeqCst));
    assert!(asked > 5 && answered > 0, "{asked} and {answered} answers were lost: that proves nothing");
    assert!(arrivals > dispatches, "what was taken and not answered comes again");
    println!(
        "{asked} answers to publishers lost, {answered} of the consumer: {promised} promised, {dispatches} dispatches, {arrivals} arrivals"
    );
}
