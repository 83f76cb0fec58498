//! Which rules led to an event: a rule does not react to what it caused itself, directly or by way of others, so that
//! no loop of rules runs for ever. A machine; it remembers the newest jobs and events that the reactor caused.

use std::collections::{BTreeSet, HashMap, VecDeque};

use drover_proto::{event::Event, id::JobId};

/// How many jobs and events are remembered. A loop that is slower than that many reactions is held by the guard alone.
const REMEMBERED: usize = 10_000;

/// What the reactor caused, and by which rules.
#[derive(Debug, Default)]
pub struct Causes {
    rules: HashMap<Effect, BTreeSet<usize>>,
    order: VecDeque<Effect>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Effect {
    Job(JobId),
    Event(u64),
}

impl Causes {
    /// A rule started a job, or delivered it; `chain` holds the rule too.
    pub fn handle_job(&mut self, jid: JobId, chain: BTreeSet<usize>) {
        self.remember(Effect::Job(jid), chain);
    }

    /// A rule sent an event, which has this number.
    pub fn handle_event(&mut self, seq: u64, chain: BTreeSet<usize>) {
        self.remember(Effect::Event(seq), chain);
    }

    /// The rules that led to an event; none for what the fleet or an operator did.
    #[must_use]
    pub fn chain(&self, event: &Event) -> BTreeSet<usize> {
        let by_seq = self.rules.get(&Effect::Event(event.seq));
        let by_job = || jid(event).and_then(|jid| self.rules.get(&Effect::Job(jid)));
        by_seq.or_else(by_job).cloned().unwrap_or_default()
    }

    fn remember(&mut self, effect: Effect, chain: BTreeSet<usize>) {
        if self.rules.insert(effect.clone(), chain).is_none() {
            self.order.push_back(effect);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.rules.remove(&oldest);
        }
    }
}

/// The job that an event is about: in its tag, or in its data where it tells of a pending one.
fn jid(event: &Event) -> Option<JobId> {
    let tag = event.tag.as_str();
    let in_tag = tag.strip_prefix("drover/job/").and_then(|rest| rest.split('/').next());
    let in_data = || {
        let is_pending = tag.starts_with("drover/pending/");
        event.data.get("jid").filter(|_| is_pending).and_then(|jid| jid.as_str())
    };
    in_tag.or_else(in_data)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    const JID: &str = "20261123023705000123";

    fn event(seq: u64, tag: &str, data: Value) -> Event {
        let tag = tag.parse().unwrap();
        Event { id: Uuid::nil(), seq, ts: Timestamp::UNIX_EPOCH, at: None, tag, minion: None, data }
    }

    #[test]
    fn a_rules_job_and_event_lead_back_to_it() {
        let mut causes = Causes::default();
        causes.handle_job(JID.parse().unwrap(), BTreeSet::from([1, 2]));
        causes.handle_event(7, BTreeSet::from([3]));
        for (seq, tag, data, chain) in [
            (9, format!("drover/job/{JID}/new"), Value::Null, vec![1, 2]),
            (10, format!("drover/job/{JID}/ret/a"), Value::Null, vec![1, 2]),
            (11, "drover/pending/a/delivered".into(), json!({"jid": JID}), vec![1, 2]),
            (7, "shop/open".into(), Value::Null, vec![3]),
            (8, "shop/open".into(), json!({"jid": JID}), vec![]),
            (12, "drover/job/20261123023705000124/new".into(), Value::Null, vec![]),
        ] {
            let found = causes.chain(&event(seq, &tag, data));
            assert_eq!(found.into_iter().collect::<Vec<_>>(), chain, "{tag}");
        }
    }

    #[test]
    fn the_oldest_causes_are_forgotten() {
        let mut causes = Causes::default();
        for seq in 0..=REMEMBERED as u64 {
            causes.handle_event(seq, BTreeSet::from([1]));
        }
        assert_eq!(causes.rules.len(), REMEMBERED);
        assert!(causes.chain(&event(0, "a", Value::Null)).is_empty());
    }
}
