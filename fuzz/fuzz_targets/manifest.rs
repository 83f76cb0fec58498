//! Whatever is imported as a manifest: it is refused, since no fuzzer has a station's key. And whatever a station signs
//! is refused, or is its own manifest, with its own revocation list.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use drover_pki::Authority;
use drover_pki::crl::{RevocationList, Revocations};
use drover_pki::manifest::Manifest;
use drover_pki::verify::TrustAnchors;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::UnixTime;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct Station {
    anchors: TrustAnchors,
    authority: Authority,
    crl: String,
}

static STATION: LazyLock<Station> = LazyLock::new(|| {
    let root = Authority::create_root(&"acme".parse().expect("a name"), NOW).expect("a root");
    let authority = root.create_factory_ca(&"line-1".parse().expect("a name"), NOW);
    let authority = authority.expect("a station");
    let next_update = NOW + Duration::from_secs(86_400);
    let none = Revocations { number: 1, this_update: NOW, next_update, revoked: Vec::new() };
    let crl = RevocationList::sign(&authority, &none).expect("a list").to_pem();
    let anchors = TrustAnchors::new(vec![root.der().clone()]).expect("anchors");
    Station { anchors, authority, crl }
});

fuzz_target!(|data: &[u8]| {
    let station = &*STATION;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let _ = Manifest::read_unverified(data);
    assert!(Manifest::verify(data, &station.anchors, now).is_err());

    let Ok(mut manifest) = serde_json::from_slice::<Manifest>(data) else { return };
    let text = manifest.sign(&station.authority).expect("a manifest has a JSON form");
    assert_eq!(Manifest::read_unverified(text.as_bytes()).expect("it was written"), manifest);
    assert!(
        Manifest::verify(text.as_bytes(), &station.anchors, now).is_err(),
        "no list of its own"
    );
    manifest.crl.clone_from(&station.crl);
    let text = manifest.sign(&station.authority).expect("a manifest has a JSON form");
    match Manifest::verify(text.as_bytes(), &station.anchors, now) {
        Ok(verified) => assert_eq!(verified.manifest, manifest),
        Err(_) => assert_ne!(manifest.station.as_str(), "line-1"),
    }
});
