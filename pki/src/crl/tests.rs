use super::*;
use crate::profile::{Profile, Role};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn fleet_ca() -> Authority {
    let fleet = "acme".parse().unwrap();
    let root = Authority::create_root(&fleet, NOW).unwrap();
    root.create_fleet_ca(&fleet, NOW).unwrap()
}

fn revoked(serial: &str, reason: RevocationReason) -> Revoked {
    Revoked { serial: serial.parse().unwrap(), at: NOW, reason }
}

fn contents(revoked: Vec<Revoked>) -> Revocations {
    let next_update = NOW + Duration::from_secs(7 * 24 * 60 * 60);
    Revocations { number: 7, this_update: NOW, next_update, revoked }
}

#[test]
fn a_list_is_read_as_it_was_signed() {
    let authority = fleet_ca();
    let all = RevocationReason::ALL.into_iter().enumerate();
    let contents = contents(all.map(|(n, reason)| revoked(&format!("ff0{n}"), reason)).collect());
    let list = RevocationList::sign(&authority, &contents).unwrap();
    let text = list.to_pem();
    assert!(text.starts_with("-----BEGIN X509 CRL-----\n"));
    let read = RevocationList::from_pem(text.as_bytes()).unwrap();
    assert_eq!(read, list);
    assert_eq!(read.contents(), &contents);
    assert_eq!(read.issuer(), authority.certificate().subject);
    read.verify(authority.der()).unwrap();
    let superseded = contents.find(&"ff04".parse().unwrap()).unwrap();
    assert_eq!(superseded.reason, RevocationReason::Superseded);
    assert_eq!(contents.find(&"ff".parse().unwrap()), None);
}

#[test]
fn a_list_may_be_empty() {
    let authority = fleet_ca();
    let list = RevocationList::sign(&authority, &contents(Vec::new())).unwrap();
    list.verify(authority.der()).unwrap();
    assert!(list.contents().revoked.is_empty());
}

#[test]
fn a_serial_number_stands_in_a_list_once() {
    let twice = vec![
        revoked("01", RevocationReason::KeyCompromise),
        revoked("01", RevocationReason::Superseded),
    ];
    let list = RevocationList::sign(&fleet_ca(), &contents(twice.clone())).unwrap();
    assert_eq!(list.contents().revoked, twice[..1]);
}

#[test]
fn times_are_cut_to_seconds_and_go_beyond_2049() {
    let late = Timestamp::new(4_000_000_000, 999_999_999).unwrap();
    let given = Revocations {
        number: u64::MAX,
        this_update: late,
        next_update: late + Duration::from_secs(1),
        revoked: vec![Revoked { at: late, ..revoked("01", RevocationReason::Unspecified) }],
    };
    let list = RevocationList::sign(&fleet_ca(), &given).unwrap();
    let read = list.contents();
    let seconds =
        [read.this_update, read.next_update, read.revoked[0].at].map(Timestamp::as_second);
    assert_eq!(seconds, [4_000_000_000, 4_000_000_001, 4_000_000_000]);
    assert_eq!((read.number, read.this_update.subsec_nanosecond()), (u64::MAX, 0));
}

#[test]
fn a_list_without_a_future_is_not_made() {
    let ended = Revocations { next_update: NOW, ..contents(Vec::new()) };
    let error = RevocationList::sign(&fleet_ca(), &ended).unwrap_err();
    assert!(matches!(error, CrlError::Sign(_)), "{error:?}");
}

#[test]
fn another_authoritys_list_is_refused() {
    let fleet = "acme".parse().unwrap();
    let root = Authority::create_root(&fleet, NOW).unwrap();
    let station = root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    let list = RevocationList::sign(&station, &contents(Vec::new())).unwrap();
    let error = list.verify(root.der()).unwrap_err();
    assert!(matches!(error, CrlError::OtherIssuer { .. }), "{error}");
    // The same name, another key.
    let twin = root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    let error = list.verify(twin.der()).unwrap_err();
    assert!(matches!(error, CrlError::Forged { .. }), "{error}");
}

#[test]
fn a_changed_list_is_refused() {
    let authority = fleet_ca();
    let list = RevocationList::sign(&authority, &contents(Vec::new())).unwrap();
    let mut der = list.der().to_vec();
    // The last bytes are the signature's `s`.
    *der.last_mut().unwrap() ^= 1;
    let error = RevocationList::from_der(&der).unwrap().verify(authority.der()).unwrap_err();
    assert!(matches!(error, CrlError::Forged { .. }), "{error}");
    der.push(0);
    assert!(matches!(RevocationList::from_der(&der), Err(CrlError::Unreadable(_))));
}

#[test]
fn a_leaf_of_the_authoritys_name_and_key_signs_no_list() {
    let authority = fleet_ca();
    let profile = Profile { role: Role::Leaf, ..Profile::fleet_ca(&"acme".parse().unwrap()) };
    let leaf = authority.issue(&profile, authority.key(), NOW).unwrap();
    let list = RevocationList::sign(&authority, &contents(Vec::new())).unwrap();
    let error = list.verify(&leaf).unwrap_err();
    assert!(matches!(error, CrlError::NoSigner { .. }), "{error}");
}

#[test]
fn a_list_of_a_part_is_refused() {
    let authority = fleet_ca();
    let issuer = Issuer::from_ca_cert_der(authority.der(), authority.key()).unwrap();
    let part = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2027, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 2),
        crl_number: 1.into(),
        issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://a/".to_owned()] },
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        }),
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let part = part.signed_by(&issuer).unwrap();
    let error = RevocationList::from_der(part.der()).unwrap_err();
    assert!(matches!(error, CrlError::Profile(_)), "{error}");
}

#[test]
fn what_is_no_list_is_refused() {
    for bytes in [&b""[..], b"0", b"0\x80", &[0x30; 100]] {
        assert!(matches!(RevocationList::from_der(bytes), Err(CrlError::Unreadable(_))));
        assert!(matches!(RevocationList::from_pem(bytes), Err(CrlError::Pem)));
    }
}

#[test]
fn reasons_are_named_as_in_the_rfc() {
    for reason in RevocationReason::ALL {
        assert_eq!(reason.to_string().parse(), Ok(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    assert!("certificateHold".parse::<RevocationReason>().is_err());
    assert_eq!(RevocationReason::from_words("Key compromise"), RevocationReason::KeyCompromise);
    assert_eq!(RevocationReason::from_words("fell overboard"), RevocationReason::Unspecified);
}
