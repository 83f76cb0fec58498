//! The test vectors of docs/protocol.md §7 are what this implementation writes and reads, byte for byte.

use std::fmt::Write as _;

use bytes::Bytes;
use drover_pki::Fingerprint;
use drover_proto::{
    codec,
    digest::Digest,
    event::Event,
    id::BootId,
    job::{Job, Return},
    local_event,
    message::{
        Acknowledged, BlobChunk, BlobRequest, Certificate, CertificateRequest, FromMaster,
        FromMinion, GrainSets, Heartbeat, Hello, JobAccepted, KillJob, OutboxEntry, OutboxEvent,
        OutboxItem, Pillar, PillarRequest, Progress, Renew, RequestFailed, Retirement, RetryAfter,
        RootList, Roots, Scope, Tree, TreeFile, TreeRequest, Welcome,
    },
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");
const FENCE: &str = "```vectors\n";

#[test]
fn the_documents_vectors_are_what_is_written() {
    let expected = block();
    let begin = DOCUMENT.find(FENCE).expect("the document has vectors") + FENCE.len();
    let end = begin + DOCUMENT[begin..].find("```").expect("the fence is closed");
    let found = &DOCUMENT[begin..end];
    if let Ok(path) = std::env::var("DROVER_WRITE_VECTORS") {
        let text = format!("{}{expected}{}", &DOCUMENT[..begin], &DOCUMENT[end..]);
        std::fs::write(path, text).expect("the document can be written");
        return;
    }
    assert_eq!(found, expected, "run with DROVER_WRITE_VECTORS=<path of docs/protocol.md>");
}

#[test]
fn every_vector_is_read_back() {
    for message in from_minion() {
        let frame = codec::encode(&message).expect("it has a form");
        assert_eq!(codec::decode::<FromMinion>(&frame).expect("it is read"), message);
    }
    for message in from_master() {
        let frame = codec::encode(&message).expect("it has a form");
        assert_eq!(codec::decode::<FromMaster>(&frame).expect("it is read"), message);
    }
}

/// For each frame a line with its sender, a line that shows it, and its bytes.
fn block() -> String {
    let mut block = String::new();
    let mut add = |sender: &str, frame: &[u8]| {
        let shown = rmpv::decode::read_value(&mut &frame[..]).expect("a frame is MessagePack");
        writeln!(block, "{sender}\n{shown}").expect("a string takes everything");
        for line in frame.chunks(16) {
            let bytes: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(block, "  {}", bytes.join(" ")).expect("a string takes everything");
        }
    };
    for message in from_minion() {
        add("minion", &codec::encode(&message).expect("it has a form"));
    }
    for message in from_master() {
        add("master", &codec::encode(&message).expect("it has a form"));
    }
    add("file list, as a blob", &codec::encode(&tree()).expect("it has a form"));
    let [_, event] = local_event::publication(&event()).expect("it has a form");
    add("events.ipc, second frame", &event);
    block
}

fn from_minion() -> Vec<FromMinion> {
    let outbox = |number, item| FromMinion::Outbox(OutboxEntry { number, at: at(), item });
    let grains = || GrainSets {
        configured: map(json!({ "site": "bne" })),
        detected: map(json!({ "os": "Debian" })),
    };
    vec![
        FromMinion::Hello(Hello {
            protocols: vec![1],
            boot: BootId::new(Uuid::from_u128(0x8e2b_6ff2_53a1_4c0e_9b61_0c7d_3f0f_5a11)),
            version: "0.1.0".to_owned(),
            heartbeat: 30_000,
            at: at(),
            grains: grains(),
            root_list: 2,
            roots: vec![Fingerprint::of(b"")],
        }),
        FromMinion::Heartbeat(Heartbeat { at: at() }),
        FromMinion::JobAccepted(JobAccepted { jid: jid(), behind: 2 }),
        outbox(1, OutboxItem::Beacon(event_of("load/high", json!({ "1m": 3.5 })))),
        outbox(2, OutboxItem::App(event_of("door/open", json!({ "by": 7, "ok": true })))),
        outbox(
            3,
            OutboxItem::Agent(event_of("outbox/dropped", json!({ "count": 9, "returns": 0 }))),
        ),
        outbox(
            4,
            OutboxItem::Return(Return {
                jid: jid(),
                fun: "test.ping".to_owned(),
                value: Value::Bool(true),
                retcode: 0,
            }),
        ),
        outbox(5, OutboxItem::Progress(Progress { jid: jid(), data: json!({ "done": 3 }) })),
        FromMinion::Grains(grains()),
        FromMinion::TreeRequest(TreeRequest { request: 1, saltenv: "base".to_owned() }),
        FromMinion::BlobRequest(BlobRequest { request: 2, digest: digest(), offset: 262_144 }),
        FromMinion::PillarRequest(PillarRequest { request: 3, saltenv: "base".to_owned() }),
        FromMinion::CertificateRequest(CertificateRequest {
            request: 4,
            csr: Bytes::from_static(&[0x30, 0]),
        }),
        FromMinion::Roots(Roots { root_list: 3, roots: vec![Fingerprint::of(b"")] }),
    ]
}

fn from_master() -> Vec<FromMaster> {
    vec![
        FromMaster::Welcome(Welcome {
            protocol: 1,
            time: at(),
            grains: map(json!({ "role": "rfid" })),
            acknowledged: 0,
            scope: Scope::Renewal,
            retires: None,
        }),
        FromMaster::RetryAfter(RetryAfter { after: 60_000, reason: "restarting".to_owned() }),
        FromMaster::Heartbeat(Heartbeat { at: at() }),
        FromMaster::Job(Job {
            jid: jid(),
            fun: "cmd.run".to_owned(),
            arg: vec!["uptime".into()],
            kwarg: map(json!({ "timeout": 5 })),
            timeout: 300,
        }),
        FromMaster::KillJob(KillJob { jid: jid() }),
        FromMaster::Acknowledged(Acknowledged { through: 5 }),
        FromMaster::Tree(Tree { request: 1, digest: digest(), size: 111 }),
        FromMaster::BlobChunk(BlobChunk {
            request: 2,
            offset: 262_144,
            size: 262_147,
            data: Bytes::from_static(b"end"),
        }),
        FromMaster::Pillar(Pillar {
            request: 3,
            pillar: map(json!({ "registry": "127.0.0.1:5000" })),
        }),
        FromMaster::RequestFailed(RequestFailed {
            request: 4,
            reason: "no environment `dev`".to_owned(),
        }),
        FromMaster::Certificate(Certificate {
            request: 4,
            chain: vec![Bytes::from_static(&[0x30, 0]), Bytes::from_static(&[0x30, 0])],
        }),
        FromMaster::RootList(RootList { list: Bytes::from_static(b"{}") }),
        FromMaster::Renew(Renew { within: 86_400_000 }),
        FromMaster::Retirement(Retirement { at: Some(at()) }),
    ]
}

fn tree() -> Vec<TreeFile> {
    vec![TreeFile { path: "top.sls".to_owned(), digest: digest(), size: 0, mode: 0o644 }]
}

fn event() -> Event {
    Event {
        id: Uuid::from_u128(0x019a_adf4_3d68_7a3c_8b7e_2f60_91c5_d4e2),
        seq: 7,
        ts: at(),
        at: Some(at()),
        tag: "drover/app/rfid-1/door/open".parse().expect("a tag"),
        minion: Some("rfid-1".parse().expect("an id")),
        data: json!({ "by": 7 }),
    }
}

fn event_of(path: &str, data: Value) -> OutboxEvent {
    OutboxEvent { path: path.to_owned(), data }
}

fn at() -> Timestamp {
    "2026-11-23T02:37:05.25Z".parse().expect("a time")
}

fn jid() -> drover_proto::id::JobId {
    "20261123023705250000".parse().expect("a job id")
}

fn digest() -> Digest {
    Digest::of(b"")
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}
