//! Paths through cross-certificates: those that must pass, and those that must not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::*;
use crate::key::PrivateKey;
use crate::pem_text::encode_certificates;
use crate::profile::{Profile, Role, Validity};
use crate::verify::{
    CertificateError, MinionCertificateKind, TrustAnchors, verify_factory_authority, verify_master,
    verify_minion,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const LATER: Timestamp = Timestamp::constant(1_900_000_000, 0);

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
}

/// A fleet's root, and what its successors make of it.
struct Fleet {
    roots: Vec<Authority>,
    /// Each root but the first, certified by the one before.
    bridges: Vec<CertificateDer<'static>>,
    factory_ca: Authority,
}

impl Fleet {
    fn new() -> Self {
        let root = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
        let factory_ca = root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
        Self { roots: vec![root], bridges: Vec::new(), factory_ca }
    }

    fn rotate(&mut self) {
        let old = self.roots.last().unwrap();
        let new = old.create_next_root(PrivateKey::generate().unwrap(), LATER).unwrap();
        self.bridges.push(old.certify_again(new.der(), LATER).unwrap());
        self.roots.push(new);
    }

    fn newest(&self) -> &Authority {
        self.roots.last().unwrap()
    }

    fn trusting(&self, root: usize) -> TrustAnchors {
        TrustAnchors::new(vec![self.roots[root].der().clone()]).unwrap()
    }

    fn birth_certificate(&self) -> CertificateDer<'static> {
        let key = PrivateKey::generate().unwrap();
        let (id, serial) = ("rfid-1".parse().unwrap(), "SN 1".parse().unwrap());
        self.factory_ca.issue_idevid(&id, &serial, &key, NOW).unwrap()
    }
}

fn master(authority: &Authority) -> CertificateDer<'static> {
    let key = PrivateKey::generate().unwrap();
    authority.issue_master(&"north".parse().unwrap(), &key, LATER).unwrap()
}

fn fleet_ca(root: &Authority) -> Authority {
    root.create_fleet_ca(&"acme".parse().unwrap(), LATER).unwrap()
}

/// What `openssl verify` says.
fn openssl_verifies(
    root: &Authority,
    between: &[CertificateDer<'static>],
    leaf: &CertificateDer<'static>,
    purpose: &str,
) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, certificates: &[CertificateDer<'static>]| {
        let path = directory.path().join(name);
        fs::write(&path, encode_certificates(certificates)).unwrap();
        path
    };
    let status = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", purpose])
        .args(["-attime", &LATER.as_second().to_string(), "-CAfile"])
        .arg(file("root.crt", &[root.der().clone()]))
        .arg("-untrusted")
        .arg(file("between.crt", between))
        .arg(file("leaf.crt", std::slice::from_ref(leaf)))
        .output()
        .unwrap();
    status.status.success()
}

#[test]
fn a_device_that_slept_through_rotations_takes_the_master_for_its_own() {
    let mut fleet = Fleet::new();
    // webpki follows six authorities; a rotation every second year makes five in a device's life.
    for _ in 0..5 {
        fleet.rotate();
    }
    let fleet_ca = fleet_ca(fleet.newest());
    let leaf = master(&fleet_ca);
    let mut shown = vec![fleet_ca.der().clone()];
    shown.extend(fleet.bridges.iter().cloned());
    for (known, root) in fleet.roots.iter().enumerate() {
        let verified = verify_master(&fleet.trusting(known), &leaf, &shown, unix(LATER)).unwrap();
        assert_eq!(verified.name.as_str(), "north");
        assert!(openssl_verifies(root, &shown, &leaf, "sslserver"), "root {known}");
    }
    // Without the bridge, or with another fleet's, there is no way across.
    let refused = |shown: &[CertificateDer<'static>]| {
        verify_master(&fleet.trusting(0), &leaf, shown, unix(LATER)).unwrap_err()
    };
    assert_eq!(refused(&shown[..1]), CertificateError::UnknownIssuer);
    let mut other = Fleet::new();
    other.rotate();
    let foreign = [shown[0].clone(), other.bridges[0].clone()];
    assert_eq!(refused(&foreign), CertificateError::UnknownIssuer);
}

#[test]
fn birth_certificates_outlive_the_root_that_certified_their_station() {
    let mut fleet = Fleet::new();
    fleet.rotate();
    let leaf = fleet.birth_certificate();
    let shown = [fleet.factory_ca.der().clone()];
    let new_alone = fleet.trusting(1);
    let verify = |anchors: &TrustAnchors| verify_minion(anchors, &leaf, &shown, unix(LATER));
    assert_eq!(verify(&new_alone).unwrap_err(), CertificateError::UnknownIssuer);

    let again = fleet.newest().certify_again(fleet.factory_ca.der(), LATER).unwrap();
    let anchors = new_alone.with_authorities(vec![again.clone()]);
    let (before, after) = (verify(&fleet.trusting(0)).unwrap(), verify(&anchors).unwrap());
    // Nobody can tell by which way it came: a station that was revoked stays revoked.
    assert_eq!(before, after);
    assert!(matches!(after.kind, MinionCertificateKind::IDevId { .. }));
    assert!(openssl_verifies(fleet.newest(), &[again], &leaf, "sslclient"));

    // The station's old certificate stands in its manifests, and counts as the new one.
    let station = verify_factory_authority(&anchors, fleet.factory_ca.der(), unix(LATER)).unwrap();
    assert_eq!(station.key, fleet.factory_ca.certificate().key);
}

#[test]
fn a_root_that_was_dropped_vouches_for_nobody() {
    let mut fleet = Fleet::new();
    fleet.rotate();
    // Whoever has the old root's key makes what he likes, also a bridge in the wrong direction.
    let stolen = fleet_ca(&fleet.roots[0]);
    let back = fleet.roots[0].certify_again(fleet.roots[1].der(), LATER).unwrap();
    let shown = [stolen.der().clone(), back, fleet.roots[0].der().clone()];
    let refused = verify_master(&fleet.trusting(1), &master(&stolen), &shown, unix(LATER));
    assert_eq!(refused.unwrap_err(), CertificateError::UnknownIssuer);
}

#[test]
fn a_cross_certificate_is_neither_a_peer_nor_a_peers_authority() {
    let mut fleet = Fleet::new();
    fleet.rotate();
    let old = fleet.trusting(0);
    let bridge = fleet.bridges[0].clone();
    let as_leaf = verify_minion(&old, &bridge, &[], unix(LATER)).unwrap_err();
    assert!(matches!(as_leaf, CertificateError::AuthorityAsLeaf { .. }));

    let shown = [bridge];
    let leaf = fleet.newest().issue_master(
        &"north".parse().unwrap(),
        &PrivateKey::generate().unwrap(),
        LATER,
    );
    let refused = verify_master(&old, &leaf.unwrap(), &shown, unix(LATER)).unwrap_err();
    assert!(matches!(refused, CertificateError::NoName { .. }), "{refused}");
}

#[test]
fn nothing_but_a_root_stands_between_an_authority_and_a_root() {
    let fleet = Fleet::new();
    let root = &fleet.roots[0];
    let anchors = fleet.trusting(0);
    // What the root must never issue, were it to: authorities that certify authorities.
    let named = Profile { role: Role::Root, ..Profile::fleet_ca(&"acme".parse().unwrap()) };
    let unnamed = Profile { uris: Vec::new(), ..named.clone() };
    for profile in [named, unnamed] {
        let between = root.create_authority(&profile, LATER).unwrap();
        let fleet_ca = fleet_ca(&between);
        let shown = [fleet_ca.der().clone(), between.der().clone()];
        let refused = verify_master(&anchors, &master(&fleet_ca), &shown, unix(LATER));
        assert!(matches!(refused.unwrap_err(), CertificateError::NoCross { .. }));
    }
    // And what a factory or fleet CA might try: its path length is 0.
    for authority in [&fleet.factory_ca, &fleet_ca(root)] {
        let next = Profile::next_root(&"acme".parse().unwrap(), 2);
        let rogue = authority.create_authority(&next, LATER).unwrap();
        let fleet_ca = fleet_ca(&rogue);
        let shown = [fleet_ca.der().clone(), rogue.der().clone(), authority.der().clone()];
        let refused = verify_master(&anchors, &master(&fleet_ca), &shown, unix(LATER));
        refused.unwrap_err();
    }
}

#[test]
fn an_authority_certified_again_keeps_all_but_its_issuer() {
    let mut fleet = Fleet::new();
    fleet.rotate();
    let fleet_ca = fleet_ca(&fleet.roots[0]);
    for authority in [fleet.factory_ca.certificate(), fleet_ca.certificate()] {
        let der =
            if name_of(authority) == "fleet-ca" { fleet_ca.der() } else { fleet.factory_ca.der() };
        let again = fleet.newest().certify_again(der, LATER).unwrap();
        let again = Certificate::read(&again).unwrap();
        assert_ne!(again.fingerprint, authority.fingerprint);
        assert_eq!(again.issuer, fleet.newest().certificate().subject);
        let expected = Certificate {
            issuer: again.issuer.clone(),
            serial: again.serial.clone(),
            fingerprint: again.fingerprint,
            ..authority.clone()
        };
        assert_eq!(again, expected);
    }
    let leaf = fleet.birth_certificate();
    let refused = fleet.newest().certify_again(&leaf, LATER).unwrap_err();
    assert!(matches!(refused, RotationError::NoAuthority { .. }));
    let odd =
        Profile { validity: Validity::Forever, ..Profile::next_root(&"acme".parse().unwrap(), 7) };
    let odd = Profile { purposes: Some(crate::certificate::Purposes::BOTH), ..odd };
    let odd = fleet.roots[0].create_authority(&odd, NOW).unwrap();
    let refused = fleet.newest().certify_again(odd.der(), LATER).unwrap_err();
    assert!(matches!(refused, RotationError::NoAuthority { .. }));
}

#[test]
fn authorities_are_told_apart_by_their_names() {
    let mut fleet = Fleet::new();
    fleet.rotate();
    fleet.rotate();
    let names: Vec<_> = fleet.roots.iter().map(|root| name_of(root.certificate())).collect();
    assert_eq!(names, ["root", "root-2", "root-3"]);
    assert_eq!(name_of(fleet.factory_ca.certificate()), "factory-line-1");
    let third = Profile::next_fleet_ca(&"acme".parse().unwrap(), 3);
    let third = fleet.newest().create_authority(&third, LATER).unwrap();
    assert_eq!(name_of(fleet_ca(fleet.newest()).certificate()), "fleet-ca");
    assert_eq!(name_of(third.certificate()), "fleet-ca-3");
}
