//! How much of a cluster's storage the bridge may take: which of its indices go, and when the one that is written to is
//! followed by a new one. A plan; [`super::destination`] carries it out.

use std::time::Duration;

use drover_states::{
    settings::{duration, size, wait},
    yaml::{Data, Node},
};
use jiff::{SignedDuration, Timestamp};

use super::indices::OwnIndex;

const DAY: Duration = Duration::from_secs(86_400);
const GIB: u64 = 1 << 30;
/// An index that is written to is followed by another at this size at the latest.
const LARGEST: u64 = 10 * GIB;
/// An index is removed as a whole, so this many at least share what there is.
const SHARES: u64 = 10;
/// How long an index is written to where nothing is removed.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Who looks after the age and size of the indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    /// The bridge.
    Own(Budget, Pace),
    /// ILM, ISM or somebody: the bridge neither rolls over nor removes.
    External,
}

/// How the bridge looks after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// From one look to the next.
    pub(super) every: Duration,
    /// How long after a request that ended without an answer an index is not followed by another.
    pub(super) settle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(60), settle: Duration::from_secs(300) }
    }
}

/// What the bridge keeps to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Bytes of all primary shards.
    pub(super) max_bytes: Option<u64>,
    /// How old an event may become.
    pub(super) max_age: Option<Duration>,
}

/// Why an index goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Age,
    Bytes,
}

impl Reason {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Age => "max_age",
            Self::Bytes => "max_bytes",
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    /// Indices that go.
    pub(super) remove: Vec<(&'a OwnIndex, Reason)>,
    /// The index that is to be followed by a new one.
    pub(super) roll: Option<&'a OwnIndex>,
    /// By how many bytes it is still too much: only what is being written is left.
    pub(super) over: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self::Own(Budget::default(), Pace::default())
    }
}

impl Retention {
    /// Reads the `retention` of a bridge.
    ///
    /// # Errors
    /// What is wanted.
    pub(super) fn read(node: &Node) -> Result<Self, &'static str> {
        const WANTED: &str = "`external`, or a map of `max_bytes` and `max_age` (and `every` and `settle`), such as \
                              `{max_bytes: 20GiB, max_age: 30d}`";
        const WAIT: &str = "a map whose `every` and `settle` are at most a day, such as `5m`";
        let Data::Mapping(entries) = &node.data else {
            return if node.as_str() == Some("external") {
                Ok(Self::External)
            } else {
                Err(WANTED)
            };
        };
        let mut budget = Budget::default();
        let mut pace = Pace::default();
        for entry in entries {
            let value = entry.node.to_value();
            match entry.key.as_str() {
                "max_bytes" => budget.max_bytes = Some(size(&value).ok_or(WANTED)?),
                // A bare number would be seconds, and whoever writes 30 means days: all would be removed.
                "max_age" if value.is_number() => {
                    return Err("a map whose `max_age` has a unit, such as `30d`");
                }
                "max_age" => budget.max_age = Some(duration(&value).ok_or(WANTED)?),
                "every" => pace.every = wait(&value).ok_or(WAIT)?,
                "settle" => pace.settle = wait(&value).ok_or(WAIT)?,
                _ => return Err(WANTED),
            }
        }
        Ok(Self::Own(budget, pace))
    }
}

impl Budget {
    /// What is to be done with these indices, the oldest first.
    pub(super) fn plan<'a>(&self, indices: &'a [OwnIndex], now: Timestamp) -> Plan<'a> {
        let mut plan = Plan::default();
        let mut kept: u64 = indices.iter().map(|index| index.bytes).sum();
        for index in indices {
            // The one that is written to is not removed, nor is any whose last event is of an unknown time.
            let Some(ends) = index.ends else { continue };
            let is_old = self.max_age.is_some_and(|max_age| older(ends, now, max_age));
            let reason = match self.max_bytes {
                _ if is_old => Reason::Age,
                Some(max_bytes) if kept > max_bytes => Reason::Bytes,
                _ => continue,
            };
            kept -= index.bytes;
            plan.remove.push((index, reason));
        }
        plan.roll = indices.iter().find(|index| {
            let is_due = index.bytes >= self.largest() || older(index.created, now, self.longest());
            index.can_roll && index.ends.is_none() && index.has_documents() && is_due
        });
        let over = self.max_bytes.and_then(|max_bytes| kept.checked_sub(max_bytes + 1));
        plan.over = over.map(|less| less + 1);
        plan
    }

    /// The size of an index that is full.
    fn largest(&self) -> u64 {
        self.max_bytes.map_or(LARGEST, |max_bytes| (max_bytes / SHARES).clamp(1, LARGEST))
    }

    /// How long an index is written to.
    fn longest(&self) -> Duration {
        match (self.max_age, self.max_bytes) {
            (Some(max_age), _) => (max_age / 10).min(DAY),
            (None, Some(_)) => DAY,
            (None, None) => LONGEST,
        }
    }
}

fn older(than: Timestamp, now: Timestamp, age: Duration) -> bool {
    SignedDuration::try_from(age).is_ok_and(|age| than.duration_until(now) >= age)
}

#[cfg(test)]
mod tests {
    use drover_states::yaml;
    use jiff::ToSpan as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn ago(hours: i64) -> Timestamp {
        now() - hours.hours()
    }

    /// Indices of these ages in hours and sizes in MiB; the last is written to.
    fn stream(indices: &[(i64, u64)]) -> Vec<OwnIndex> {
        let ends = indices.iter().skip(1).map(|(age, _)| Some(ago(*age))).chain([None]);
        let own = |((age, mib), ends): (&(i64, u64), Option<Timestamp>)| OwnIndex {
            name: format!("h{age}"),
            day: None,
            bytes: mib * MIB,
            documents: 1,
            created: ago(*age),
            ends,
            can_roll: true,
        };
        indices.iter().zip(ends).map(own).collect()
    }

    fn told(plan: &Plan<'_>) -> (Vec<(String, &'static str)>, Option<String>, Option<u64>) {
        let remove = plan.remove.iter().map(|(index, why)| (index.name.clone(), why.word()));
        (remove.collect(), plan.roll.map(|index| index.name.clone()), plan.over)
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let budget = Budget { max_bytes: Some(100 * MIB), max_age: None };
        let indices = stream(&[(9, 40), (8, 40), (7, 40), (6, 5)]);
        assert_eq!(
            told(&budget.plan(&indices, now())),
            (vec![("h9".into(), "max_bytes")], None, None)
        );
        let indices = stream(&[(9, 40), (8, 40), (7, 10), (6, 5)]);
        assert_eq!(told(&budget.plan(&indices, now())), (vec![], None, None));
    }

    #[test]
    fn an_index_goes_when_its_last_event_is_too_old() {
        let budget = Budget { max_bytes: None, max_age: Some(DAY * 30) };
        // The first was followed by the second more than 30 days ago; the second by the third just now.
        let indices = stream(&[(24 * 40, 1), (24 * 31, 1), (1, 1)]);
        let first = format!("h{}", 24 * 40);
        assert_eq!(told(&budget.plan(&indices, now())), (vec![(first, "max_age")], None, None));
    }

    #[test]
    fn what_is_written_to_is_followed_by_another_before_it_goes() {
        let budget = Budget { max_bytes: Some(100 * MIB), max_age: None };
        let large = stream(&[(1, 11)]);
        assert_eq!(told(&budget.plan(&large, now())), (vec![], Some("h1".into()), None));
        let huge = stream(&[(1, 130)]);
        assert_eq!(told(&budget.plan(&huge, now())), (vec![], Some("h1".into()), Some(30 * MIB)));
        let old = stream(&[(24, 1)]);
        assert_eq!(told(&budget.plan(&old, now())), (vec![], Some("h24".into()), None));
        let mut empty = stream(&[(24 * 9, 0)]);
        empty[0].documents = 0;
        assert_eq!(told(&budget.plan(&empty, now())), (vec![], None, None));
    }

    #[test]
    fn a_daily_index_cannot_be_rolled_over_and_it_is_told_that_there_is_too_much() {
        let budget = Budget { max_bytes: Some(MIB), max_age: None };
        let mut today = stream(&[(1, 3)]);
        today[0].can_roll = false;
        assert_eq!(told(&budget.plan(&today, now())), (vec![], None, Some(2 * MIB)));
    }

    #[test]
    fn without_a_budget_nothing_goes() {
        let indices = stream(&[(24 * 900, 9_000), (24 * 31, 5)]);
        let last = format!("h{}", 24 * 31);
        assert_eq!(told(&Budget::default().plan(&indices, now())), (vec![], Some(last), None));
    }

    #[test]
    fn a_budget_is_read() {
        let read = |text| Retention::read(&yaml::load_nodes(text).unwrap().unwrap());
        let budget = Budget { max_bytes: Some(20 * GIB), max_age: Some(DAY * 30) };
        assert_eq!(
            read("{max_bytes: 20GiB, max_age: 30d}"),
            Ok(Retention::Own(budget, Pace::default()))
        );
        for wrong in ["{every: 2d}", "{settle: 18446744073709551615}"] {
            assert!(read(wrong).is_err_and(|wanted| wanted.contains("at most a day")), "{wrong}");
        }
        assert_eq!(read("external"), Ok(Retention::External));
        for wrong in ["internal", "{max_bytes: much}", "{max_byte: 1}", "{max_age: 30}", "[1]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
