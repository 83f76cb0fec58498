//! A device that has its birth certificate, and wants more than it may have: in a session for renewal it can do nothing
//! but ask for a certificate, and asking on and on makes few.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use drover_pki::{PrivateKey, file, verify::verify_minion};
use drover_proto::{
    codec,
    event::Tag,
    id::{BootId, JobId},
    message::{
        CertificateRequest, FromMaster, FromMinion, GrainSets, Hello, JobAccepted, OutboxEntry,
        OutboxEvent, OutboxItem, PROTOCOL, PillarRequest, Roots, Scope, TreeRequest,
    },
    tunnel::{self, Identity, Tunnel, TunnelConfig, TunnelLimits},
};
use drover_tests::fleet::{Fleet, PATIENCE};
use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde_json::json;
use tokio::{runtime::Runtime, time::timeout};
use uuid::Uuid;

/// A registered device, whose agent is in a stranger's hands.
fn scene() -> (Fleet, Runtime) {
    let mut fleet = Fleet::new();
    fleet.enrol("liar-1", &[]);
    fleet.start_master();
    fleet.register();
    (fleet, Runtime::new().unwrap())
}

/// Connects with the birth certificate, as far as the welcome.
async fn renewal_session(fleet: &Fleet) -> Tunnel {
    let pki = fleet.minion_dir("liar-1").join("pki");
    let (certificate, key) = (pki.join("idevid.crt"), pki.join("idevid.key"));
    let identity = file::Identity::load(&certificate, &key).unwrap();
    let anchors = file::read_anchors(&pki.join("root.crt")).unwrap();
    let config = TunnelConfig {
        masters: vec![fleet.master_address()],
        identity: Identity::from_der(identity.chain, identity.key.to_rustls()).unwrap(),
        anchors: Arc::new(anchors),
        clock_floor: None,
        limits: TunnelLimits::default(),
    };
    let mut tunnel = tunnel::connect(&config).await.unwrap();
    let hello = Hello {
        protocols: vec![PROTOCOL],
        boot: BootId::new(Uuid::new_v4()),
        version: "0".to_owned(),
        heartbeat: 1_000,
        at: Timestamp::now(),
        grains: GrainSets::default(),
        root_list: 0,
        roots: Vec::new(),
    };
    send(&mut tunnel, &FromMinion::Hello(hello)).await;
    let FromMaster::Welcome(welcome) = answer(&mut tunnel).await else { panic!("a welcome") };
    assert_eq!(welcome.scope, Scope::Renewal);
    tunnel
}

async fn send(tunnel: &mut Tunnel, message: &FromMinion) {
    tunnel.send(codec::encode(message).unwrap()).await.unwrap();
}

async fn answer(tunnel: &mut Tunnel) -> FromMaster {
    let frame = timeout(PATIENCE, tunnel.recv()).await.unwrap().unwrap();
    codec::decode(&frame).unwrap()
}

#[test]
fn a_session_for_renewal_takes_nothing_else() {
    let (fleet, runtime) = scene();
    let beacon = OutboxEvent { path: "load".to_owned(), data: json!({}) };
    let jid: JobId = "20260101000000000000".parse().unwrap();
    let saltenv = "base".to_owned();
    let wanted = [
        FromMinion::Grains(GrainSets::default()),
        FromMinion::Outbox(OutboxEntry {
            number: 1,
            at: Timestamp::now(),
            item: OutboxItem::Beacon(beacon),
        }),
        FromMinion::JobAccepted(JobAccepted { jid, behind: 0 }),
        FromMinion::TreeRequest(TreeRequest { request: 1, saltenv: saltenv.clone() }),
        FromMinion::PillarRequest(PillarRequest { request: 1, saltenv }),
        FromMinion::Roots(Roots::default()),
    ];
    runtime.block_on(async {
        for message in &wanted {
            let mut tunnel = renewal_session(&fleet).await;
            send(&mut tunnel, message).await;
            let ended = timeout(PATIENCE, tunnel.recv()).await.unwrap();
            assert!(ended.is_err(), "{message:?} was answered");
        }
        let _waiting = renewal_session(&fleet).await;
        // Nobody takes it for connected, and it is sent no job.
        let presence = fleet.json(&["presence"]);
        assert_ne!(presence["liar-1"]["presence"], "connected");
        assert_ne!(fleet.drover(&["-t", "1", "liar-1", "test.ping"]).status, 0);
    });
    let id = "liar-1".parse().unwrap();
    for tag in [Tag::minion(&id, "*"), Tag::beacon(&id, "*").unwrap()] {
        assert_eq!(fleet.events(tag.as_str()), Vec::<serde_json::Value>::new());
    }
}

#[test]
fn a_session_is_not_pushed_out_by_many_with_the_birth_certificate() {
    let fleet = Fleet::connected(&["liar-1"]);
    let runtime = Runtime::new().unwrap();
    // It first came for its certificate, and then once.
    let starts = fleet.events("drover/minion/liar-1/start").len();
    runtime.block_on(async {
        let mut others = Vec::new();
        for _ in 0..8 {
            others.push(renewal_session(&fleet).await);
        }
        assert_eq!(fleet.json(&["liar-1", "test.ping"]), json!({ "liar-1": true }));
    });
    assert_eq!(fleet.events("drover/minion/liar-1/start").len(), starts);
    assert_eq!(fleet.events("drover/minion/liar-1/stop"), Vec::<serde_json::Value>::new());
}

#[test]
fn one_that_is_silent_in_a_session_for_renewal_is_let_go() {
    let (fleet, runtime) = scene();
    runtime.block_on(async {
        let mut tunnel = renewal_session(&fleet).await;
        assert!(timeout(PATIENCE, tunnel.recv()).await.unwrap().is_err());
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a refusal takes is what is tried")]
fn a_device_that_asks_on_and_on_makes_few_certificates() {
    let (fleet, runtime) = scene();
    let anchors = file::read_anchors(&fleet.path("master/pki/root.crt")).unwrap();
    let asked = Instant::now();
    let (mut issued, mut refused) = (0, 0);
    runtime.block_on(async {
        let mut tunnel = renewal_session(&fleet).await;
        for request in 0..10 {
            let csr = Bytes::from(PrivateKey::generate().unwrap().to_csr().unwrap());
            let wanted = CertificateRequest { request, csr };
            send(&mut tunnel, &FromMinion::CertificateRequest(wanted)).await;
            let answered = answer(&mut tunnel).await;
            if let FromMaster::RequestFailed(failed) = answered {
                assert!(failed.reason.contains("has to wait"), "{}", failed.reason);
                refused += 1;
                continue;
            }
            let FromMaster::Certificate(certificate) = answered else { panic!("{answered:?}") };
            let chain: Vec<_> = certificate.chain.iter().map(|der| der.to_vec().into()).collect();
            let now = UnixTime::now();
            let leaf = verify_minion(&anchors, &chain[0], &chain[1..], now).unwrap();
            assert_eq!(leaf.id.as_str(), "liar-1");
            issued += 1;
        }
    });
    assert_eq!((issued, refused), (7, 3));
    assert!(asked.elapsed() >= Duration::from_secs(3), "a refusal takes a second");
    assert_eq!(fleet.events("drover/key/liar-1/renewed").len(), issued);
}
