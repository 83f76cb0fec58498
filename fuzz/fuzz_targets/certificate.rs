//! Whatever a peer shows as its chain: reading and verifying it must end, and never accept it,
//! since no fuzzer has the fleet's keys.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use drover_pki::Authority;
use drover_pki::certificate::Certificate;
use drover_pki::clock::DeviceClock;
use drover_pki::pem_text::decode_certificates;
use drover_pki::verify::{
    TrustAnchors, verify_factory_authority, verify_master, verify_minion, verify_operator,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, UnixTime};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A root, and a station's certificate under it that the fuzzer's leaf may name as its issuer.
static FLEET: LazyLock<(TrustAnchors, CertificateDer<'static>)> = LazyLock::new(|| {
    let root = Authority::create_root(&"acme".parse().expect("a name"), NOW).expect("a root");
    let station = root.create_factory_ca(&"line-1".parse().expect("a name"), NOW);
    let anchors = TrustAnchors::new(vec![root.der().clone()]).expect("anchors");
    (anchors, station.expect("a station").der().clone())
});

fuzz_target!(|data: &[u8]| {
    let (anchors, station) = &*FLEET;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let shown = CertificateDer::from(data);
    let chain = [station.clone(), shown.clone()];
    let _ = Certificate::read(data);
    let _ = decode_certificates(data);
    let _ = TrustAnchors::from_pem(data);
    let clock = DeviceClock { system: now, floor: None };
    assert!(clock.verify_master(anchors, &shown, &chain).is_err());
    assert!(verify_minion(anchors, &shown, &chain, now).is_err());
    assert!(verify_master(anchors, &shown, &chain, now).is_err());
    assert!(verify_operator(anchors, &shown, &chain, now).is_err());
    if shown != *station {
        assert!(verify_factory_authority(anchors, &shown, now).is_err());
    }
});
