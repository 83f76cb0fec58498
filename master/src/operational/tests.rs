use drover_pki::{
    Fingerprint, FleetName, PrivateKey,
    verify::{TrustAnchors, verify_minion},
};
use drover_proto::{message::Scope, tunnel::Admission};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::{
    config::Acceptance,
    crl::{CrlTask, Revocation},
    registry::Verb,
    store::{Retention, Store},
};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// A fleet, and a master that accepts any device of it.
struct Fixture {
    directory: TempDir,
    store: Store,
    registry: Registry,
    operational: Operational,
    anchors: TrustAnchors,
    root: Authority,
    line: Authority,
    fleet_ca: Arc<Authority>,
}

fn fixture(validity: Option<Duration>) -> Fixture {
    let now = Now::read().wall;
    let fleet: FleetName = "acme".parse().unwrap();
    let root = Authority::create_root(&fleet, now).unwrap();
    let line = root.create_factory_ca(&"line-1".parse().unwrap(), now).unwrap();
    let fleet_ca = Arc::new(root.create_fleet_ca(&fleet, now).unwrap());
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), Retention::default()).unwrap();
    let (registry, task) = Registry::open(store.clone(), Acceptance::Auto).unwrap();
    tokio::spawn(task.run());
    let operational = Operational::new(registry.clone(), validity);
    operational.set_authority(Some(fleet_ca.clone()));
    let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
    Fixture { directory, store, registry, operational, anchors, root, line, fleet_ca }
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
}

fn csr(key: &PrivateKey) -> Vec<u8> {
    key.to_csr().unwrap()
}

impl Fixture {
    /// A device with its birth certificate that has shown itself.
    fn device(&self, id: &str) -> MinionCertificate {
        let now = Now::read().wall;
        let key = PrivateKey::generate().unwrap();
        let serial = "SN 1".parse().unwrap();
        let leaf = self.line.issue_idevid(&id.parse().unwrap(), &serial, &key, now).unwrap();
        let chain = [self.line.der().clone()];
        let device = verify_minion(&self.anchors, &leaf, &chain, unix(now)).unwrap();
        self.registry.admit(&device, "127.0.0.1:1".parse().unwrap()).unwrap();
        device
    }

    fn verify(&self, issued: &Issued) -> MinionCertificate {
        let now = unix(Now::read().wall);
        verify_minion(&self.anchors, &issued.chain[0], &issued.chain[1..], now).unwrap()
    }

    fn scope(&self, certificate: &MinionCertificate) -> Option<Scope> {
        self.registry.scope(certificate, Now::read().wall)
    }

    async fn change(&self, device: &MinionCertificate, verb: Verb) {
        let now = Now::read().wall;
        let ids = std::slice::from_ref(&device.id);
        for (_, changed) in self.registry.change(ids, verb, None, now).await {
            changed.unwrap();
        }
    }
}

#[tokio::test]
async fn a_device_is_issued_the_names_that_it_is_registered_by() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    assert_eq!(fixture.scope(&device), Some(Scope::Renewal));
    let key = PrivateKey::generate().unwrap();
    let issued = fixture.operational.issue(&device, &csr(&key), AskedBy::Birth).await.unwrap();
    let shown = fixture.verify(&issued);
    assert_eq!((shown.id.as_str(), shown.key), ("rfid-1", key.public().digest()));
    assert_eq!(shown.hardware_serial, Some("SN 1".parse().unwrap()));
    assert_eq!(shown.not_after.as_secs() - shown.issued().as_secs(), MONTH.as_secs());
    assert_eq!(
        issued.certificate,
        IssuedCertificate { seen: false, ..IssuedCertificate::shown(&shown) }
    );
    assert_eq!(fixture.scope(&shown), Some(Scope::Full));

    // It is on the books before it is sent.
    let entry = fixture.registry.entry(&device.id).unwrap();
    assert_eq!(entry.operational.unwrap().current(), &issued.certificate);
    let events = fixture.store.events(0, 10).await.unwrap();
    let renewed = events.last().unwrap();
    assert_eq!(renewed.tag.as_str(), "drover/key/rfid-1/renewed");
    assert_eq!(renewed.data["by"], "birth");
    assert_eq!(renewed.data["fingerprint"], shown.fingerprint.with_colons());
}

#[tokio::test]
async fn a_renewed_certificate_supersedes_the_old_one_once_it_is_used() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let mut shown = Vec::new();
    for _ in 0..2 {
        let key = PrivateKey::generate().unwrap();
        let issued = fixture.operational.issue(&device, &csr(&key), AskedBy::Birth).await.unwrap();
        shown.push(fixture.verify(&issued));
    }
    for certificate in &shown {
        assert_eq!(fixture.scope(certificate), Some(Scope::Full), "the answer may be lost");
    }
    let now = Now::read().wall;
    fixture.registry.used(&device.id, IssuedCertificate::shown(&shown[1]), now);
    // What is asked after it is answered after it.
    let key = PrivateKey::generate().unwrap();
    fixture.operational.issue(&shown[1], &csr(&key), AskedBy::Operational).await.unwrap();
    assert_eq!(fixture.scope(&shown[1]), Some(Scope::Full));
    assert_eq!(fixture.scope(&shown[0]), None, "two machines have this identity");
    assert_eq!(fixture.scope(&device), Some(Scope::Renewal));
}

#[tokio::test]
async fn who_does_not_have_the_key_gets_no_certificate() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let mut forged = csr(&PrivateKey::generate().unwrap());
    *forged.last_mut().unwrap() ^= 1;
    for request in [forged, b"0".to_vec(), vec![0x30; 5_000]] {
        let refused = fixture.operational.issue(&device, &request, AskedBy::Birth).await;
        assert!(refused.unwrap_err().is_the_devices());
    }
    assert_eq!(fixture.registry.entry(&device.id).unwrap().operational, None);
}

#[tokio::test]
async fn who_was_revoked_in_the_meantime_gets_no_certificate() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let issued = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    fixture.change(&device, Verb::Revoke).await;
    let refused = fixture.operational.issue(&device, &request, AskedBy::Birth).await;
    assert!(matches!(refused, Err(IssueError::Refused(IssueRefused::NotAccepted(_)))));
    assert_eq!(fixture.scope(&fixture.verify(&issued)), None);
    assert_eq!(fixture.scope(&device), None);
}

#[tokio::test]
async fn a_device_that_is_deleted_takes_its_certificates_with_it() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let issued = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    fixture.change(&device, Verb::Delete).await;
    assert_eq!(fixture.scope(&fixture.verify(&issued)), None);
    let twin = fixture.device("rfid-1");
    assert_eq!(fixture.scope(&twin), Some(Scope::Renewal));
    assert_eq!(fixture.scope(&fixture.verify(&issued)), None, "it was another device's");
}

#[tokio::test]
async fn a_request_that_waits_while_the_id_becomes_another_devices_gets_no_certificate() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let issued = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    fixture.change(&device, Verb::Delete).await;
    let twin = fixture.device("rfid-1");
    // Both were let in before, and asked on: EST waits for a body, and a session for its turn.
    for before in [device, fixture.verify(&issued)] {
        let refused = fixture.operational.issue(&before, &request, AskedBy::Est).await;
        assert!(matches!(refused, Err(IssueError::Refused(IssueRefused::Replaced(_)))));
    }
    fixture.operational.issue(&twin, &request, AskedBy::Birth).await.unwrap();
}

#[tokio::test]
async fn a_hostile_device_makes_few_certificates() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let mut issued = 0;
    let refused = loop {
        match fixture.operational.issue(&device, &request, AskedBy::Birth).await {
            Ok(_) => issued += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, IssueError::Refused(IssueRefused::TooOften(_))));
    assert_eq!(issued, 7);
    let kept = fixture.registry.entry(&device.id).unwrap().operational.unwrap();
    assert_eq!(kept.all().count(), 7);
}

#[tokio::test]
async fn a_certificate_that_is_not_remembered_is_revoked() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let (store, directory) = (fixture.store.clone(), fixture.directory.path().to_owned());
    let (crl, _task) = CrlTask::open(store, directory, MONTH, Vec::new()).await.unwrap();
    fixture.registry.set_crl(crl);
    let request = csr(&PrivateKey::generate().unwrap());
    let first = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    // Nine more, as fast as it gets them.
    let (shown, now) = (ShownCertificate::of(&device), Now::read().wall);
    for number in 0..9_u8 {
        let certificate = IssuedCertificate {
            serial: format!("{number:02x}01").parse().unwrap(),
            fingerprint: Fingerprint::of(&[number]),
            ..first.certificate.clone()
        };
        let (registry, window) = (&fixture.registry, Duration::ZERO);
        let by = AskedBy::Birth;
        registry.issue(&device.id, certificate, by, shown, window, now).await.unwrap();
    }
    let issuer = first.certificate.issuer;
    let revoked: Vec<Revocation> = fixture.store.revocations(&issuer).unwrap();
    let serials: Vec<_> = revoked.iter().map(|revoked| revoked.serial.to_string()).collect();
    assert_eq!(revoked.len(), 2, "eight are remembered: {serials:?}");
    assert!(serials.contains(&first.certificate.serial.to_string()), "{serials:?}");
}

#[tokio::test]
async fn a_master_that_issues_none_gives_birth_certificates_everything() {
    let never = fixture(None);
    let device = never.device("rfid-1");
    assert_eq!(never.scope(&device), Some(Scope::Full));
    let request = csr(&PrivateKey::generate().unwrap());
    let refused = never.operational.issue(&device, &request, AskedBy::Birth).await;
    assert!(matches!(refused, Err(IssueError::Off)));
    let keyless = fixture(Some(MONTH));
    keyless.operational.set_authority(None);
    assert_eq!(keyless.scope(&keyless.device("rfid-1")), Some(Scope::Full));
}

#[tokio::test]
async fn no_certificate_outlives_its_issuer() {
    let fixture = fixture(Some(Duration::from_secs(20 * 365 * 86_400)));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let issued = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    let shown = fixture.verify(&issued);
    assert_eq!(shown.not_after, fixture.fleet_ca.certificate().not_after);
}

#[tokio::test]
async fn what_the_fleet_ca_before_issued_counts_still() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let request = csr(&PrivateKey::generate().unwrap());
    let old = fixture.operational.issue(&device, &request, AskedBy::Birth).await.unwrap();
    let now = Now::read().wall;
    let successor = fixture.root.create_fleet_ca(&"acme".parse().unwrap(), now).unwrap();
    fixture.operational.set_authority(Some(Arc::new(successor)));
    let old = fixture.verify(&old);
    assert_eq!(fixture.scope(&old), Some(Scope::Full));
    let new = fixture.operational.issue(&old, &request, AskedBy::Operational).await.unwrap();
    let new = fixture.verify(&new);
    assert_eq!(fixture.scope(&new), Some(Scope::Full));
    assert_ne!(new.issuer().key, old.issuer().key);
}

#[tokio::test]
async fn devices_are_not_sent_to_a_fleet_ca_that_has_ended() {
    let fixture = fixture(Some(MONTH));
    let device = fixture.device("rfid-1");
    let long_ago = Timestamp::constant(1_000_000_000, 0);
    let ended = fixture.root.create_fleet_ca(&"acme".parse().unwrap(), long_ago).unwrap();
    fixture.operational.set_authority(Some(Arc::new(ended)));
    assert_eq!(fixture.scope(&device), Some(Scope::Full));
    let request = csr(&PrivateKey::generate().unwrap());
    let refused = fixture.operational.issue(&device, &request, AskedBy::Birth).await;
    assert!(matches!(refused, Err(IssueError::Expired(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_issued_its_certificates_at_once() {
    let fixture = fixture(Some(MONTH));
    let devices: Vec<_> = (0..200).map(|number| fixture.device(&format!("d-{number}"))).collect();
    let issuing = devices.into_iter().map(|device| {
        let operational = fixture.operational.clone();
        tokio::spawn(async move {
            let key = PrivateKey::generate().unwrap();
            let issued = operational.issue(&device, &csr(&key), AskedBy::Birth).await.unwrap();
            (device, key, issued)
        })
    });
    for issuing in issuing.collect::<Vec<_>>() {
        let (device, key, issued) = issuing.await.unwrap();
        let shown = fixture.verify(&issued);
        assert_eq!((shown.id, shown.key), (device.id, key.public().digest()));
    }
}
