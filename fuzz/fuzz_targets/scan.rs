//! Whatever a barcode scanner sends as a line: it is refused on one line of text, or what it names is
//! what was scanned.
#![no_main]

use drover_pki::assembly::Scan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match Scan::parse(data) {
    Ok(Scan::Serial(serial)) => assert_eq!(serial.as_str().as_bytes(), data.trim_ascii()),
    Ok(Scan::Nothing | Scan::Quit | Scan::Reprint) => {}
    Ok(Scan::Reissue(reason)) => assert!(!reason.as_str().contains(char::is_control)),
    Err(error) => assert!(!error.to_string().contains(char::is_control)),
});
