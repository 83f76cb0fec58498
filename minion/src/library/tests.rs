use std::thread;

use drover_proto::codec;
use serde_json::json;

use super::*;
use crate::config::Config;

fn device(directory: &Path, orders: mpsc::Sender<Order>) -> Device {
    let mut config = Config::parse("master: none.invalid", directory).unwrap();
    config.grains = Map::new();
    durable::private_directory(&config.data_dir).unwrap();
    let library = Library::of_master(&config.data_dir, 1 << 20, orders).unwrap();
    Device::new("rfid-1".parse().unwrap(), None, config, library)
}

/// A master with one file, and what it was asked for.
fn master(mut orders: mpsc::Receiver<Order>) -> thread::JoinHandle<Vec<Wanted>> {
    let file = b"rfid: {test.nop: []}\n";
    let list = codec::encode(&vec![TreeFile {
        path: "rfid.sls".into(),
        digest: Digest::of(file),
        size: file.len() as u64,
        mode: 0o644,
    }])
    .unwrap();
    thread::spawn(move || {
        let mut asked = Vec::new();
        while let Some(Order { wanted, reply }) = orders.blocking_recv() {
            asked.push(wanted.clone());
            reply(Ok(match wanted {
                Wanted::Tree { .. } => Fetched::Tree(Digest::of(&list), list.len() as u64),
                Wanted::Blob { digest, .. } if digest == Digest::of(&list) => {
                    Fetched::Blob(list.to_vec())
                }
                Wanted::Blob { .. } => Fetched::Blob(file.to_vec()),
                Wanted::Pillar { .. } => {
                    Fetched::Pillar(json!({"secret": "s"}).as_object().unwrap().clone())
                }
            }));
        }
        asked
    })
}

fn read(device: &Device) -> Result<Vec<u8>, String> {
    let files = device.library().files(device, Arc::default());
    let content = files.source().read("base", "salt://rfid.sls");
    files.finish();
    content.map(|content| content.to_vec()).map_err(|why| error_chain(&why))
}

#[test]
fn files_come_once_and_are_there_without_the_master() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(8);
    let master = master(receiver);
    let online = device(directory.path(), sender);
    assert_eq!(read(&online).unwrap(), b"rfid: {test.nop: []}\n");
    read(&online).unwrap();
    drop(online);
    let asked = master.join().unwrap();
    let blobs = asked.iter().filter(|wanted| matches!(wanted, Wanted::Blob { .. })).count();
    assert_eq!(blobs, 2, "the list and the file, once each: {asked:?}");

    let (sender, _) = mpsc::channel(8);
    let offline = device(directory.path(), sender);
    assert_eq!(read(&offline).unwrap(), b"rfid: {test.nop: []}\n");
}

#[test]
fn what_was_never_fetched_is_not_there_without_the_master() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, _) = mpsc::channel(8);
    let why = read(&device(directory.path(), sender)).unwrap_err();
    assert!(why.contains("there is no connection to the master"), "{why}");
}

#[test]
fn pillar_is_kept_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(8);
    let master = master(receiver);
    let online = device(directory.path(), sender);
    let stopped = AtomicBool::new(false);
    let pillar = online.library().pillar_blocking(&online, "base", &stopped).unwrap();
    assert_eq!(pillar["secret"], "s");
    drop(online);
    master.join().unwrap();
    let kept = directory.path().join("data/cache/pillar-base.json");
    assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);

    let (sender, _) = mpsc::channel(8);
    let offline = device(directory.path(), sender);
    assert_eq!(offline.library().pillar_blocking(&offline, "base", &stopped).unwrap(), pillar);
    assert!(offline.library().pillar_blocking(&offline, "dev", &stopped).is_err());
}

#[test]
fn an_environment_cannot_name_a_file_elsewhere() {
    for wrong in ["", "../x", "a/b", "é"] {
        assert!(environment(wrong).is_err(), "{wrong}");
    }
    assert!(environment("base").is_ok());
}
