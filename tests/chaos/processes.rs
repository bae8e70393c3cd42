//! Two processes on one store, processes that are stopped and go on, and every way in which one is asked to end.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::join::TOPIC;
use super::kills::Load;
use super::plant::{Plant, dice, has};

/// Longer than the pushes under way may take, and what is asked of a service that is moved.
const DRAIN_MAX: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_beside_another_process_doubles_nothing() {
    const STOPS: usize = 5;
    let mut dice = dice();
    let plant = Plant::new().await;
    // The same configuration, the same file, twice.
    let mut services = [plant.start(), plant.start()];
    let loads = services.each_ref().map(|service| Load::begin(&plant.publisher, &service.url));
    for stop in 0..STOPS {
        tokio::time::sleep(Duration::from_millis(200 + dice.roll(200))).await;
        let zombie = &services[stop % 2];
        zombie.signal("STOP");
        // In the last one it may hold the file's lock for longer than anybody waits for it.
        tokio::time::sleep(Duration::from_millis(if stop + 1 == STOPS { 6_500 } else { 700 })).await;
        zombie.signal("CONT");
    }
    services[0].kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What it had leased to push is given back when one starts, or when the lease ends, after ten minutes.
    services[0] = plant.start();
    loads[0].turn_to(&services[0].url);
    let [one, other] = loads;
    one.end().await;
    other.end().await;
    let (promised, dispatches, arrivals) = plant.comes_to_rest(&services[1]).await;
    assert!(promised > 100, "only {promised} messages were taken");
    println!("{STOPS} stops of two processes: {promised} promised, {dispatches} dispatches, {arrivals} arrivals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_under_load_is_quick_and_loses_nothing() {
    const ENDS: usize = 10;
    let plant = Plant::new().await;
    let mut service = plant.start();
    let load = Load::begin(&plant.publisher, &service.url);
    let mut longest = Duration::ZERO;
    for end in 0..ENDS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        service.signal(if end % 2 == 0 { "TERM" } else { "INT" });
        let began = Instant::now();
        let status = service.ended(DRAIN_MAX).await;
        longest = longest.max(began.elapsed());
        assert!(status.success(), "end {end}: {status}");
        plant.nothing_promised_is_lost();
        service = plant.start();
        load.turn_to(&service.url);
    }
    load.end().await;
    let (promised, ..) = plant.comes_to_rest(&service).await;
    println!("{ENDS} ends under load, the longest {longest:?}: {promised} promised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_asked_for_twice_is_at_once_and_loses_nothing() {
    let plant = Plant::new().await;
    let mut service = plant.start();
    // A consumer that works on keeps the drain waiting.
    *plant.consumer.work.lock().unwrap() = Duration::from_secs(3);
    plant.round(&service.url).await;
    plant.until("a push is under way", || !plant.consumer.seen().is_empty()).await;
    service.signal("TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(service.child.try_wait().unwrap().is_none(), "nothing was under way");
    service.signal("TERM");
    let status = service.ended(Duration::from_secs(1)).await;
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    *plant.consumer.work.lock().unwrap() = Duration::ZERO;
    let service = plant.start();
    plant.comes_to_rest(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_while_the_store_hangs_is_an_end() {
    let plant = Plant::new().await;
    let mut service = plant.start();
    plant.round(&service.url).await;
    // Somebody holds the file's lock and does not let go.
    let holder = plant.database();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let load = Load::begin(&plant.publisher, &service.url);
    tokio::time::sleep(Duration::from_millis(500)).await;
    service.signal("TERM");
    let began = Instant::now();
    // Cloud Run kills after ten seconds.
    let status = service.ended(Duration::from_millis(9_900)).await;
    println!("an end while the store hangs took {:?}: {status}", began.elapsed());
    assert!(status.success(), "{status}");
    holder.execute_batch("ROLLBACK").unwrap();
    let service = plant.start();
    load.turn_to(&service.url);
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.end().await;
    plant.comes_to_rest(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_and_a_log_that_nobody_reads_end_nothing() {
    let mut plant = Plant::new().await;
    plant.log = "debug";
    let mut command = plant.command(&[], None);
    command.stderr(Stdio::piped());
    let mut service = plant.try_start(command).unwrap();
    drop(service.child.stderr.take());
    drop(service.child.stdout.take());
    let load = Load::begin(&plant.publisher, &service.url);
    for wait in 2..6 {
        plant.configure(wait);
        service.signal("HUP");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(service.child.try_wait().unwrap(), None, "it has ended");
    assert!(load.end().await > 10);
    plant.comes_to_rest(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_file_descriptors_goes_on_when_there_are_some() {
    if !has("prlimit", &["--version"]) {
        return;
    }
    const FILES: usize = 48;
    let plant = Plant::new().await;
    let files = format!("--nofile={FILES}:{FILES}");
    let mut service = plant.try_start(plant.command(&["prlimit", &files], None)).unwrap();
    let address = service.url.trim_start_matches("http://").to_owned();
    // Callers that say nothing and stay.
    let mut callers = Vec::new();
    for _ in 0..100 {
        callers.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let load = Load::begin(&plant.publisher, &service.url);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(service.child.try_wait().unwrap(), None, "it has ended");
    let open = std::fs::read_dir(format!("/proc/{}/fd", service.child.id())).unwrap().count();
    assert!(open + 2 >= FILES, "{open} of {FILES} descriptors are open: it did not run out of them");
    let before = load.rounds.load(Ordering::SeqCst);
    drop(callers);
    plant.until("publishers go on", || load.rounds.load(Ordering::SeqCst) > before + 1).await;
    load.end().await;
    plant.comes_to_rest(&service).await;
}

/// Whether everything that was sent from these ports has been read.
fn nothing_is_on_the_way(ports: &[String]) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_them = |line: &&str| {
        let mut ends = line.split_whitespace().skip(1).take(2);
        ends.any(|end| ports.iter().any(|port| end.ends_with(port)))
    };
    table.lines().filter(of_them).all(|line| line.split_whitespace().nth(4) == Some("00000000:00000000"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_little_memory_takes_a_flood_of_long_messages_and_goes_on() {
    if !has("prlimit", &["--version"]) {
        return;
    }
    /// What it may have of data; code and the files that it reads are not counted.
    const MEMORY: usize = 256 * 1024 * 1024;
    const SENDERS: usize = 24;
    let plant = Plant::new().await;
    let data = format!("--data={MEMORY}");
    let mut service = plant.try_start(plant.command(&["prlimit", &data], None)).unwrap();
    let load = Load::begin(&plant.publisher, &service.url);
    let client = reqwest::Client::new();
    let call = format!("{}/v1/projects/local/topics/{TOPIC}:publish", service.url);
    // Short in bytes, and long once they are read.
    let messages = format!("{{\"messages\":[{}{{}}]}}", "{},".repeat(5_300_000));
    let attributes: String = (0..1_200_000).map(|nth| format!("\"{nth}\":\"\",")).collect();
    let attributes = format!("{{\"messages\":[{{\"attributes\":{{{attributes}\"x\":\"\"}}}}]}}");
    let brackets = "[".repeat(1_000_000);
    for body in [messages, attributes, brackets] {
        assert!(body.len() < 16 * 1024 * 1024, "{}", body.len());
        let answer = client.post(&call).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 413, "{}", answer.text().await.unwrap());
    }
    // Those who have sent nearly all of it have all the room; whoever comes then is told to come again.
    let host = service.url.trim_start_matches("http://").to_owned();
    let message = |length: usize| json!({ "data": "eHh4".repeat(length / 4) });
    let long = json!({ "messages": [message(7_800_000), message(7_800_000)] }).to_string();
    let mut holders: Vec<(usize, _)> = Vec::new();
    // In the other alphabet, too.
    for (holder, long) in [long.clone(), long.clone(), long.replace("eHh4\"", "eH-_\"")].into_iter().enumerate() {
        let length = long.len();
        let head = format!(
            "POST /v1/projects/local/topics/{TOPIC}:publish HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&long.as_bytes()[..length - 1]).await.unwrap();
        holders.push((holder, stream));
    }
    let port = |(_, stream): &(_, tokio::net::TcpStream)| format!(":{:04X}", stream.local_addr().unwrap().port());
    let ports: Vec<String> = holders.iter().map(port).collect();
    plant.until("the service has read it", || nothing_is_on_the_way(&ports)).await;
    let another = json!({ "messages": [message(8_000_000)] }).to_string();
    assert_eq!(client.post(&call).body(another).send().await.unwrap().status(), 503);
    for (holder, mut stream) in holders {
        stream.write_all(b"}").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 200", "{holder}");
    }
    // As some write base64 in JSON.
    let escaped = long.replace("eHh4\"", "eHg\\u003d\"");
    assert_eq!(client.post(&call).body(escaped).send().await.unwrap().status(), 200);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (publisher, url) = (plant.publisher.clone(), service.url.clone());
        senders.spawn(async move {
            // Together they are about as much as it may have.
            let long = |message: usize| format!("{sender}/{message} {}", "x".repeat(3_000_000)).into_bytes();
            usize::from(publisher.publish(&url, TOPIC, (0..3).map(long).collect()).await)
        });
    }
    let taken: usize = senders.join_all().await.into_iter().sum();
    assert_eq!(service.child.try_wait().unwrap(), None, "it has ended");
    assert!(taken > 0, "none of {SENDERS} calls of 12 MB was taken");
    load.end().await;
    plant.comes_to_rest(&service).await;
}
