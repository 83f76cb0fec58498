use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn start(limits: ServeLimits) -> (SocketAddr, Arc<AtomicUsize>) {
    let collected = Arc::<AtomicUsize>::default();
    let count = collected.clone();
    let collect = move || format!("x {}\n", count.fetch_add(1, Ordering::Relaxed));
    let task = MetricsTask::bind("127.0.0.1:0".parse().unwrap(), limits, collect).await.unwrap();
    let address = task.local_addr().unwrap();
    tokio::spawn(task.run());
    (address, collected)
}

async fn say(address: SocketAddr, request: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    // One that is closed already is read below.
    let _ = tcp.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn numbers_are_served_as_prometheus_reads_them() {
    let (address, _) = start(ServeLimits::default()).await;
    let answer = say(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nx 0\n"), "{answer}");
    let other = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(say(address, other).await.starts_with("HTTP/1.1 404"));
    let post = b"POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(say(address, post).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn rubbish_costs_nothing_and_harms_nobody() {
    let (address, collected) = start(ServeLimits::default()).await;
    let long = [b"GET /metrics HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 64 << 10]].concat();
    let many = b"GET /metrics HTTP/1.1\r\n".iter().copied();
    let many: Vec<u8> = many.chain(b"a: b\r\n".repeat(500)).chain(*b"\r\n").collect();
    let rubbish: [&[u8]; 5] =
        [b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0\r\n\r\n", b"\r\n", &long, &many];
    for bytes in rubbish {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let _ = tcp.write_all(bytes).await;
        tcp.shutdown().await.unwrap_or_default();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
    }
    assert_eq!(collected.load(Ordering::Relaxed), 0, "nothing was collected for them");
    assert!(say(address, GET).await.ends_with("x 0\n"));
}

#[tokio::test]
async fn who_is_slow_is_let_go_and_frees_the_place() {
    let limits = ServeLimits {
        connections: 2,
        header: Duration::from_millis(200),
        connection: Duration::from_millis(400),
        ..ServeLimits::default()
    };
    let (address, _) = start(limits).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET /met").await.unwrap();
        slow.push(tcp);
    }
    // Both places are taken once the third is turned away.
    let mut byte = [0];
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(!matches!(third.read(&mut byte).await, Ok(1..)), "closed at once");
    for mut tcp in slow {
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
    }
    let answer = loop {
        let answer = say(address, GET).await;
        if !answer.is_empty() {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert!(answer.ends_with("x 0\n"), "{answer}");
}

#[tokio::test]
async fn who_asks_all_the_time_costs_one_collection() {
    let limits = ServeLimits { age: Duration::from_secs(3600), ..ServeLimits::default() };
    let (address, collected) = start(limits).await;
    let more = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    let answers = say(address, &[&more, GET].concat()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 501);
    assert_eq!(collected.load(Ordering::Relaxed), 1);

    let always = ServeLimits { age: Duration::ZERO, ..ServeLimits::default() };
    let (address, _) = start(always).await;
    assert!(say(address, GET).await.ends_with("x 0\n"));
    assert!(say(address, GET).await.ends_with("x 1\n"), "what is old is not served");
}
