//! Peers with a good certificate that break the protocol: each loses its connection, nobody else does.

use std::time::Duration;

use drover_proto::tunnel::GatewayLimits;
use drover_proto::zmtp::{Ready, SocketType, greeting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fleet, Master, chain, minion_profile, raw, raw_minion, soon};

fn quick() -> GatewayLimits {
    GatewayLimits {
        ready: Duration::from_millis(300),
        first_message: Duration::from_millis(300),
        message: Duration::from_millis(300),
        ..GatewayLimits::default()
    }
}

/// Sends `bytes` after READY, and says why the gateway closed.
async fn after_ready(bytes: &[u8]) -> String {
    let fleet = Fleet::new();
    let mut master = Master::start_with(&fleet, fleet.master(), quick()).await;
    let mut peer = raw_minion(&master, &fleet, "m", b"").await;
    peer.write_all(bytes).await.unwrap();
    master.connected().await;
    let reason = master.closed().await;
    let mut rest = Vec::new();
    let _ = soon(peer.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    master.still_serves(&fleet).await;
    reason
}

/// Sends `bytes` in place of greeting and READY: nobody hears of the peer, and it is closed.
async fn before_ready(bytes: &[u8]) {
    let fleet = Fleet::new();
    let mut master = Master::start_with(&fleet, fleet.master(), quick()).await;
    let shown = chain(&fleet.factory, &minion_profile("m"));
    let mut peer = raw(master.handle.local_addr(), Some(shown)).await.unwrap();
    peer.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(peer.read_to_end(&mut rest)).await;
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn a_header_that_claims_2_to_the_62_bytes_ends_the_connection() {
    let header = [&[2], (1u64 << 62).to_be_bytes().as_slice()].concat();
    let reason = after_ready(&header).await;
    assert_eq!(
        reason,
        "the peer broke the protocol: a frame of 4611686018427387904 bytes is over the limit of 1048576"
    );
}

#[tokio::test]
async fn commands_after_ready_end_the_connection() {
    for command in [b"\x04\x05\x04PING".as_slice(), b"\x04\x06\x05READY", b"\x04\x0a\x09SUBSCRIBE"]
    {
        let reason = after_ready(command).await;
        assert_eq!(reason, "the peer broke the protocol: a ZMTP command after READY");
    }
}

#[tokio::test]
async fn half_a_frame_for_ever_ends_the_connection() {
    let whole_then_half = b"\x00\x02hi\x00\xffhalf";
    let reason = after_ready(whole_then_half).await;
    assert_eq!(reason, "the peer did not complete a message in 300ms");
}

#[tokio::test]
async fn half_a_first_frame_and_silence_end_the_connection() {
    for bytes in [b"".as_slice(), b"\x00", b"\x00\xffhalf"] {
        assert_eq!(after_ready(bytes).await, "the peer sent no message in 300ms");
    }
}

#[tokio::test]
async fn a_second_frame_of_a_message_ends_the_connection() {
    let reason = after_ready(b"\x01\x01a\x00\x01b").await;
    assert_eq!(reason, "the peer broke the protocol: a message of more than 1 frames");
}

#[tokio::test]
async fn random_bytes_end_the_connection() {
    let random: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    after_ready(&[b"\xff".as_slice(), &random].concat()).await;
    before_ready(&random).await;
}

#[tokio::test]
async fn whoever_does_not_open_zmtp_as_it_must_is_closed() {
    let mut curve = greeting();
    curve[12..17].copy_from_slice(b"CURVE");
    let mut old = greeting();
    old[10] = 1;
    let huge = [greeting().as_slice(), &[6, 0x40, 0, 0, 0, 0, 0, 0, 0]].concat();
    let router = [greeting().as_slice(), &Ready::new(SocketType::Router).to_frame()].concat();
    let half = &greeting()[..20];
    for bytes in [curve.as_slice(), &old, &huge, &router, half, b""] {
        before_ready(bytes).await;
    }
}
