//! Random schedules: frames arrive one by one, connections and processes die at any point between. proptest shrinks
//! a schedule that fails, and keeps its seed.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::pair::{Pair, job};
use crate::{id::BootId, message::OutboxItem};

#[derive(Debug, Clone)]
enum Step {
    Push,
    Job,
    ToMaster(usize),
    ToMinion,
    Flush,
    Cut,
    DropOldConnections,
    CrashMinion,
    CrashMaster,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Push),
        2 => Just(Step::Job),
        // The newest connection, or one of those before it.
        12 => (0_usize..3).prop_map(Step::ToMaster),
        12 => Just(Step::ToMinion),
        4 => Just(Step::Flush),
        2 => Just(Step::Cut),
        2 => Just(Step::DropOldConnections),
        1 => Just(Step::CrashMinion),
        1 => Just(Step::CrashMaster),
        6 => (0_u64..100_000).prop_map(Step::Advance),
    ]
}

#[derive(Debug, PartialEq)]
struct Outcome {
    store: Vec<(BootId, u64, OutboxItem)>,
}

fn run(seed: u64, steps: &[Step]) -> Result<Outcome, TestCaseError> {
    let mut pair = Pair::new(seed);
    let mut pushed = BTreeSet::new();
    let (mut texts, mut jobs) = (0, 0);
    for step in steps {
        match step {
            Step::Push => {
                texts += 1;
                let number = pair.push(&format!("{texts}")).unwrap();
                pushed.insert((pair.boot(), number));
            }
            Step::Job => {
                jobs += 1;
                pair.queue_job(job(jobs));
            }
            Step::ToMaster(back) => {
                let newest = pair.connections();
                pair.deliver_to_master(newest.saturating_sub(1 + back));
            }
            Step::ToMinion => {
                pair.deliver_to_minion();
            }
            Step::Flush => pair.flush(),
            Step::Cut => pair.cut(),
            Step::DropOldConnections => pair.drop_old_connections(),
            Step::CrashMinion => pair.crash_minion(),
            Step::CrashMaster => pair.crash_master(),
            Step::Advance(milliseconds) => pair.advance(Duration::from_millis(*milliseconds)),
        }
        check(&pair)?;
    }
    pair.settle();
    check(&pair)?;
    // Whatever the last boot had in its outbox has arrived.
    let boot = pair.boot();
    for (_, number) in pushed.range((boot, 0)..=(boot, u64::MAX)) {
        prop_assert!(pair.is_durable(boot, *number), "entry {number} of the last boot is lost");
    }
    Ok(Outcome { store: pair.store().to_vec() })
}

fn check(pair: &Pair) -> Result<(), TestCaseError> {
    let mut seen = std::collections::BTreeMap::new();
    for (boot, number, _) in pair.store() {
        let last = seen.insert(*boot, *number).unwrap_or(0);
        prop_assert!(
            *number > last,
            "entry {number} of {boot} after {last}: twice, or out of order"
        );
    }
    for (boot, number) in &pair.acknowledged {
        prop_assert!(pair.is_durable(*boot, *number), "{number} was acknowledged and is lost");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_entry_reaches_the_store_exactly_once(
        seed in any::<u32>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(seed.into(), &steps)?;
    }

    #[test]
    fn a_seed_replays(seed in any::<u32>(), steps in prop::collection::vec(step(), 1..40)) {
        prop_assert_eq!(run(seed.into(), &steps)?, run(seed.into(), &steps)?);
    }
}
