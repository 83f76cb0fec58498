//! Any text is an expression or an error that points into it; matching ends.
#![no_main]

use drover_proto::{
    job::TargetType,
    target::{Expression, Subject},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

struct Minion(Map<String, Value>);

impl Subject for Minion {
    fn id(&self) -> &str {
        "rfid-1"
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.0
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        Some(&self.0)
    }
}

fuzz_target!(|text: &str| {
    let data =
        json!({ "a": { "a": [{ "a": 1 }, "b"], "*": null }, "ipv4": ["10.0.0.1"], "ipv6": "::1" });
    let minion = Minion(data.as_object().cloned().unwrap_or_default());
    for kind in [
        TargetType::Glob,
        TargetType::Pcre,
        TargetType::List,
        TargetType::Grain,
        TargetType::GrainPcre,
        TargetType::Ipcidr,
        TargetType::Nodegroup,
        TargetType::Compound,
    ] {
        let nodegroup = |name: &str| ["a", "b"].contains(&name).then(|| text.to_owned());
        match Expression::parse_with(text, kind, &nodegroup) {
            Ok(expression) => {
                std::hint::black_box(expression.matches(&minion));
            }
            Err(error) => assert!(error.position <= text.chars().count(), "{error:?}"),
        }
    }
});
