//! The registry as targets see it: which minions an expression means, and what is shown of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use drover_pki::MinionId;
use drover_proto::target::{Expression, Subject};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Entry, Registry, Row, Status};

/// Renders a minion's pillar from its id, all its grains, and the enrolled ones; `None` where it does not render.
pub(super) type PillarOf<'a> = &'a dyn Fn(&Shown) -> Option<Map<String, Value>>;

/// Whom an expression means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matched {
    /// Accepted minions, sorted.
    pub minions: Vec<MinionId>,
    /// Names of a list that are nobody's.
    pub unknown: Vec<String>,
    /// Minions of a list that are known and not accepted.
    pub not_accepted: BTreeMap<MinionId, Status>,
}

/// What is shown of one minion.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The registry's entry.
    pub entry: Entry,
    /// The grains that count.
    pub grains: Arc<Map<String, Value>>,
    /// The agent's version.
    pub version: String,
    /// Where it last connected from.
    pub address: Option<IpAddr>,
    /// When its last connection began or ended.
    pub last_seen: Option<Timestamp>,
}

impl Registry {
    /// The accepted minions that an expression means.
    #[must_use]
    pub fn matching(&self, expression: &Expression, pillar: PillarOf<'_>) -> Matched {
        let (accepted, others): (Vec<_>, Vec<_>) = self
            .shown(Some(expression), pillar)
            .into_iter()
            .partition(|shown| shown.entry.status == Status::Accepted);
        let mut minions: Vec<_> = accepted.into_iter().map(|shown| shown.entry.id).collect();
        minions.sort_unstable();
        let Some(ids) = expression.literal_ids() else {
            return Matched { minions, ..Matched::default() };
        };
        let others = others.into_iter().map(|shown| (shown.entry.id, shown.entry.status));
        let not_accepted: BTreeMap<_, _> = others.collect();
        let known: BTreeSet<&str> =
            minions.iter().chain(not_accepted.keys()).map(MinionId::as_str).collect();
        let unknown = ids.iter().filter(|id| !known.contains(id.as_str())).cloned().collect();
        Matched { minions, unknown, not_accepted }
    }

    /// Every minion that is not deleted, of an expression or all, in no order.
    #[must_use]
    pub fn shown(&self, expression: Option<&Expression>, pillar: PillarOf<'_>) -> Vec<Shown> {
        // A plain id is looked up; to try everyone would cost a fleet's time for one minion's.
        let ids = expression.and_then(Expression::literal_ids);
        let candidates: Vec<Shown> = {
            let rows = self.rows();
            match ids {
                Some(ids) => ids.iter().filter_map(|id| rows.get(id.as_str())).map(show).collect(),
                None => rows.values().map(show).collect(),
            }
        };
        let is_meant = |shown: &Shown| {
            shown.entry.status != Status::Deleted
                && expression.is_none_or(|expression| {
                    let pillar = expression.needs_pillar().then(|| pillar(shown)).flatten();
                    expression.matches(&Candidate { shown, pillar })
                })
        };
        candidates.into_iter().filter(is_meant).collect()
    }

    /// Whether a minion may connect.
    #[must_use]
    pub fn is_accepted(&self, id: &MinionId) -> bool {
        self.rows().get(id).is_some_and(|row| row.entry.status == Status::Accepted)
    }

    /// One minion, unless it is deleted.
    #[must_use]
    pub fn show(&self, id: &MinionId) -> Option<Shown> {
        self.rows().get(id).map(show).filter(|shown| shown.entry.status != Status::Deleted)
    }
}

fn show(row: &Row) -> Shown {
    Shown {
        entry: row.entry.clone(),
        grains: row.grains.clone(),
        version: row.sighting.version.clone(),
        address: row.sighting.address,
        last_seen: row.sighting.last_seen,
    }
}

struct Candidate<'a> {
    shown: &'a Shown,
    pillar: Option<Map<String, Value>>,
}

impl Subject for Candidate<'_> {
    fn id(&self) -> &str {
        self.shown.entry.id.as_str()
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.shown.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        self.pillar.as_ref()
    }
}
