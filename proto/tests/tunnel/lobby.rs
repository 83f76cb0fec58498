//! Peers that begin a handshake and go no further.

use std::time::Duration;

use drover_proto::tunnel::descriptors::raise_limit;
use drover_proto::tunnel::{Beginning, GatewayLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fleet, Master, soon};

/// The head of a ClientHello of 512 bytes whose rest never comes.
const HALF_A_HELLO: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn half_open(master: &Master, count: usize) -> Vec<TcpStream> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = TcpStream::connect(master.handle.local_addr()).await.unwrap();
        peer.write_all(&HALF_A_HELLO).await.unwrap();
        peers.push(peer);
    }
    peers
}

#[tokio::test]
async fn a_thousand_half_open_handshakes_cost_little_and_keep_nobody_out() {
    let _ = raise_limit();
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    master.still_serves(&fleet).await;
    let before = resident();
    let peers = half_open(&master, 1000).await;
    while master.handle.unfinished_handshakes() < 1000 {
        tokio::task::yield_now().await;
    }
    let each = resident().saturating_sub(before) / 1000;
    // Both ends are in this process, and other tests beside them: a swelling master is far beyond.
    assert!(each < 64_000, "{each} bytes for each half-open handshake");
    println!("{each} bytes for each half-open handshake");
    master.still_serves(&fleet).await;
    drop(peers);
}

#[tokio::test]
async fn past_the_limit_of_one_address_its_oldest_goes() {
    let fleet = Fleet::new();
    let limits = GatewayLimits { handshakes_per_address: 10, ..GatewayLimits::default() };
    let mut master = Master::start_with(&fleet, fleet.master(), limits).await;
    let mut peers = half_open(&master, 11).await;
    let mut byte = [0];
    // Whether it reads as an end or as a reset, the oldest is closed, and the next is not.
    assert!(!matches!(soon(peers[0].read(&mut byte)).await, Ok(1..)));
    assert_eq!(master.handle.unfinished_handshakes(), 10);
    master.still_serves(&fleet).await;
    assert!(master.handle.beginnings(Beginning::Displaced) >= 1);
    assert_eq!(master.handle.beginnings(Beginning::Admitted), 1);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_closed() {
    let fleet = Fleet::new();
    let handshake = Duration::from_millis(300);
    let limits = GatewayLimits { handshake, ..GatewayLimits::default() };
    let mut master = Master::start_with(&fleet, fleet.master(), limits).await;
    for mut peer in half_open(&master, 3).await {
        let mut byte = [0];
        assert!(!matches!(soon(peer.read(&mut byte)).await, Ok(1..)));
    }
    assert_eq!(master.handle.unfinished_handshakes(), 0);
    assert_eq!(master.handle.beginnings(Beginning::TimedOut), 3);
    master.still_serves(&fleet).await;
}
