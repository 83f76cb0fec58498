//! Whatever is given as a list of devices: each wrong line is one of the text's, and a good list has
//! neither a serial number nor an id twice.
#![no_main]

use std::collections::HashSet;

use drover_pki::assembly::{Settings, read_device_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let template = Some("rfid-{serial}".parse().expect("a template"));
    for settings in [Settings::default(), Settings::new(template, Vec::new(), [].into())] {
        match read_device_list(data, &settings) {
            Ok(list) => {
                let mut serials = HashSet::new();
                let mut ids = HashSet::new();
                let mut last = 0;
                for device in &list.devices {
                    assert!(serials.insert(&device.serial) && ids.insert(&device.id));
                    assert!(device.row.line > last);
                    last = device.row.line;
                }
            }
            Err(error) => {
                let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
                let lines = data.iter().filter(is_end).count() as u64 + 1;
                assert!(!error.wrong.is_empty());
                for wrong in &error.wrong {
                    assert!((1..=lines).contains(&wrong.line), "{wrong}");
                    assert!(!wrong.to_string().contains(char::is_control));
                }
            }
        }
    }
});
