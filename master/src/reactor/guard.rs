//! What keeps a rule from flooding: so many firings a minute for each rule and minion, what is more is held, and equal
//! firings that are held are one. A machine; the reactor's task runs what it lets through.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use drover_pki::MinionId;
use drover_proto::event::{Event, Tag};
use uuid::Uuid;

use super::reaction::Reaction;

const MINUTE: Duration = Duration::from_secs(60);
/// Different firings that are held for one rule and minion.
const MOST_HELD: usize = 100;

/// A rule that met an event: what is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// Which rule.
    pub rule: usize,
    /// The minion that the event is about.
    pub minion: Option<MinionId>,
    /// The event; the first one where several are one.
    pub cause: Cause,
    /// The last event that this stands for.
    pub through: u64,
    /// How many events beside the first one it stands for.
    pub merged: u64,
    /// What to do, in this order.
    pub reactions: Vec<Reaction>,
    /// The rules that led to the event, where the reactor caused it.
    pub chain: BTreeSet<usize>,
}

/// The event that a rule met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Its id.
    pub id: Uuid,
    /// Its number.
    pub seq: u64,
    /// Its tag.
    pub tag: Tag,
}

impl Cause {
    /// Names an event.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self { id: event.id, seq: event.seq, tag: event.tag.clone() }
    }
}

/// What an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// From now on firings wait; told once until none waits any more.
    Held {
        /// Which rule.
        rule: usize,
        /// By which minion.
        minion: Option<MinionId>,
        /// The first event that waits.
        cause: Cause,
    },
    /// So many different firings wait that the newest are dropped; told once until none waits any more.
    Dropped {
        /// Which rule.
        rule: usize,
        /// By which minion.
        minion: Option<MinionId>,
        /// The first event that is dropped.
        cause: Cause,
    },
}

/// Lets through what may run now.
#[derive(Debug)]
pub struct Guard {
    per_minute: usize,
    budgets: HashMap<Key, Budget>,
    timers: BTreeSet<(Instant, Key)>,
    /// The first events of what is held, with how many firings each has.
    held: BTreeMap<u64, usize>,
    ready: VecDeque<Firing>,
    notices: VecDeque<Notice>,
}

type Key = (usize, Option<MinionId>);

#[derive(Debug, Default)]
struct Budget {
    /// When what ran within the last minute ran.
    ran: VecDeque<Instant>,
    held: VecDeque<Firing>,
    is_dropping: bool,
}

impl Guard {
    /// A guard that lets `per_minute` firings of each rule and minion through.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: usize::try_from(per_minute).unwrap_or(usize::MAX).max(1),
            budgets: HashMap::new(),
            timers: BTreeSet::new(),
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// A rule met an event.
    pub fn handle_firing(&mut self, firing: Firing, now: Instant) {
        let key = (firing.rule, firing.minion.clone());
        self.expire(&key, now);
        let budget = self.budgets.entry(key.clone()).or_default();
        if budget.held.is_empty() && budget.ran.len() < self.per_minute {
            budget.ran.push_back(now);
            self.ready.push_back(firing);
            self.arm(&key);
            return;
        }
        if let Some(equal) = budget.held.iter_mut().find(|held| held.reactions == firing.reactions)
        {
            equal.through = firing.through;
            equal.merged += 1;
            return;
        }
        let (rule, minion, cause) = (firing.rule, firing.minion.clone(), firing.cause.clone());
        if budget.held.len() >= MOST_HELD {
            if !std::mem::replace(&mut budget.is_dropping, true) {
                self.notices.push_back(Notice::Dropped { rule, minion, cause });
            }
            return;
        }
        if budget.held.is_empty() {
            self.notices.push_back(Notice::Held { rule, minion, cause });
        }
        *self.held.entry(firing.cause.seq).or_default() += 1;
        budget.held.push_back(firing);
    }

    /// Lets through what the passing minute has made room for.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.timers.pop_first() else { return };
            self.expire(&key, now);
            let Some(budget) = self.budgets.get_mut(&key) else { continue };
            while budget.ran.len() < self.per_minute {
                let Some(firing) = budget.held.pop_front() else { break };
                budget.ran.push_back(now);
                release(&mut self.held, firing.cause.seq);
                self.ready.push_back(firing);
            }
            if budget.held.is_empty() {
                budget.is_dropping = false;
            }
            if budget.ran.is_empty() {
                self.budgets.remove(&key);
            } else {
                self.arm(&key);
            }
        }
    }

    /// What may run.
    pub fn poll_firing(&mut self) -> Option<Firing> {
        self.ready.pop_front()
    }

    /// What an operator should know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The oldest event that something held stands for: the reactor is not done with it.
    #[must_use]
    pub fn oldest_held(&self) -> Option<u64> {
        self.held.keys().next().copied()
    }

    /// How many firings are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.values().sum()
    }

    /// Forgets what ran more than a minute ago.
    fn expire(&mut self, key: &Key, now: Instant) {
        let Some(budget) = self.budgets.get_mut(key) else { return };
        while budget.ran.front().is_some_and(|ran| *ran + MINUTE <= now) {
            budget.ran.pop_front();
        }
    }

    /// One timer a budget, at the end of the minute of its oldest firing.
    fn arm(&mut self, key: &Key) {
        let Some(oldest) = self.budgets.get(key).and_then(|budget| budget.ran.front()) else {
            return;
        };
        self.timers.insert((*oldest + MINUTE, key.clone()));
    }
}

fn release(held: &mut BTreeMap<u64, usize>, seq: u64) {
    if let Some(count) = held.get_mut(&seq) {
        *count -= 1;
        if *count == 0 {
            held.remove(&seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use drover_proto::job::TargetType;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant is needed to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// The `seq`th event of a minion, and what it makes the rule do.
    fn firing(seq: u64, minion: &str, tgt: &str) -> Firing {
        let cause = Cause { id: Uuid::nil(), seq, tag: "x/y".parse().unwrap() };
        let reactions =
            vec![Reaction::DeliverPending { tgt: tgt.to_owned(), tgt_type: TargetType::Glob }];
        let minion = Some(minion.parse().unwrap());
        let chain = BTreeSet::new();
        Firing { rule: 0, minion, cause, through: seq, merged: 0, reactions, chain }
    }

    fn ready(guard: &mut Guard) -> Vec<u64> {
        std::iter::from_fn(|| guard.poll_firing()).map(|firing| firing.cause.seq).collect()
    }

    #[test]
    fn ten_a_minute_pass_and_the_rest_is_held_until_the_minute_allows() {
        let (mut guard, start) = (Guard::new(10), start());
        for seq in 1..=15 {
            guard.handle_firing(
                firing(seq, "a", &seq.to_string()),
                start + Duration::from_secs(seq),
            );
        }
        assert_eq!(ready(&mut guard), (1..=10).collect::<Vec<_>>());
        assert_eq!(guard.held(), 5);
        assert_eq!(guard.oldest_held(), Some(11));
        assert!(matches!(
            guard.poll_notice(),
            Some(Notice::Held { cause: Cause { seq: 11, .. }, .. })
        ));
        assert_eq!(guard.poll_notice(), None, "told once");
        assert_eq!(guard.poll_timeout(), Some(start + Duration::from_secs(61)));
        guard.handle_timeout(start + Duration::from_secs(61));
        assert_eq!(ready(&mut guard), [11]);
        guard.handle_timeout(start + Duration::from_secs(65));
        assert_eq!(ready(&mut guard), [12, 13, 14, 15]);
        assert_eq!(guard.oldest_held(), None);
    }

    #[test]
    fn equal_firings_that_are_held_are_one() {
        let (mut guard, start) = (Guard::new(1), start());
        for seq in 1..=9 {
            guard.handle_firing(firing(seq, "a", "same"), start);
        }
        assert_eq!(ready(&mut guard), [1]);
        guard.handle_timeout(start + MINUTE);
        let held = guard.poll_firing().unwrap();
        assert_eq!((held.cause.seq, held.through, held.merged), (2, 9, 7));
        assert_eq!(guard.poll_firing(), None);
    }

    #[test]
    fn one_minions_flood_is_not_anothers() {
        let (mut guard, start) = (Guard::new(1), start());
        guard.handle_firing(firing(1, "a", "x"), start);
        guard.handle_firing(firing(2, "a", "x"), start);
        guard.handle_firing(firing(3, "b", "x"), start);
        let mut other_rule = firing(4, "a", "x");
        other_rule.rule = 1;
        guard.handle_firing(other_rule, start);
        assert_eq!(ready(&mut guard), [1, 3, 4]);
    }

    #[test]
    fn what_comes_later_does_not_overtake_what_is_held() {
        let (mut guard, start) = (Guard::new(1), start());
        guard.handle_firing(firing(1, "a", "x"), start);
        guard.handle_firing(firing(2, "a", "y"), start);
        // The minute is over, and its timer has not run yet.
        guard.handle_firing(firing(3, "a", "z"), start + MINUTE);
        guard.handle_timeout(start + MINUTE);
        assert_eq!(ready(&mut guard), [1, 2]);
        guard.handle_timeout(start + 2 * MINUTE);
        assert_eq!(ready(&mut guard), [3]);
    }

    #[test]
    fn what_is_held_is_bounded_and_the_drop_is_told() {
        let (mut guard, start) = (Guard::new(1), start());
        for seq in 0..500 {
            guard.handle_firing(firing(seq, "a", &seq.to_string()), start);
        }
        assert_eq!(guard.held(), MOST_HELD);
        let notices: Vec<_> = std::iter::from_fn(|| guard.poll_notice()).collect();
        assert!(matches!(notices[..], [Notice::Held { .. }, Notice::Dropped { .. }]));
    }

    #[test]
    fn a_quiet_minion_costs_nothing() {
        let (mut guard, start) = (Guard::new(10), start());
        for minion in 0..1_000 {
            guard.handle_firing(firing(minion, &format!("m{minion}"), "x"), start);
        }
        guard.handle_timeout(start + MINUTE);
        assert!(guard.budgets.is_empty() && guard.timers.is_empty());
        assert_eq!(guard.poll_timeout(), None);
    }
}
