//! Any text compiled as an SLS file: rendering, YAML and compiling must end, without a panic.
#![no_main]

use drover_states::files::memory::MemoryFiles;
use drover_states::{Compiler, Context};
use libfuzzer_sys::fuzz_target;
use serde_json::Map;

fuzz_target!(|text: &str| {
    let files = MemoryFiles::new(&[("a.sls", text)]);
    let compiler = Compiler::new(files, Context::new(Map::new(), Map::new()));
    match compiler.sls("base", &["a"]) {
        Ok(low) => drop(low.to_value()),
        Err(errors) => drop(errors.to_string()),
    }
});
