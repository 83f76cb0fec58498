//! Every chain that must not pass, beside the ones that must.

use std::time::Duration;

use insta::assert_snapshot;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::authority::Authority;
use crate::key::PrivateKey;
use crate::profile::{Profile, Role, Subject, Validity};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A fleet with one station.
struct Fleet {
    root: Authority,
    fleet_ca: Authority,
    factory_ca: Authority,
    anchors: TrustAnchors,
}

fn fleet() -> Fleet {
    let name = "acme".parse().unwrap();
    let root = Authority::create_root(&name, NOW).unwrap();
    let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
    Fleet {
        fleet_ca: root.create_fleet_ca(&name, NOW).unwrap(),
        factory_ca: root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap(),
        root,
        anchors,
    }
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
}

fn device() -> Profile {
    Profile::idevid(&"rfid-1".parse().unwrap(), &"SN 1".parse().unwrap())
}

fn issue(authority: &Authority, profile: &Profile) -> CertificateDer<'static> {
    authority.issue(profile, &PrivateKey::generate().unwrap(), NOW).unwrap()
}

/// What a gateway says of a leaf that this authority issued.
fn minion(
    fleet: &Fleet,
    authority: &Authority,
    profile: &Profile,
) -> Result<MinionCertificate, CertificateError> {
    let leaf = issue(authority, profile);
    verify_minion(&fleet.anchors, &leaf, &[authority.der().clone()], unix(NOW))
}

fn minion_refusal(fleet: &Fleet, authority: &Authority, profile: &Profile) -> CertificateError {
    minion(fleet, authority, profile).unwrap_err()
}

fn master(
    fleet: &Fleet,
    authority: &Authority,
    profile: &Profile,
) -> Result<MasterCertificate, CertificateError> {
    let leaf = issue(authority, profile);
    verify_master(&fleet.anchors, &leaf, &[authority.der().clone()], unix(NOW))
}

fn issuer(authority: &Authority) -> Issuer {
    Issuer { key: authority.key().public().digest(), issued: unix(NOW) }
}

#[test]
fn a_birth_certificate_speaks_for_its_minion() {
    let fleet = fleet();
    let key = PrivateKey::generate().unwrap();
    let leaf = fleet.factory_ca.issue(&device(), &key, NOW).unwrap();
    let chain = [fleet.factory_ca.der().clone()];
    let verified = verify_minion(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap();
    assert_eq!(verified.id.as_str(), "rfid-1");
    let station = "line-1".parse().unwrap();
    let issuer = issuer(&fleet.factory_ca);
    assert_eq!(verified.kind, MinionCertificateKind::IDevId { station, issuer });
    assert_eq!(verified.key, key.public().digest());
    assert_eq!(verified.fingerprint, Fingerprint::of(&leaf));
    assert_eq!(verified.hardware_serial, Some("SN 1".parse().unwrap()));
    assert_eq!(verified.not_after.as_secs(), crate::certificate::NO_EXPIRY);
    assert_eq!(verified.not_before.as_secs() + 300, unix(NOW).as_secs());
    assert_eq!(verified.issued(), unix(NOW));
    // It does not expire: not in seventy years either.
    let later = UnixTime::since_unix_epoch(DAY * 365 * 120);
    assert!(verify_minion(&fleet.anchors, &leaf, &chain, later).is_ok());
}

#[test]
fn an_operational_certificate_speaks_for_its_minion_for_30_days() {
    let fleet = fleet();
    let profile =
        Profile::ldevid(&"rfid-1".parse().unwrap(), None, crate::profile::LDEVID_VALIDITY);
    let verified = minion(&fleet, &fleet.fleet_ca, &profile).unwrap();
    let name = "acme".parse().unwrap();
    let issuer = issuer(&fleet.fleet_ca);
    assert_eq!(verified.kind, MinionCertificateKind::LDevId { fleet: name, issuer });
    assert_eq!(verified.issuer(), issuer);
    assert_eq!(verified.not_after.as_secs(), unix(NOW).as_secs() + 30 * DAY.as_secs());
}

#[test]
fn masters_and_operators_speak_for_themselves() {
    let fleet = fleet();
    let verified = master(&fleet, &fleet.fleet_ca, &Profile::master(&"north".parse().unwrap()));
    let verified = verified.unwrap();
    assert_eq!(verified.name.as_str(), "north");
    assert_eq!(verified.latest_not_before.as_secs() + 300, unix(NOW).as_secs());

    let leaf = issue(&fleet.fleet_ca, &Profile::operator(&"ann".parse().unwrap()));
    let chain = [fleet.fleet_ca.der().clone()];
    let operator = verify_operator(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap();
    assert_eq!(operator.name.as_str(), "ann");
    // An operator is no minion, and a minion no operator.
    assert_snapshot!(
        verify_minion(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err(),
        @"the certificate speaks for `urn:drover:operator:ann`, expected is a minion"
    );
    let leaf = issue(&fleet.factory_ca, &device());
    let chain = [fleet.factory_ca.der().clone()];
    assert_snapshot!(
        verify_operator(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err(),
        @"the certificate speaks for `urn:drover:minion:rfid-1`, expected is an operator"
    );
}

#[test]
fn another_fleets_device_is_refused() {
    let (ours, theirs) = (fleet(), fleet());
    let refusal = minion_refusal(&ours, &theirs.factory_ca, &device());
    assert_snapshot!(refusal, @"the certificate does not lead to a root that is trusted here");
    assert_eq!(refusal.fault(), Fault::Fleet);
    // Also when it shows our station's certificate, which has the same name.
    let leaf = issue(&theirs.factory_ca, &device());
    let chain = [ours.factory_ca.der().clone()];
    let refusal = verify_minion(&ours.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert_eq!(refusal, CertificateError::UnknownIssuer);
    // And when it brings its root along.
    let chain = [theirs.factory_ca.der().clone(), theirs.root.der().clone()];
    let refusal = verify_minion(&ours.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert_eq!(refusal, CertificateError::UnknownIssuer);
    // And when it shows nothing but itself.
    let refusal = verify_minion(&ours.anchors, &leaf, &[], unix(NOW)).unwrap_err();
    assert_eq!(refusal, CertificateError::UnknownIssuer);
}

#[test]
fn an_expired_and_an_early_certificate_are_refused() {
    let fleet = fleet();
    let past = Validity::Between(NOW - DAY * 3, NOW - DAY);
    let refusal =
        minion_refusal(&fleet, &fleet.factory_ca, &Profile { validity: past, ..device() });
    assert_snapshot!(refusal, @"the certificate expired at 2027-01-14T08:00:00Z, and it is 2027-01-15T08:00:00Z");
    assert_eq!(refusal.fault(), Fault::Time);
    let future = Validity::Between(NOW + DAY, NOW + DAY * 3);
    let refusal =
        minion_refusal(&fleet, &fleet.factory_ca, &Profile { validity: future, ..device() });
    assert_snapshot!(refusal, @"the certificate is not valid before 2027-01-16T08:00:00Z, and it is 2027-01-15T08:00:00Z");
}

#[test]
fn an_expired_authority_issues_nothing() {
    let fleet = fleet();
    let past = Validity::Between(NOW - DAY * 3, NOW - DAY);
    let profile = Profile { validity: past, ..Profile::fleet_ca(&"acme".parse().unwrap()) };
    let expired = fleet.root.create_authority(&profile, NOW).unwrap();
    let refusal = minion_refusal(&fleet, &expired, &device());
    assert_eq!(refusal.fault(), Fault::Time);
}

#[test]
fn a_leaf_with_the_wrong_purpose_is_refused() {
    let fleet = fleet();
    let with = |purposes| Profile { purposes, ..device() };
    for purposes in [None, Some(Purposes::SERVER), Some(Purposes::BOTH)] {
        minion_refusal(&fleet, &fleet.factory_ca, &with(purposes));
        minion_refusal(&fleet, &fleet.fleet_ca, &with(purposes));
    }
    let refusal = minion_refusal(&fleet, &fleet.fleet_ca, &with(None));
    assert_snapshot!(refusal, @"the certificate is for nothing, needed is clientAuth alone");
    // webpki sees this one itself, and its words are no operator's.
    let refusal = minion_refusal(&fleet, &fleet.fleet_ca, &with(Some(Purposes::SERVER)));
    assert_snapshot!(refusal, @"the certificate is for serverAuth, needed is clientAuth alone");
    let north = Profile::master(&"north".parse().unwrap());
    for purposes in [None, Some(Purposes::CLIENT), Some(Purposes::BOTH)] {
        master(&fleet, &fleet.fleet_ca, &Profile { purposes, ..north.clone() }).unwrap_err();
    }
}

#[test]
fn a_leaf_without_exactly_one_drover_name_is_refused() {
    let fleet = fleet();
    let with = |uris: &[&str]| Profile {
        uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
        ..device()
    };
    let refusal = |uris| minion_refusal(&fleet, &fleet.factory_ca, &with(uris));
    assert_snapshot!(refusal(&[]), @"the certificate of `CN=rfid-1, serialNumber=SN 1` has no `urn:drover:` name");
    assert_snapshot!(refusal(&["https://rfid-1"]), @"the certificate of `CN=rfid-1, serialNumber=SN 1` has no `urn:drover:` name");
    assert_snapshot!(
        refusal(&["urn:drover:minion:a", "urn:drover:minion:b"]),
        @"the certificate of `CN=rfid-1, serialNumber=SN 1` has several `urn:drover:` names"
    );
    // A name that another reader might take for ours counts.
    assert_snapshot!(
        refusal(&["urn:drover:minion:a", "URN:Drover:minion:b"]),
        @"the certificate of `CN=rfid-1, serialNumber=SN 1` has several `urn:drover:` names"
    );
    assert_snapshot!(refusal(&["urn:drover:minion:a/1"]), @"the certificate's `urn:drover:` name is not valid");
    // Names of others beside it do no harm.
    assert!(minion(&fleet, &fleet.factory_ca, &with(&["urn:drover:minion:a", "urn:x:y"])).is_ok());
}

#[test]
fn the_name_counts_and_the_subject_does_not() {
    let fleet = fleet();
    let subject = Subject { common_name: Some("rfid-2".to_owned()), ..Subject::default() };
    let verified = minion(&fleet, &fleet.factory_ca, &Profile { subject, ..device() }).unwrap();
    assert_eq!(verified.id.as_str(), "rfid-1");
}

#[test]
fn an_authority_is_no_leaf() {
    let fleet = fleet();
    for authority in [&fleet.factory_ca, &fleet.fleet_ca, &fleet.root] {
        let refusal = verify_minion(&fleet.anchors, authority.der(), &[], unix(NOW)).unwrap_err();
        assert!(matches!(refusal, CertificateError::AuthorityAsLeaf { .. }), "{refusal}");
    }
    let refusal =
        minion_refusal(&fleet, &fleet.fleet_ca, &Profile { role: Role::Authority, ..device() });
    assert!(matches!(refusal, CertificateError::AuthorityAsLeaf { .. }), "{refusal}");
    // An authority's name on a leaf does not help either.
    let uris = vec!["urn:drover:ca:fleet:acme".to_owned()];
    let refusal = minion_refusal(&fleet, &fleet.fleet_ca, &Profile { uris, ..device() });
    assert_snapshot!(refusal, @"the certificate speaks for `urn:drover:ca:fleet:acme`, expected is a minion");
}

#[test]
fn a_stolen_station_makes_no_master_and_no_operator() {
    let fleet = fleet();
    let north = Profile::master(&"north".parse().unwrap());
    let leaf = issue(&fleet.factory_ca, &north);
    // Some show the leaf twice.
    let chain = [leaf.clone(), fleet.factory_ca.der().clone()];
    let refusals = [&chain[..], &chain[1..]]
        .map(|chain| verify_master(&fleet.anchors, &leaf, chain, unix(NOW)).unwrap_err());
    assert_eq!(refusals[0], refusals[1]);
    assert_snapshot!(
        refusals[0],
        @"the authority `urn:drover:ca:factory:line-1` has clientAuth and cannot issue for serverAuth"
    );
    let leaf = issue(&fleet.factory_ca, &Profile::operator(&"ann".parse().unwrap()));
    let chain = [fleet.factory_ca.der().clone()];
    let refusal = verify_operator(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert_snapshot!(refusal, @"the authority `urn:drover:ca:factory:line-1` may not issue `urn:drover:operator:ann`");
    assert_eq!(refusal.fault(), Fault::Authority);
}

#[test]
fn an_authority_with_too_many_purposes_or_none_is_refused() {
    let fleet = fleet();
    let line = Profile::factory_ca("acme", &"line-2".parse().unwrap());
    for purposes in [None, Some(Purposes::BOTH), Some(Purposes::SERVER)] {
        let profile = Profile { purposes, ..line.clone() };
        let authority = fleet.root.create_authority(&profile, NOW).unwrap();
        minion_refusal(&fleet, &authority, &device());
        let north = Profile::master(&"north".parse().unwrap());
        master(&fleet, &authority, &north).unwrap_err();
        verify_factory_authority(&fleet.anchors, authority.der(), unix(NOW)).unwrap_err();
    }
}

#[test]
fn a_leaf_of_the_root_itself_is_refused() {
    let fleet = fleet();
    let leaf = issue(&fleet.root, &device());
    let refusal = verify_minion(&fleet.anchors, &leaf, &[], unix(NOW)).unwrap_err();
    assert_eq!(refusal, CertificateError::IssuedByRoot);
}

#[test]
fn a_device_cannot_issue_for_another() {
    let fleet = fleet();
    let key = PrivateKey::generate().unwrap();
    let device_der = fleet.factory_ca.issue(&device(), &key, NOW).unwrap();
    // Its own leaf as an authority: a self-made certificate with its subject and its key.
    let profile = Profile { role: Role::Authority, ..device() };
    let posing = Authority::new(fleet.factory_ca.issue(&profile, &key, NOW).unwrap(), key).unwrap();
    let victim = Profile::idevid(&"rfid-2".parse().unwrap(), &"SN 2".parse().unwrap());
    let leaf = issue(&posing, &victim);
    for between in [device_der, posing.der().clone()] {
        let chain = [between, fleet.factory_ca.der().clone()];
        verify_minion(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    }
}

#[test]
fn the_issuer_is_the_one_in_the_path_not_the_second_that_was_sent() {
    let fleet = fleet();
    let leaf = issue(&fleet.factory_ca, &Profile::operator(&"ann".parse().unwrap()));
    let chain = [fleet.fleet_ca.der().clone(), fleet.factory_ca.der().clone()];
    let refusal = verify_operator(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert!(matches!(refusal, CertificateError::IssuedBeyond { .. }), "{refusal}");
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let fleet = fleet();
    let leaf = issue(&fleet.factory_ca, &device());
    let chain = [fleet.factory_ca.der().clone()];
    for at in 0..leaf.len() {
        let mut bytes = leaf.to_vec();
        bytes[at] ^= 0x01;
        let changed = CertificateDer::from(bytes);
        assert!(verify_minion(&fleet.anchors, &changed, &chain, unix(NOW)).is_err(), "byte {at}");
    }
    for cut in 0..leaf.len() {
        let short = CertificateDer::from(&leaf[..cut]);
        assert!(verify_minion(&fleet.anchors, &short, &chain, unix(NOW)).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_stations_authority_is_verified_against_the_root() {
    let (ours, theirs) = (fleet(), fleet());
    let verified = verify_factory_authority(&ours.anchors, ours.factory_ca.der(), unix(NOW));
    assert_eq!(verified.unwrap().station.as_str(), "line-1");
    let refusal = |der| verify_factory_authority(&ours.anchors, der, unix(NOW)).unwrap_err();
    assert_eq!(refusal(theirs.factory_ca.der()), CertificateError::UnknownIssuer);
    assert_snapshot!(
        refusal(ours.fleet_ca.der()),
        @"the certificate speaks for `urn:drover:ca:fleet:acme`, expected is a factory CA"
    );
    let leaf = issue(&ours.factory_ca, &device());
    assert!(matches!(refusal(&leaf), CertificateError::NoAuthority { .. }));
    let mut bytes = ours.factory_ca.der().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(&CertificateDer::from(bytes)), CertificateError::UnknownIssuer);
    let early = verify_factory_authority(
        &ours.anchors,
        ours.factory_ca.der(),
        UnixTime::since_unix_epoch(DAY),
    );
    assert_eq!(early.unwrap_err().fault(), Fault::Time);
}

#[test]
fn roots_are_authorities_and_may_be_several() {
    let (old, new) = (fleet(), fleet());
    let pem =
        crate::pem_text::encode_certificates(&[old.root.der().clone(), new.root.der().clone()]);
    let anchors = TrustAnchors::from_pem(pem.as_bytes()).unwrap();
    for fleet in [&old, &new] {
        let leaf = issue(&fleet.factory_ca, &device());
        let chain = [fleet.factory_ca.der().clone()];
        assert!(verify_minion(&anchors, &leaf, &chain, unix(NOW)).is_ok());
    }
    assert_eq!(TrustAnchors::from_pem(b"").unwrap_err(), AnchorError::Empty);
    let leaf = issue(&old.factory_ca, &device());
    assert_snapshot!(
        TrustAnchors::new(vec![leaf]).unwrap_err(),
        @"holds `CN=rfid-1, serialNumber=SN 1`, which is no certificate authority"
    );
}

#[test]
fn servers_and_clients_that_are_not_drovers_are_nobody() {
    let fleet = fleet();
    let hosts = || vec!["est.example".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let name = "broker".parse().unwrap();
    let chain = [fleet.fleet_ca.der().clone()];
    for profile in [Profile::est_server(hosts(), DAY), Profile::server(&name, hosts())] {
        let leaf = issue(&fleet.fleet_ca, &profile);
        let refusal = verify_master(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
        assert!(matches!(refusal, CertificateError::NoName { .. }), "{refusal}");
    }
    let leaf = issue(&fleet.fleet_ca, &Profile::client(&name));
    let refusal = verify_minion(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert!(matches!(refusal, CertificateError::NoName { .. }), "{refusal}");
    let refusal = verify_operator(&fleet.anchors, &leaf, &chain, unix(NOW)).unwrap_err();
    assert!(matches!(refusal, CertificateError::NoName { .. }), "{refusal}");
}
