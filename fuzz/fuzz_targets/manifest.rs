//! Whatever is imported as a manifest: it is refused, since no fuzzer has a station's key.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use drover_pki::Authority;
use drover_pki::manifest::Manifest;
use drover_pki::verify::TrustAnchors;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::UnixTime;

static ANCHORS: LazyLock<TrustAnchors> = LazyLock::new(|| {
    let now = Timestamp::constant(1_800_000_000, 0);
    let root = Authority::create_root(&"acme".parse().expect("a name"), now).expect("a root");
    TrustAnchors::new(vec![root.der().clone()]).expect("anchors")
});

fuzz_target!(|data: &[u8]| {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let _ = Manifest::read_unverified(data);
    assert!(Manifest::verify(data, &ANCHORS, now).is_err());
});
