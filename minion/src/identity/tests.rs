use std::fs;

use drover_pki::{Authority, HardwareSerial, pem_text, profile::Profile};

use super::*;

struct Factory {
    root: Authority,
    factory: Authority,
    fleet_ca: Authority,
    pki: tempfile::TempDir,
}

type Pair = (PrivateKey, Vec<CertificateDer<'static>>);

impl Factory {
    fn new() -> Self {
        let name = "acme".parse().unwrap();
        let now = Timestamp::now();
        let root = Authority::create_root(&name, now).unwrap();
        let factory = root.create_factory_ca(&"line-1".parse().unwrap(), now).unwrap();
        let fleet_ca = root.create_fleet_ca(&name, now).unwrap();
        let pki = tempfile::tempdir().unwrap();
        let pem = pem_text::encode_certificates(&[root.der().clone()]);
        fs::write(pki.path().join("root.crt"), pem).unwrap();
        Self { root, factory, fleet_ca, pki }
    }

    fn pair(&self, authority: &Authority, profile: &Profile) -> Pair {
        let key = PrivateKey::generate().unwrap();
        let leaf = authority.issue(profile, &key, Timestamp::now()).unwrap();
        (key, vec![leaf, authority.der().clone()])
    }

    fn write(&self, name: &str, (key, chain): &Pair) {
        let pem = pem_text::encode_certificates(chain);
        fs::write(self.pki.path().join(format!("{name}.crt")), pem).unwrap();
        fs::write(self.pki.path().join(format!("{name}.key")), key.to_pem().as_bytes()).unwrap();
    }

    fn idevid(&self, id: &str) {
        let serial: HardwareSerial = "SN-1".parse().unwrap();
        let profile = Profile::idevid(&id.parse().unwrap(), &serial);
        self.write("idevid", &self.pair(&self.factory, &profile));
    }

    fn operational(&self, id: &str) -> Pair {
        let month = Duration::from_secs(30 * 86_400);
        self.pair(&self.fleet_ca, &Profile::ldevid(&id.parse().unwrap(), None, month))
    }

    fn ldevid(&self, id: &str) {
        self.write("ldevid", &self.operational(id));
    }

    fn load(&self) -> Result<DeviceIdentity, LoadIdentityError> {
        DeviceIdentity::load(self.pki.path())
    }

    /// What is shown first, and what after a refusal.
    fn shown(&self) -> [Kind; 2] {
        let mut identity = self.load().unwrap();
        let first = identity.shows();
        identity.show_other();
        [first, identity.shows()]
    }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        u64::try_from(Timestamp::now().as_second()).unwrap(),
    ))
}

#[test]
fn a_device_that_was_never_enrolled_says_what_to_do() {
    let why = Factory::new().load().err().unwrap().to_string();
    assert!(why.contains("enrol the device with `drover-enrol issue`"), "{why}");
}

#[test]
fn the_operational_certificate_is_shown_first_and_the_birth_certificate_is_the_way_back() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let identity = factory.load().unwrap();
    assert_eq!((identity.id.as_str(), identity.serial.as_deref()), ("rfid-1", Some("SN-1")));
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth]);
    factory.ldevid("rfid-1");
    assert_eq!(factory.shown(), [Kind::Operational, Kind::Birth]);
    let mut identity = factory.load().unwrap();
    for shown in [Kind::Operational, Kind::Birth, Kind::Operational, Kind::Birth] {
        assert_eq!(identity.shows(), shown, "they take turns");
        identity.show_other();
    }
}

#[test]
fn a_device_that_was_provisioned_with_an_operational_certificate_alone_is_one() {
    let factory = Factory::new();
    factory.ldevid("rfid-1");
    let identity = factory.load().unwrap();
    assert_eq!((identity.id.as_str(), identity.shows()), ("rfid-1", Kind::Operational));
    assert!(identity.term().is_some());
    assert_eq!(factory.shown(), [Kind::Operational, Kind::Operational]);
}

#[test]
fn one_certificate_that_cannot_be_used_does_not_take_the_device_away() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    factory.ldevid("rfid-1");
    fs::write(factory.pki.path().join("ldevid.key"), "").unwrap();
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth]);
    fs::write(factory.pki.path().join("ldevid.crt"), "").unwrap();
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth]);
    factory.ldevid("rfid-1");
    fs::write(factory.pki.path().join("idevid.key"), "").unwrap();
    assert_eq!(factory.shown(), [Kind::Operational, Kind::Operational]);
    fs::write(factory.pki.path().join("ldevid.crt"), "").unwrap();
    assert!(matches!(factory.load(), Err(LoadIdentityError::Certificate { .. })));
}

/// What bits that rot, a wrong tool or a hurried hand make of a file.
const ROT: [fn(&std::path::Path); 6] = [
    |path| fs::write(path, "").unwrap(),
    |path| fs::write(path, [0; 512]).unwrap(),
    |path| fs::write(path, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap(),
    |path| fs::remove_file(path).unwrap(),
    |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    },
    |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(path, path).unwrap();
    },
];

#[test]
fn whatever_becomes_of_one_file_the_device_is_itself_and_keeps_its_birth_key() {
    let pairs = ["ldevid.crt", "ldevid.key", "idevid.crt", "idevid.key"];
    for name in pairs {
        for (number, rot) in ROT.iter().enumerate() {
            let factory = Factory::new();
            factory.idevid("rfid-1");
            factory.ldevid("rfid-1");
            let birth_key = fs::read(factory.pki.path().join("idevid.key")).unwrap();
            rot(&factory.pki.path().join(name));
            let mut identity =
                factory.load().unwrap_or_else(|why| panic!("{name} {number}: {why}"));
            let left = if name.starts_with("ldevid") { Kind::Birth } else { Kind::Operational };
            assert_eq!(
                (identity.id.as_str(), identity.shows()),
                ("rfid-1", left),
                "{name} {number}"
            );
            // It gets another, whether the disk takes it or not.
            let (key, chain) = factory.operational("rfid-1");
            identity.renew(&key, chain, now(), true).unwrap();
            assert_eq!(factory.load().unwrap().id.as_str(), "rfid-1", "{name} {number}");
            let now = fs::read(factory.pki.path().join("idevid.key"));
            assert!(name == "idevid.key" || now.unwrap() == birth_key, "{name} {number}");
        }
    }
}

#[test]
fn a_list_of_roots_that_rotted_leaves_the_roots_that_were_born_with() {
    for rot in ROT {
        let factory = Factory::new();
        factory.idevid("rfid-1");
        let list = factory.pki.path().join("root-list.json");
        fs::write(&list, "").unwrap();
        rot(&list);
        assert_eq!(factory.load().unwrap().roots.told().root_list, 0);
    }
}

#[test]
fn a_chain_that_could_not_be_shown_is_not_taken() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let (key, mut chain) = factory.operational("rfid-1");
    chain.extend(vec![factory.fleet_ca.der().clone(); 40]);
    let mut identity = factory.load().unwrap();
    let why = identity.renew(&key, chain, now(), true).unwrap_err();
    assert!(matches!(why, RenewError::TooLarge(_)), "{why}");
}

#[test]
fn a_certificate_that_comes_too_soon_to_be_stored_is_shown_all_the_same() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let mut identity = factory.load().unwrap();
    let (key, chain) = factory.operational("rfid-1");
    let renewed = identity.renew(&key, chain, now(), false).unwrap();
    assert!(matches!(renewed.stored, Err(NotStored::TooOften)));
    assert_eq!(identity.shows(), Kind::Operational);
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth], "nothing was written");
}

#[test]
fn the_birth_certificate_says_who_the_device_is() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    factory.ldevid("rfid-2");
    let identity = factory.load().unwrap();
    assert_eq!((identity.id.as_str(), identity.shows()), ("rfid-1", Kind::Birth));
    fs::remove_file(factory.pki.path().join("ldevid.crt")).unwrap();
    let master = Profile::master(&"north".parse().unwrap());
    factory.write("idevid", &factory.pair(&factory.fleet_ca, &master));
    let why = factory.load().err().unwrap();
    assert!(error_chain(&why).ends_with("it names no minion"), "{}", error_chain(&why));
}

#[test]
fn a_renewed_certificate_is_shown_at_once_and_after_a_restart() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let mut identity = factory.load().unwrap();
    for _ in 0..3 {
        let (key, chain) = factory.operational("rfid-1");
        let renewed = identity.renew(&key, chain, now(), true).unwrap();
        renewed.stored.unwrap();
        assert_eq!(identity.shows(), Kind::Operational);
        assert_eq!(identity.term(), Some(renewed.term));
        let life = renewed.term.issued.duration_until(renewed.term.expires);
        assert_eq!(life.as_secs(), 30 * 86_400, "backdating does not count");
        assert_eq!(factory.load().unwrap().term(), Some(renewed.term));
    }
    let left: Vec<_> = fs::read_dir(factory.pki.path()).unwrap().collect();
    assert_eq!(left.len(), 5, "{left:?}");
}

#[test]
fn what_the_master_sends_is_verified_before_it_is_taken() {
    let (factory, strangers) = (Factory::new(), Factory::new());
    factory.idevid("rfid-1");
    let mut identity = factory.load().unwrap();
    let mut refused = |pair: Pair| identity.renew(&pair.0, pair.1, now(), true).unwrap_err();
    assert!(matches!(refused(strangers.operational("rfid-1")), RenewError::Certificate(_)));
    assert!(matches!(refused(factory.operational("rfid-2")), RenewError::OtherMinion(_)));
    let (_, chain) = factory.operational("rfid-1");
    let key = PrivateKey::generate().unwrap();
    assert!(matches!(refused((key, chain)), RenewError::OtherKey));
    let serial: HardwareSerial = "SN-1".parse().unwrap();
    let birth = Profile::idevid(&"rfid-1".parse().unwrap(), &serial);
    let birth = factory.pair(&factory.factory, &birth);
    assert!(matches!(refused(birth), RenewError::NotOperational));
    let master = Profile::master(&"north".parse().unwrap());
    let master = factory.pair(&factory.fleet_ca, &master);
    assert!(matches!(refused(master), RenewError::Certificate(_)));
    assert!(matches!(refused((PrivateKey::generate().unwrap(), Vec::new())), RenewError::Empty));
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth], "nothing was written");
}

#[test]
fn an_identity_that_the_disk_does_not_take_holds_in_memory() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let mut identity = factory.load().unwrap();
    // A directory in the way stops root too.
    let in_the_way = factory.pki.path().join("ldevid.next.key");
    fs::create_dir(&in_the_way).unwrap();
    let (key, chain) = factory.operational("rfid-1");
    let renewed = identity.renew(&key, chain, now(), true).unwrap();
    renewed.stored.unwrap_err();
    assert_eq!(identity.shows(), Kind::Operational);
    assert_eq!(factory.shown(), [Kind::Birth, Kind::Birth], "after a restart it has what it had");
    fs::remove_dir(&in_the_way).unwrap();
    let (key, chain) = factory.operational("rfid-1");
    identity.renew(&key, chain, now(), true).unwrap().stored.unwrap();
    assert_eq!(factory.shown(), [Kind::Operational, Kind::Birth]);
}

#[test]
fn the_roots_that_are_trusted_are_told_by_their_fingerprints() {
    let factory = Factory::new();
    factory.idevid("rfid-1");
    let roots = factory.load().unwrap().roots.told();
    assert_eq!(
        roots,
        drover_proto::message::Roots {
            root_list: 0,
            roots: vec![drover_pki::Fingerprint::of(factory.root.der())]
        }
    );
}
