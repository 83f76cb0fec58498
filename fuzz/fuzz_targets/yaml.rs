//! Any text read as YAML: it must end, within its limits, in a value or an error with a line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = drover_states::yaml::load(text) {
        assert!(error.line.is_some());
        let _ = error.to_string();
    }
});
