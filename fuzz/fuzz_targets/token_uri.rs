//! Whatever is given as the URI of a key in a token: it is refused without a control character and without a PIN, or
//! reads again as it was written.
#![no_main]

use drover_pki::token::TokenUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match text.parse::<TokenUri>() {
    Ok(uri) => {
        assert!(TokenUri::claims(text) && !text.contains("pin-value"));
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
    Err(error) => {
        let error = error.to_string();
        assert!(!error.contains(char::is_control) && error.len() < 1024, "{error}");
    }
});
