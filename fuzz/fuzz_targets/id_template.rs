//! Whatever is set as a template for ids, and as a place for bundles: ids are ids and have the serial
//! number in them, and no serial number leads out of the directory.
#![no_main]

use std::path::Component;

use drover_pki::assembly::{IdTemplate, OutPath};
use drover_pki::{HardwareSerial, MinionId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str, &str)| {
    let (template, out, serial) = texts;
    let Ok(serial) = serial.parse::<HardwareSerial>() else { return };
    if let Ok(template) = template.parse::<IdTemplate>() {
        assert_eq!(template.to_string().parse(), Ok(template.clone()));
        if let Ok(id) = template.id(&serial) {
            assert!(id.as_str().contains(serial.as_str()));
        }
    }
    // Below a directory of ours, which is all that a template of somebody else's must not leave.
    if let Ok(out) = format!("base/{{serial}}{out}").parse::<OutPath>() {
        let id: MinionId = "a".parse().expect("an id");
        let path = out.of(&id, &serial);
        let second = path.components().nth(1);
        assert!(matches!(second, Some(Component::Normal(_))), "{}", path.display());
    }
});
