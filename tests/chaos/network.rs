//! Answers that are lost, connections that are cut, and delay, by a proxy before the service and one before its consumer.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::kills::Load;
use super::plant::{Plant, SOURCES, has};

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

/// Of a hundred packets, in either direction, so many are lost.
const LOST: u32 = 20;

#[test]
fn packets_that_are_lost_lose_nothing_and_double_nothing() {
    const OWN: [&str; 3] = ["--user", "--map-root-user", "--net"];
    if !has("unshare", &[&OWN[..], &["nft", "--version"]].concat()) {
        return;
    }
    // Service, publishers and consumer share a network of their own, which is gone with them.
    let set_up = "ip link set lo up && nft add table inet loss &&
        nft 'add chain inet loss in { type filter hook input priority 0; }' && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(OWN).args(["sh", "-c", set_up, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "network::on_a_network_that_loses_packets", "--ignored", "--nocapture"]);
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("1 passed"), "{said}");
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `packets_that_are_lost` in a network of its own"]
async fn on_a_network_that_loses_packets() {
    let nft = |rule: &str| assert!(Command::new("nft").arg(rule).status().unwrap().success(), "{rule}");
    let plant = Plant::new().await;
    let service = plant.start();
    let lossy = format!("add rule inet loss in numgen random mod 100 < {LOST} counter name lost drop");
    nft("add counter inet loss lost");
    nft(&lossy);
    let load = Load::begin(&plant.publisher, &service.url);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        // All of them, for a while: connections stand, and nothing comes.
        nft("insert rule inet loss in counter name lost drop");
        tokio::time::sleep(Duration::from_secs(1)).await;
        nft("flush chain inet loss in");
        nft(&lossy);
    }
    let counted = Command::new("nft").args(["list", "counter", "inet", "loss", "lost"]).output().unwrap().stdout;
    let counted = String::from_utf8(counted).unwrap();
    let lost = counted.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(lost.parse::<u32>().unwrap() > 20, "that proves nothing: {counted}");
    nft("flush chain inet loss in");
    assert!(load.end().await > 3, "hardly anything was published");
    let (promised, dispatches, arrivals) = plant.comes_to_rest(&service).await;
    assert!(promised > SOURCES && dispatches > 0, "{promised} promised, {dispatches} dispatches");
    println!("{lost} packets lost: {promised} promised, {dispatches} dispatches, {arrivals} arrivals");
}
