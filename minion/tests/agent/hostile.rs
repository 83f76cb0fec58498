//! A master that the device must believe, in a stranger's hands or out of its mind: it says what is wrong, and says it on
//! and on. The flash outlives it.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use bytes::Bytes;
use drover_proto::message::{
    Certificate, FromMaster, FromMinion, OutboxEntry, OutboxItem, Retirement, RootList,
};
use jiff::{Timestamp, ToSpan as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    device::{Device, until},
    master::{Fleet, Master},
};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Counts what a device puts on its disk while `strace` looks on.
struct Watch {
    strace: std::process::Child,
    log: PathBuf,
}

impl Watch {
    async fn on(device: &Device) -> Self {
        let log = device.path("strace.log");
        let told = device.path("strace.told");
        let strace = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-p", &device.pid(), "-o"])
            .arg(&log)
            .stderr(fs::File::create(&told).unwrap())
            .spawn()
            .unwrap();
        until(|| fs::read_to_string(&told).unwrap().contains("attached")).await;
        Self { strace, log }
    }

    fn flushes(mut self) -> usize {
        kill_process(Pid::from_child(&self.strace), Signal::INT).unwrap();
        self.strace.wait().unwrap();
        fs::read_to_string(&self.log).unwrap().matches("sync(").count()
    }
}

#[tokio::test]
async fn a_master_that_goes_on_and_on_does_not_wear_the_flash() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.issues = Some(MONTH);
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    master.hello().await;
    master.job(1, "test.ping", json!([])).await;
    master.returned(1).await;
    let watch = Watch::on(&device).await;
    for number in 0..300_u64 {
        let at = Some(Timestamp::now() + i64::try_from(number + 1).unwrap().hours());
        let list = Bytes::from(format!("{{\"forged\": {number}}}"));
        let chain = vec![Bytes::from_static(b"nobody asked")];
        master.send(FromMaster::Retirement(Retirement { at })).await;
        master.send(FromMaster::RootList(RootList { list })).await;
        master.send(FromMaster::Certificate(Certificate { request: number, chain })).await;
    }
    master.job(2, "test.ping", json!([])).await;
    assert_eq!(master.returned(2).await.value, true);
    // Sixteen days of its end, each a file and its directory, and the job.
    let flushes = watch.flushes();
    assert!(flushes <= 40, "{flushes} flushes");
    assert_eq!(master.shown(), [true, false], "what nobody asked for is no certificate");
    let refusals = master.count(|message| {
        matches!(message, FromMinion::Outbox(OutboxEntry { item: OutboxItem::Agent(event), .. })
            if event.path == "identity/roots_refused")
    });
    assert_eq!(refusals, 4, "told, and then no more");
    device.stop();
}
