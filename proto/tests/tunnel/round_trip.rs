//! Minions and their master talk.

use std::time::Duration;

use bytes::Bytes;
use drover_pki::profile::{Profile, Validity};
use drover_proto::tunnel::{CutReason, End, GatewayEvent, GatewayLimits};
use jiff::{Timestamp, ToSpan};
use rustls::NamedGroup;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use zeromq::SocketRecv;

use crate::fixture::{Fleet, Master, chain, identity, minion_profile, raw, raw_minion, soon};

#[tokio::test]
async fn messages_go_both_ways_under_the_certificates_name() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut minion = master.minion(&fleet, "rfid-1").await;
    assert_eq!(minion.master().name.to_string(), "north");
    minion.send(Bytes::from_static(b"hello")).await.unwrap();

    let connection = master.connected().await;
    assert_eq!(connection.minion.as_str(), "rfid-1");
    assert_eq!(master.recv().await, (connection.clone(), Bytes::from_static(b"hello")));
    master.send(&connection, Bytes::from_static(b"welcome")).await;
    assert_eq!(soon(minion.recv()).await.unwrap(), "welcome");

    drop(minion);
    assert_eq!(master.closed().await, "the peer closed the connection");
    assert_eq!(master.handle.connections(), 0);
}

#[tokio::test]
async fn connected_is_told_before_the_first_message_arrives() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    for number in 1..=20 {
        let mut minion = master.minion(&fleet, "m").await;
        minion.send(Bytes::from_static(b"hello")).await.unwrap();
        master.recv().await;
        let told = master.events.try_recv();
        assert!(matches!(told, Ok(GatewayEvent::Connected { .. })), "round {number}: {told:?}");
        drop(minion);
        master.closed().await;
    }
}

#[tokio::test]
async fn a_message_of_one_mebibyte_arrives_whole_and_a_longer_one_ends_the_connection() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut minion = master.minion(&fleet, "m").await;
    let largest = Bytes::from(vec![7; 1 << 20]);
    minion.send(largest.clone()).await.unwrap();
    let connection = master.connected().await;
    assert_eq!(master.recv().await.1, largest);
    master.send(&connection, largest.clone()).await;
    assert_eq!(soon(minion.recv()).await.unwrap(), largest);

    minion.send(Bytes::from(vec![7; (1 << 20) + 1])).await.unwrap();
    let ended = soon(minion.recv()).await.unwrap_err();
    assert!(matches!(ended.0, End::OwnViolation(_)), "{ended:?}");
}

#[tokio::test]
async fn what_was_sent_before_the_tunnel_was_dropped_arrives() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut minion = master.minion(&fleet, "m").await;
    for number in 0..100u8 {
        minion.send(Bytes::from(vec![number; 10_000])).await.unwrap();
    }
    drop(minion);
    for number in 0..100u8 {
        assert_eq!(master.recv().await.1[0], number);
    }
}

#[tokio::test]
async fn a_peer_cannot_choose_its_identity() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut peer = raw_minion(&master, &fleet, "thief", b"victim/1").await;
    peer.write_all(b"\x00\x02hi").await.unwrap();
    let (connection, _) = master.recv().await;
    assert_eq!(connection.minion.as_str(), "thief");
}

#[tokio::test]
async fn a_minion_that_reconnects_does_not_disturb_its_new_connection() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let old = master.minion(&fleet, "m").await;
    let first = master.connected().await;
    let mut new = master.minion(&fleet, "m").await;
    let second = master.connected().await;
    assert_ne!(first, second);
    drop(old);
    master.closed().await;
    new.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(master.recv().await.0, second);
    master.send(&second, Bytes::from_static(b"welcome")).await;
    assert_eq!(soon(new.recv()).await.unwrap(), "welcome");
}

#[tokio::test]
async fn the_next_master_is_tried_when_the_first_is_away() {
    let fleet = Fleet::new();
    let master = Master::start(&fleet).await;
    let mut config = master.config(&fleet, fleet.minion("m"));
    config.masters =
        vec!["127.0.0.1:1".to_owned(), format!("localhost:{}", master.handle.local_addr().port())];
    soon(drover_proto::tunnel::connect(&config)).await.unwrap();
    config.masters.truncate(1);
    let error = soon(drover_proto::tunnel::connect(&config)).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot connect to the master `127.0.0.1:1`");
}

#[tokio::test]
async fn a_master_certified_while_the_device_slept_is_accepted() {
    let fleet = Fleet::new();
    let next_year = Timestamp::now() + (365 * 24).hours();
    let profile = Profile {
        validity: Validity::Between(next_year, next_year + (365 * 24).hours()),
        ..Profile::master(&"north".parse().unwrap())
    };
    let shown = identity(&fleet.fleet_ca, &profile);
    let master = Master::start_with(&fleet, shown, GatewayLimits::default()).await;
    let minion = master.minion(&fleet, "woken-in-1970").await;
    let floor = minion.master().latest_not_before.as_secs();
    assert_eq!(floor, u64::try_from(next_year.as_second()).unwrap());
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_no_tickets_are_given() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let shown = chain(&fleet.factory, &minion_profile("m"));
    let peer = raw(master.handle.local_addr(), Some(shown)).await.unwrap();
    let group = peer.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    drop(peer);
    let peer = raw_minion(&master, &fleet, "m", b"").await;
    assert_eq!(peer.get_ref().1.tls13_tickets_received(), 0);
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn cutting_a_minion_ends_its_connection_within_a_second() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut minion = master.minion(&fleet, "m").await;
    let connection = master.connected().await;
    let start = Instant::now();
    assert_eq!(master.handle.cut_minion(&connection.minion, CutReason::NotAccepted), 1);
    soon(minion.recv()).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(master.closed().await, "cut: the minion is not accepted any more");
}

#[tokio::test]
async fn shutdown_ends_all_connections_and_then_the_events() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut minion = master.minion(&fleet, "m").await;
    master.connected().await;
    master.handle.shutdown();
    soon(minion.recv()).await.unwrap_err();
    assert_eq!(master.closed().await, "cut: the master stops");
    assert!(soon(master.events.recv()).await.is_none());
    assert!(master.try_minion(&fleet, fleet.minion("late")).await.is_err());
}

#[tokio::test]
async fn nobody_waits_for_a_peer_that_does_not_read() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet).await;
    let mut deaf = raw_minion(&master, &fleet, "deaf", b"").await;
    deaf.write_all(b"\x00\x02hi").await.unwrap();
    let connection = master.connected().await;
    master.recv().await;
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..64 {
        master.send(&connection, megabyte.clone()).await;
    }
    master.still_serves(&fleet).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut() {
    let fleet = Fleet::new();
    let stall = Duration::from_millis(300);
    let limits = GatewayLimits { stall, ..GatewayLimits::default() };
    let mut master = Master::start_with(&fleet, fleet.master(), limits).await;
    let mut deaf = raw_minion(&master, &fleet, "deaf", b"").await;
    deaf.write_all(b"\x00\x02hi").await.unwrap();
    let connection = master.connected().await;
    soon(master.receiver.recv()).await.unwrap();
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..64 {
        if master.try_send(&connection, megabyte.clone()).await.is_err() {
            break;
        }
    }
    assert_eq!(master.closed().await, "the peer took nothing for 300ms");
}
