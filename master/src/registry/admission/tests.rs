use std::time::Duration;

use drover_pki::{Fingerprint, KeyDigest, profile::BACKDATE, verify::Issuer};
use rustls_pki_types::UnixTime;

use super::{super::certificates::ShownCertificate, *};

const START: u64 = 1_800_000_000;
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const ISSUING: Rules =
    Rules { policy: Acceptance::Registered, issues: true, is_station_revoked: false };

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A certificate of `rfid-1`, issued so many seconds after the start.
fn certificate(kind: MinionCertificateKind, after: u64) -> MinionCertificate {
    MinionCertificate {
        id: "rfid-1".parse().unwrap(),
        kind,
        fingerprint: Fingerprint::of(&after.to_be_bytes()),
        key: KeyDigest::of(b"birth"),
        serial: "0a".parse().unwrap(),
        hardware_serial: Some("SN 1".parse().unwrap()),
        not_before: unix(START + after - BACKDATE.as_secs()),
        not_after: unix(START + after + 3_600),
    }
}

fn issuer() -> Issuer {
    Issuer { key: KeyDigest::of(b"authority"), issued: unix(START) }
}

fn birth() -> MinionCertificate {
    let station = "line-1".parse().unwrap();
    certificate(MinionCertificateKind::IDevId { station, issuer: issuer() }, 0)
}

fn operational(after: u64) -> MinionCertificate {
    let fleet = "acme".parse().unwrap();
    certificate(MinionCertificateKind::LDevId { fleet, issuer: issuer() }, after)
}

fn issued(after: u64) -> IssuedCertificate {
    IssuedCertificate { seen: false, ..IssuedCertificate::shown(&operational(after)) }
}

fn accepted() -> Entry {
    let birth = Birth {
        key: KeyDigest::of(b"birth"),
        station: "line-1".parse().unwrap(),
        serial: Some("SN 1".parse().unwrap()),
        certificate: None,
    };
    Entry::new("rfid-1".parse().unwrap(), Status::Accepted, NOW, Some(birth))
}

fn says(entry: &Entry, shown: &MinionCertificate) -> Decision {
    decide(ISSUING, Some(entry), shown, NOW)
}

#[test]
fn a_birth_certificate_is_for_renewal_where_the_master_issues() {
    let entry = accepted();
    assert_eq!(says(&entry, &birth()), Decision::Admit(Scope::Renewal));
    let rules = Rules { issues: false, ..ISSUING };
    assert_eq!(decide(rules, Some(&entry), &birth(), NOW), Decision::Admit(Scope::Full));
}

#[test]
fn an_operational_certificate_is_for_everything_until_a_newer_one_is_used() {
    let mut entry = accepted();
    let _ = entry.add_certificate(issued(1), NOW);
    assert_eq!(says(&entry, &operational(1)), Decision::Admit(Scope::Full));
    assert!(entry.use_certificate(IssuedCertificate::shown(&operational(1)), NOW).is_some());
    assert_eq!(entry.use_certificate(IssuedCertificate::shown(&operational(1)), NOW), None);
    let _ = entry.add_certificate(issued(20), NOW);
    assert_eq!(says(&entry, &operational(1)), Decision::Admit(Scope::Full));
    entry.use_certificate(IssuedCertificate::shown(&operational(20)), NOW);
    assert_eq!(says(&entry, &operational(1)), Decision::Refuse(Reason::Superseded));
    assert_eq!(says(&entry, &birth()), Decision::Admit(Scope::Renewal), "whatever it lost");
}

#[test]
fn a_restored_store_takes_what_is_newer_than_it_knows() {
    let mut entry = accepted();
    assert_eq!(says(&entry, &operational(5)), Decision::Admit(Scope::Full));
    assert!(entry.use_certificate(IssuedCertificate::shown(&operational(5)), NOW).is_some());
    assert_eq!(says(&entry, &operational(4)), Decision::Refuse(Reason::Superseded));
    assert_eq!(says(&entry, &operational(6)), Decision::Admit(Scope::Full));
}

#[test]
fn no_certificate_counts_of_who_is_revoked_or_rejected_or_waits() {
    for (status, reason) in [
        (Status::Revoked, Reason::Revoked),
        (Status::Rejected, Reason::Rejected),
        (Status::Pending, Reason::Pending),
    ] {
        let mut entry = Entry { status, ..accepted() };
        let _ = entry.add_certificate(issued(1), NOW);
        for shown in [birth(), operational(1), operational(9)] {
            assert_eq!(says(&entry, &shown), Decision::Refuse(reason));
        }
        assert!(entry.may_be_issued(ShownCertificate::of(&birth()), Duration::ZERO, NOW).is_err());
    }
}

#[test]
fn the_certificate_of_the_device_before_does_not_count() {
    let mut entry = accepted();
    let _ = entry.add_certificate(issued(1), NOW);
    let deleted_at = NOW + Duration::from_secs(10);
    entry.renounce_operational(deleted_at);
    assert_eq!(says(&entry, &operational(1)), Decision::Refuse(Reason::Outdated));
    assert_eq!(says(&entry, &operational(9)), Decision::Refuse(Reason::Outdated));
    let _ = entry.add_certificate(issued(10), deleted_at);
    assert_eq!(
        says(&entry, &operational(10)),
        Decision::Admit(Scope::Full),
        "known, though of the same second"
    );
    let deleted = Entry { status: Status::Deleted, ..entry.clone() };
    let auto = Rules { policy: Acceptance::Auto, ..ISSUING };
    assert_eq!(
        decide(auto, Some(&deleted), &operational(1), NOW),
        Decision::Refuse(Reason::Outdated)
    );
    let Decision::AdmitNew(again, Scope::Renewal) = decide(auto, Some(&deleted), &birth(), NOW)
    else {
        panic!("a device that comes back with its birth certificate is a stranger");
    };
    assert_eq!(again.operational_after, Some(deleted_at));
}

#[test]
fn what_was_issued_while_the_clock_ran_ahead_goes_with_the_device_too() {
    let mut entry = accepted();
    let _ = entry.add_certificate(issued(1_000), NOW + Duration::from_secs(1_000));
    entry.renounce_operational(NOW);
    assert_eq!(says(&entry, &operational(1_000)), Decision::Refuse(Reason::Outdated));
    assert_eq!(says(&entry, &operational(1_001)), Decision::Admit(Scope::Full));
}

#[test]
fn only_the_device_that_is_registered_is_issued_a_certificate() {
    let mut entry = accepted();
    let _ = entry.add_certificate(issued(1), NOW);
    let _ = entry.add_certificate(issued(2), NOW);
    let may = |shown: &MinionCertificate, entry: &Entry| {
        entry.may_be_issued(ShownCertificate::of(shown), Duration::ZERO, NOW).is_ok()
    };
    assert!(may(&birth(), &entry) && may(&operational(1), &entry));
    entry.use_certificate(IssuedCertificate::shown(&operational(2)), NOW);
    assert!(!may(&operational(1), &entry), "it has a newer one in use");
    entry.renounce_operational(NOW + Duration::from_secs(10));
    assert!(!may(&operational(2), &entry), "it was enrolled anew");
    let other = MinionCertificate { key: KeyDigest::of(b"another device"), ..birth() };
    assert!(may(&birth(), &entry) && !may(&other, &entry));
}

#[test]
fn a_stranger_is_known_by_what_it_shows() {
    let Decision::RefuseNew(waiting) = decide(ISSUING, None, &operational(1), NOW) else {
        panic!("a stranger waits");
    };
    assert_eq!((waiting.status, waiting.birth, waiting.operational), (Status::Pending, None, None));
    let auto = Rules { policy: Acceptance::Auto, ..ISSUING };
    let Decision::AdmitNew(entry, Scope::Full) = decide(auto, None, &operational(1), NOW) else {
        panic!("any authentic device is accepted");
    };
    assert!(entry.operational.unwrap().current().seen);
}

#[test]
fn a_device_that_asks_on_and_on_has_to_wait() {
    let mut entry = accepted();
    let (window, shown) = (Duration::from_secs(100), ShownCertificate::of(&birth()));
    for after in 0..7 {
        let now = NOW + Duration::from_secs(after);
        assert_eq!(entry.may_be_issued(shown, window, now), Ok(()));
        let _ = entry.add_certificate(issued(after), now);
    }
    assert!(entry.may_be_issued(shown, window, NOW + Duration::from_secs(7)).is_err());
    assert_eq!(entry.may_be_issued(shown, window, NOW + Duration::from_secs(101)), Ok(()));
    assert!(
        entry.may_be_issued(shown, window, NOW + Duration::from_secs(99)).is_err(),
        "also when it is used"
    );
}
