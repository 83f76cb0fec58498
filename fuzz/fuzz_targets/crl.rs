//! Whatever comes as a revocation list, in DER or PEM: it is refused, or reads again as it was
//! written. No fuzzer has an authority's key, so none is believed.
#![no_main]

use std::sync::LazyLock;

use drover_pki::Authority;
use drover_pki::crl::RevocationList;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

static ROOT: LazyLock<Authority> = LazyLock::new(|| {
    Authority::create_root(&"acme".parse().expect("a name"), NOW).expect("a root")
});

fuzz_target!(|data: &[u8]| {
    let read = RevocationList::from_pem(data).or_else(|_| RevocationList::from_der(data));
    if let Ok(list) = read {
        assert!(list.verify(ROOT.der()).is_err());
        let again = RevocationList::from_pem(list.to_pem().as_bytes());
        assert_eq!(again.expect("it was read before"), list);
    }
});
