//! First contact, renewal and the way back, by the agent as a process.

use std::{fs, time::Duration};

use drover_proto::message::{FromMinion, OutboxItem, Scope};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    device::Device,
    master::{Fleet, Master},
};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

#[tokio::test]
async fn first_contact_ends_in_a_full_session_with_an_operational_certificate() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(MONTH);
    let mut device = Device::start(&fleet, "rfid-1", master.port(), "");
    let first = master.hello().await;
    assert_eq!((first.root_list, first.roots.len()), (0, 1));
    let second = master.hello().await;
    assert_eq!(first.boot, second.boot, "it is one run of the agent");
    assert_eq!(master.shown(), [true, false]);
    master.job(1, "test.ping", json!([])).await;
    assert_eq!(master.returned(1).await.value, true);

    device.kill();
    device.restart();
    master.hello().await;
    assert_eq!(master.shown(), [true, false, false], "it has kept what it got");
    device.stop();
    let left: Vec<_> = fs::read_dir(device.path("pki")).unwrap().collect();
    assert_eq!(left.len(), 5, "{left:?}");
}

fn says_more(message: &FromMinion) -> bool {
    !matches!(message, FromMinion::Heartbeat(_))
}

#[tokio::test]
async fn nothing_but_the_request_is_sent_in_a_session_for_renewal() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(MONTH);
    let beacons = "beacons: {load: [{interval: 1}]}\n";
    let device = Device::start(&fleet, "rfid-1", master.port(), beacons);
    master.hello().await;
    let next = master.wait(|message| Some(message).filter(says_more));
    let next = next.await;
    assert!(matches!(next, FromMinion::CertificateRequest(_)), "{next:?}");
    let next = master.wait(|message| Some(message).filter(says_more));
    let next = next.await;
    assert!(matches!(next, FromMinion::Hello(_)), "{next:?}");
    assert_eq!(master.scope(), Scope::Full);
    device.stop();
}

#[tokio::test]
async fn a_job_that_runs_through_many_renewals_returns_once() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(Duration::from_secs(2));
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    let boot = master.hello().await.boot;
    assert_eq!(master.hello().await.boot, boot);
    let (ran, go) = (device.path("ran"), device.path("go"));
    let command = format!(
        "echo ran >> {}; while [ ! -e {} ]; do sleep 0.1; done; echo done",
        ran.display(),
        go.display()
    );
    master.job(1, "cmd.run", json!([command])).await;
    master.accepted().await;
    for _ in 0..3 {
        assert_eq!(master.hello().await.boot, boot);
    }
    fs::write(&go, "").unwrap();
    assert_eq!(master.returned(1).await.value, "done");
    master.hello().await;
    assert_eq!(fs::read_to_string(&ran).unwrap(), "ran\n");
    let log = fs::read_to_string(device.path("log")).unwrap();
    assert!(!log.contains("disconnected"), "a move is no loss:\n{log}");
    assert!(master.shown()[1..].iter().all(|is_birth| !is_birth), "{:?}", master.shown());
    device.stop();
}

#[tokio::test]
async fn a_refused_operational_certificate_is_followed_by_the_birth_certificate() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(MONTH);
    let mut device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    master.hello().await;
    device.kill();
    master.refuse_operational(true);
    device.restart();
    master.hello().await;
    assert_eq!(master.shown(), [true, false, false, true]);
    // What it gets is refused as well, so it goes back and forth, but in no loop.
    master.hello().await;
    master.refuse_operational(false);
    loop {
        master.hello().await;
        if master.scope() == Scope::Full {
            break;
        }
    }
    let shown = master.shown();
    assert!(shown.len() < 12, "{shown:?}");
    device.stop();
}

#[tokio::test]
async fn an_identity_that_the_disk_does_not_take_is_told_once() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(Duration::from_secs(2));
    let mut device = Device::start(&fleet, "rfid-1", 9, "");
    device.kill();
    // Stops root too.
    fs::create_dir(device.path("pki/ldevid.next.key")).unwrap();
    device.set_master(master.port());
    device.restart();
    for _ in 0..4 {
        master.hello().await;
    }
    let item = master.item().await;
    let OutboxItem::Agent(event) = &item else { panic!("{item:?}") };
    assert_eq!(event.path, "identity/not_stored");
    assert!(event.data["reason"].as_str().unwrap().contains("ldevid.next.key"), "{item:?}");
    master.job(1, "test.ping", json!([])).await;
    let next = master.item().await;
    assert!(matches!(next, OutboxItem::Return(_)), "told once: {next:?}");
    assert!(!device.path("pki/ldevid.crt").exists());
    device.stop();
}

#[tokio::test]
async fn a_device_that_has_ended_says_so_and_renews_nothing_until_it_has_not() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(Duration::from_secs(2));
    let mut device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    master.hello().await;
    let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    master.retire(Some(end)).await;
    let told = master
        .wait(|message| if let FromMinion::Grains(grains) = message { Some(grains) } else { None });
    assert_eq!(told.await.detected["retires_at"], json!(end));
    // For longer than its certificate lives.
    master.job(1, "cmd.run", json!(["sleep 3"])).await;
    master.returned(1).await;
    assert_eq!(master.shown(), [true, false]);

    // It is kept, also for the time without a master.
    device.kill();
    let kept = device.call(&["grains.get", "retires_at", "--out", "json"]);
    assert_eq!(kept, json!(end));
    device.restart();
    assert_eq!(master.hello().await.grains.detected["retires_at"], json!(end));
    master.retire(None).await;
    let hello = loop {
        let hello = master.hello().await;
        if master.scope() == Scope::Full {
            break hello;
        }
    };
    assert!(!hello.grains.detected.contains_key("retires_at"));
    device.stop();
}
