//! Whatever a client sends to EST as its request: it is refused, or its key is one that can be read
//! again. What is taken out of the body is no longer than the body.
#![no_main]

use drover_pki::PublicKey;
use drover_pki::est::decode_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = decode_request(data) {
        assert!(request.len() <= data.len());
        if let Ok(key) = PublicKey::from_csr(&request) {
            assert_eq!(PublicKey::from_spki(key.spki()), Ok(key));
        }
    }
});
