//! Whatever comes as a list of roots: nobody follows it, since no fuzzer has a root's key. And whatever the root itself
//! signs is refused, or is a list by which a device has roots still, one of which signed it.
#![no_main]

use std::sync::LazyLock;

use drover_pki::Authority;
use drover_pki::certificate::Certificate;
use drover_pki::root_list::{RootList, SignedRootList};
use drover_pki::verify::TrustAnchors;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// A root and who trusts it.
static FLEET: LazyLock<(Authority, TrustAnchors)> = LazyLock::new(|| {
    let now = Timestamp::constant(1_800_000_000, 0);
    let root = Authority::create_root(&"acme".parse().expect("a name"), now).expect("a root");
    let anchors = TrustAnchors::new(vec![root.der().clone()]).expect("anchors");
    (root, anchors)
});

fuzz_target!(|data: &[u8]| {
    let (root, anchors) = &*FLEET;
    if let Ok(signed) = SignedRootList::read(data) {
        assert!(signed.check_follows(anchors, 0).is_err());
    }
    let Ok(mut list) = serde_json::from_slice::<RootList>(data) else { return };
    list.roots.insert(0, root.der().clone());
    if let Ok(signed) = list.sign(&[root]) {
        assert_eq!(signed.list, list);
        assert!(list.fleet.as_str() == "acme" && list.number > 0 && list.roots.len() <= 8);
        assert!(signed.check_follows(anchors, 0).is_ok());
        assert!(signed.check_follows(anchors, list.number).is_err());
        let anchors = list.anchors().expect("whoever follows it has roots");
        for known in anchors.certificates() {
            assert!(Certificate::read(known).expect("a root can be read").is_ca);
        }
    }
});
