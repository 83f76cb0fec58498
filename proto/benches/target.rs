//! How long it takes to find the minions that an expression means, among 5,000.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use drover_proto::{
    job::TargetType,
    target::{Expression, Subject},
};
use serde_json::{Map, Value, json};

struct Minion {
    id: String,
    grains: Map<String, Value>,
}

impl Subject for Minion {
    fn id(&self) -> &str {
        &self.id
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        None
    }
}

fn fleet() -> Vec<Minion> {
    (0..5_000)
        .map(|number| {
            let grains = json!({
                "role": if number % 3 == 0 { "rfid" } else { "gate" },
                "site": format!("site-{}", number % 40),
                "os": { "name": "Debian", "version": { "major": 12 } },
                "ipv4": ["127.0.0.1", format!("10.1.{}.{}", number / 250, number % 250)],
            });
            let grains = grains.as_object().cloned().unwrap_or_default();
            Minion { id: format!("rfid-{number:04}"), grains }
        })
        .collect()
}

fn target(criterion: &mut Criterion) {
    let fleet = fleet();
    let mut group = criterion.benchmark_group("match 5,000 minions");
    for (name, text, kind, expected) in [
        ("glob", "rfid-00*", TargetType::Glob, 100),
        ("regex", "rfid-00[0-4]", TargetType::Pcre, 50),
        ("grain", "role:rfid", TargetType::Grain, 1_667),
        ("nested grain", "os:version:major:12", TargetType::Grain, 5_000),
        ("subnet", "10.1.4.0/24", TargetType::Ipcidr, 250),
        (
            "compound",
            "G@role:rfid and ( P@site:site-[12]$ or S@10.1.4.0/24 ) and not rfid-0*",
            TargetType::Compound,
            145,
        ),
    ] {
        let expression = Expression::parse(text, kind).expect("the expression is right");
        let count = || fleet.iter().filter(|minion| expression.matches(*minion)).count();
        assert_eq!(count(), expected, "{text}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(count())));
    }
    group.finish();
}

criterion_group!(benches, target);
criterion_main!(benches);
