//! A program's frames become an event that the wire can carry, or are refused.
#![no_main]

use drover_proto::{codec, local_event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frames: (&[u8], &[u8])| {
    let (tag, data) = frames;
    if let Ok(event) = local_event::decode(&[tag, data]) {
        assert!(codec::is_shallow(&event.data));
        codec::encode(&event.data).expect("what was read can be written");
    }
});
