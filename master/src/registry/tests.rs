use std::time::Duration;

use drover_pki::{
    authority::Authority,
    crl::{RevocationList, Revocations},
    fingerprint::LineDigest,
    key::PrivateKey,
    ledger::Head,
    manifest::{
        Format, Manifest, ManifestEntry, ManifestLedger, Reissue, RevokedMinion, VerifiedManifest,
    },
    verify::{TrustAnchors, verify_minion},
};
use drover_proto::{job::TargetType, target::Expression};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::store::{Retention, StoreError};

mod imports;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A factory with one station.
struct Factory {
    station: &'static str,
    line: Authority,
    anchors: TrustAnchors,
}

impl Factory {
    fn new(station: &'static str) -> Self {
        Self::made_at(station, NOW)
    }

    fn made_at(station: &'static str, at: Timestamp) -> Self {
        let root = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
        let line = root.create_factory_ca(&station.parse().unwrap(), at).unwrap();
        let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
        Self { station, line, anchors }
    }

    fn device(&self, id: &str) -> MinionCertificate {
        let key = PrivateKey::generate().unwrap();
        let serial = "SN 1".parse().unwrap();
        let leaf =
            self.line.issue_idevid(&id.parse().unwrap(), &serial, key.public(), NOW).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        verify_minion(&self.anchors, &leaf, std::slice::from_ref(self.line.der()), now).unwrap()
    }

    fn manifest(&self, number: u64, devices: &[&MinionCertificate]) -> VerifiedManifest {
        self.changed_manifest(number, devices, |_| {})
    }

    fn changed_manifest(
        &self,
        number: u64,
        devices: &[&MinionCertificate],
        change: impl FnOnce(&mut Manifest),
    ) -> VerifiedManifest {
        let entries = devices.iter().map(|device| ManifestEntry {
            id: device.id.clone(),
            serial: "SN 1".parse().unwrap(),
            key: device.key,
            certificate: device.fingerprint,
            grains: Map::from_iter([("site".to_owned(), json!(format!("site-{number}")))]),
            issued: NOW,
            reissue: None,
        });
        let revocations =
            Revocations { number, this_update: NOW, next_update: Timestamp::MAX, revoked: vec![] };
        let mut manifest = Manifest {
            format: Format,
            station: self.station.parse().unwrap(),
            number,
            all: true,
            created: NOW,
            ledger: ManifestLedger { head: head(number), previous: head(number - 1) },
            minions: entries.collect(),
            revoked: vec![],
            crl: RevocationList::sign(&self.line, &revocations).unwrap().to_pem(),
        };
        change(&mut manifest);
        let text = manifest.sign(&self.line).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        Manifest::verify(text.as_bytes(), &self.anchors, now).unwrap()
    }
}

/// How far a ledger goes behind a manifest.
fn head(number: u64) -> Head {
    Head { count: number * 10, head: LineDigest::of(&number.to_be_bytes()) }
}

struct Fixture {
    directory: TempDir,
    store: Store,
    registry: Registry,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

fn fixture(policy: Acceptance) -> Fixture {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), Retention::default()).unwrap();
    let (registry, task) = Registry::open(store.clone(), policy).unwrap();
    Fixture { directory, store, registry, task: tokio::spawn(task.run()) }
}

impl Fixture {
    fn admit(&self, device: &MinionCertificate) -> Result<(), String> {
        let address = "127.0.0.1:1".parse().unwrap();
        self.registry.admit(device, address).map_err(|refusal| refusal.to_string())
    }

    async fn change(&self, device: &MinionCertificate, verb: Verb) -> Result<Status, String> {
        let ids = std::slice::from_ref(&device.id);
        let changed = self.registry.change(ids, verb, None, NOW).await.remove(0).1;
        changed.map(|changed| changed.entry.status).map_err(|error| error.to_string())
    }

    async fn import(
        &self,
        manifest: &VerifiedManifest,
    ) -> (Vec<String>, Vec<String>, Vec<Conflict>) {
        let import = self.registry.import(manifest, &Only::default(), false, NOW).await.unwrap();
        let names = |ids: Vec<MinionId>| ids.iter().map(ToString::to_string).collect();
        let refused = import.refused.iter().map(|refused| refused.reason).collect();
        (names(import.registered), names(import.known), refused)
    }

    async fn tags(&self, count: u64) -> Vec<String> {
        self.store.watch().wait_for(|last| *last >= count).await.unwrap();
        let events = self.store.events(0, 100).await.unwrap();
        events.iter().map(|event| event.tag.to_string()).collect()
    }

    /// What is in the store, as a master that starts again would see it.
    async fn stored(self) -> Vec<Entry> {
        drop(self.registry);
        self.task.await.unwrap().unwrap();
        let _directory = self.directory;
        self.store.registry::<Entry>().unwrap().into_iter().map(|(_, entry)| entry).collect()
    }
}

#[tokio::test]
async fn a_device_that_is_registered_or_revoked_while_it_connects_stays_so() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let device = factory.device("a");
    let stranger = fixture.registry.decide(&device, NOW);
    assert!(matches!(stranger, Decision::RefuseNew(_)));
    fixture.import(&factory.manifest(1, &[&device])).await;
    let decided = fixture.registry.welcome_newcomer(&device, NOW);
    assert_eq!(decided, Decision::Admit(Scope::Full));
    assert_eq!(fixture.registry.entry(&device.id).unwrap().manifest, 1);
    fixture.change(&device, Verb::Revoke).await.unwrap();
    let decided = fixture.registry.welcome_newcomer(&device, NOW);
    assert_eq!(decided, Decision::Refuse(Reason::Revoked));
    assert_eq!(fixture.registry.entry(&device.id).unwrap().status, Status::Revoked);
}

#[tokio::test]
async fn an_id_is_bound_to_its_key_and_its_station() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let (device, twin) = (factory.device("a"), factory.device("a"));
    fixture.import(&factory.manifest(1, &[&device])).await;
    assert!(fixture.admit(&twin).unwrap_err().contains("factory key is not the one"));
    let (_, _, refused) = fixture.import(&factory.manifest(2, &[&twin])).await;
    assert_eq!(refused, [Conflict::OtherKey]);
    let other = Factory::new("line-2");
    let (_, _, refused) = fixture.import(&other.manifest(1, &[&device])).await;
    assert_eq!(refused, [Conflict::OtherStation]);
    assert_eq!(fixture.admit(&device), Ok(()));
}

#[tokio::test]
async fn a_strangers_word_counts_less_than_a_manifest() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Registered));
    let (device, thief) = (factory.device("a"), Factory::new("line-2").device("a"));
    fixture.admit(&thief).unwrap_err();
    let (registered, _, _) = fixture.import(&factory.manifest(1, &[&device])).await;
    assert_eq!(registered, ["a"]);
    assert_eq!(fixture.admit(&device), Ok(()));
    fixture.admit(&thief).unwrap_err();
}

#[tokio::test]
async fn an_operator_accepts_rejects_and_accepts_again() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Manual));
    let device = factory.device("a");
    fixture.admit(&device).unwrap_err();
    fixture.tags(1).await;
    assert_eq!(fixture.change(&device, Verb::Accept).await, Ok(Status::Accepted));
    assert_eq!(fixture.admit(&device), Ok(()));
    assert!(fixture.registry.scope(&device, NOW).is_some());
    assert_eq!(fixture.change(&device, Verb::Reject).await, Ok(Status::Rejected));
    assert!(
        fixture.registry.scope(&device, NOW).is_none(),
        "also one that is through the gateway already"
    );
    assert_eq!(fixture.change(&device, Verb::Accept).await, Ok(Status::Accepted));
    let tags =
        ["pending", "accepted", "rejected", "accepted"].map(|what| format!("drover/key/a/{what}"));
    assert_eq!(fixture.tags(4).await, tags);
}

#[tokio::test]
async fn auto_accepts_and_remembers_the_first_key() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let device = factory.device("a");
    assert_eq!(fixture.admit(&device), Ok(()));
    fixture.admit(&factory.device("a")).unwrap_err();
    assert_eq!(fixture.tags(1).await, ["drover/key/a/accepted"]);
    let stored = fixture.stored().await;
    assert_eq!(stored[0].birth.as_ref().unwrap().key, device.key);
}

#[tokio::test]
async fn a_list_tells_a_rejected_minion_from_one_that_nobody_knows() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let (good, bad) = (factory.device("good"), factory.device("bad"));
    fixture.admit(&good).unwrap();
    fixture.admit(&bad).unwrap();
    fixture.change(&bad, Verb::Reject).await.unwrap();
    let list = Expression::parse("good,bad,gone", TargetType::List).unwrap();
    let matched = fixture.registry.matching(&list, &|_| None);
    assert_eq!(matched.minions, [good.id]);
    assert_eq!(matched.unknown, ["gone"]);
    assert_eq!(matched.not_accepted.into_iter().collect::<Vec<_>>(), [(bad.id, Status::Rejected)]);
}

#[tokio::test]
async fn what_is_done_to_many_keys_is_told_of_each() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let devices = ["a", "b"].map(|id| factory.device(id));
    for device in &devices {
        fixture.admit(device).unwrap();
    }
    // A newcomer that is changed before it is stored is stored as it then is.
    fixture.tags(2).await;
    fixture.change(&devices[1], Verb::Revoke).await.unwrap();
    fixture.tags(3).await;
    let ids = ["a", "nobody", "b", "a"].map(|id| id.parse().unwrap());
    let changed = fixture.registry.change(&ids, Verb::Reject, Some("stolen"), NOW).await;
    let told: Vec<_> = changed
        .into_iter()
        .map(|(_, changed)| match changed {
            Ok(Changed { was, entry }) => format!("{} -> {}", was.word(), entry.status.word()),
            Err(error) => error.to_string(),
        })
        .collect();
    let revoked = "`b` is revoked, which cannot be taken back";
    assert_eq!(told, ["accepted -> rejected", "there is no minion `nobody`", revoked]);
    let events = fixture.store.events(3, 10).await.unwrap();
    assert_eq!(events.len(), 1, "one that stays as it is makes no event");
    assert_eq!(
        (events[0].tag.as_str(), &events[0].data["reason"]),
        ("drover/key/a/rejected", &json!("stolen"))
    );
    let accepted = fixture.registry.change(&ids[..1], Verb::Accept, None, NOW).await.remove(0).1;
    assert_eq!(accepted.unwrap().entry.reason, None, "the reason goes with what it was for");
}

#[tokio::test]
async fn the_reason_of_a_revocation_is_kept_and_may_be_given_later() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let device = factory.device("a");
    fixture.admit(&device).unwrap();
    fixture.tags(1).await;
    let ids = std::slice::from_ref(&device.id);
    for (reason, kept) in
        [(None, None), (Some("lost at sea"), Some("lost at sea")), (None, Some("lost at sea"))]
    {
        let changed = fixture.registry.change(ids, Verb::Revoke, reason, NOW).await.remove(0).1;
        assert_eq!(changed.unwrap().entry.reason.as_deref(), kept);
    }
    assert_eq!(fixture.tags(2).await, ["drover/key/a/accepted", "drover/key/a/revoked"]);
    assert_eq!(fixture.stored().await[0].reason.as_deref(), Some("lost at sea"));
}

#[tokio::test]
async fn a_stolen_station_registers_nobody_and_keeps_those_that_it_had() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let (old, waiting, new) =
        (factory.device("old"), factory.device("waiting"), factory.device("new"));
    fixture.import(&factory.manifest(1, &[&old])).await;
    fixture.admit(&waiting).unwrap();
    fixture.tags(2).await;
    let station = "line-1".parse().unwrap();
    let revoked =
        fixture.registry.revoke_station(&station, false, Some("laptop stolen"), NOW).await;
    assert_eq!(revoked.unwrap().kept.len(), 2, "an accepted stranger is registered too");
    assert_eq!(fixture.admit(&old), Ok(()));
    assert!(fixture.admit(&new).unwrap_err().contains("its station is revoked"));
    let refused =
        fixture.registry.import(&factory.manifest(2, &[&new]), &Only::default(), false, NOW).await;
    assert!(refused.unwrap_err().to_string().contains("station `line-1` is revoked since"));
    assert_eq!(fixture.tags(3).await[2], "drover/station/line-1/revoked");

    let devices = fixture.registry.revoke_station(&station, true, None, NOW).await.unwrap();
    assert_eq!(devices.revoked.len(), 2);
    assert!(fixture.admit(&old).unwrap_err().contains("revoked"));
    let known = fixture.registry.known_stations().unwrap();
    assert_eq!(known[&station].manifest, 1);
    assert_eq!(known[&station].devices[&Status::Revoked], 2);
}

#[tokio::test]
async fn a_station_is_revoked_over_a_restart() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let station = "line-1".parse().unwrap();
    fixture.registry.revoke_station(&station, false, None, NOW).await.unwrap();
    let (again, _task) = Registry::open(fixture.store.clone(), Acceptance::Auto).unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    assert!(again.admit(&factory.device("a"), address).is_err());
}

#[tokio::test]
async fn a_device_whose_day_has_come_may_connect_for_its_last_act_and_is_issued_nothing() {
    let (factory, fixture) = (Factory::new("line-1"), fixture(Acceptance::Auto));
    let device = factory.device("a");
    fixture.registry.set_issuing(true);
    fixture.admit(&device).unwrap();
    fixture.tags(1).await;
    let after = |seconds| NOW + Duration::from_secs(seconds);
    let last_act = Some(LastAct { fun: "cmd.run".into(), arg: vec![], kwarg: Map::new() });
    let retirement = Retirement { at: after(10), last_act, grace: 100, jid: None };
    let ids = std::slice::from_ref(&device.id);
    let ordered = fixture.registry.retire(ids, Some(&retirement), NOW).await.remove(0).1;
    assert_eq!(ordered.unwrap().entry.retire.unwrap().ends(), after(110));
    assert_eq!(fixture.registry.scope(&device, after(9)), Some(Scope::Renewal));
    assert_eq!(fixture.registry.scope(&device, after(10)), Some(Scope::Full));
    let (window, shown) = (Duration::from_secs(1), ShownCertificate::of(&device));
    let permit = |at| fixture.registry.permit(&device.id, shown, window, at);
    assert!(permit(after(9)).is_ok());
    let refused = permit(after(10)).unwrap_err();
    assert!(refused.to_string().contains("issued nothing any more"), "{refused}");
    assert_eq!(fixture.registry.ends(&device.id), Some(after(110)));
    let late = fixture.registry.retire(ids, None, after(11)).await.remove(0).1.unwrap_err();
    assert!(late.to_string().contains("cannot be changed or taken back"), "{late}");
    let later = Retirement { at: after(1_000), ..retirement.clone() };
    let later = fixture.registry.retire(ids, Some(&later), after(11)).await.remove(0).1;
    assert!(later.is_err(), "to put it off is to take it back");
    fixture.registry.end_service(&device.id, LastActEnd::Missed, after(110)).await.unwrap();
    assert!(fixture.admit(&device).unwrap_err().contains("revoked"));
    let tags =
        ["accepted", "retiring", "retired", "revoked"].map(|what| format!("drover/key/a/{what}"));
    assert_eq!(fixture.tags(4).await, tags);
}
