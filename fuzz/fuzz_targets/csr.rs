//! Whatever a device sends as its signing request, in PEM or DER: it is refused, or its key is one
//! that can be read again.
#![no_main]

use drover_pki::PublicKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = PublicKey::from_csr(data) {
        assert_eq!(PublicKey::from_spki(key.spki()), Ok(key));
    }
});
