//! Whatever is taken for a list of roots: it is not followed, since no fuzzer has a root's key.
#![no_main]

use std::sync::LazyLock;

use drover_pki::Authority;
use drover_pki::root_list::SignedRootList;
use drover_pki::verify::TrustAnchors;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static ANCHORS: LazyLock<TrustAnchors> = LazyLock::new(|| {
    let now = Timestamp::constant(1_800_000_000, 0);
    let root = Authority::create_root(&"acme".parse().expect("a name"), now).expect("a root");
    TrustAnchors::new(vec![root.der().clone()]).expect("anchors")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(signed) = SignedRootList::read(data) {
        assert!(signed.check_follows(&ANCHORS, 0).is_err());
    }
});
