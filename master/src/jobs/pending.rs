//! Jobs that are kept for minions that are away: oldest first, until delivered, expired, superseded or taken back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use drover_proto::{MinionId, id::JobId, job::JobRequest};
use serde_json::Value;

use crate::{clock::Now, store::PendingEntry};

/// What two jobs of one minion share when the later one makes the earlier one pointless: a state run of the same SLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SupersedeKey {
    /// Sorted; empty for the highstate.
    sls: Vec<String>,
    saltenv: Option<Value>,
    /// A dry run replaces no real one.
    test: bool,
}

impl SupersedeKey {
    pub(super) fn of(request: &JobRequest) -> Option<Self> {
        Self::new(&request.fun, &request.arg, &request.kwarg)
    }

    fn of_entry(entry: &PendingEntry) -> Option<Self> {
        Self::new(&entry.fun, &entry.arg, &entry.kwarg)
    }

    fn new(fun: &str, arg: &[Value], kwarg: &serde_json::Map<String, Value>) -> Option<Self> {
        let named = match fun {
            "state.highstate" => None,
            "state.apply" | "state.sls" => arg.first().or_else(|| kwarg.get("mods")),
            _ => return None,
        };
        let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect();
        let mut sls: Vec<String> = match named {
            None => Vec::new(),
            Some(Value::String(text)) => words(text),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return None;
            }
        };
        sls.sort_unstable();
        let test = kwarg.get("test").is_some_and(|test| *test != Value::Bool(false));
        Some(Self { sls, saltenv: kwarg.get("saltenv").cloned(), test })
    }
}

#[derive(Default)]
pub(super) struct Pending {
    kept: HashMap<MinionId, BTreeMap<JobId, Kept>>,
    expiries: BTreeSet<(Instant, MinionId, JobId)>,
}

struct Kept {
    entry: PendingEntry,
    expires: Instant,
    key: Option<SupersedeKey>,
    is_on_its_way: bool,
}

impl Pending {
    pub(super) fn insert(&mut self, entry: PendingEntry, now: Now) {
        let left = Duration::try_from(entry.expires.duration_since(now.wall)).unwrap_or_default();
        // What would expire beyond the clock's range never does.
        let far = Duration::from_secs(100 * 365 * 86_400);
        let expires = now.instant + left.min(far);
        self.expiries.insert((expires, entry.minion.clone(), entry.jid.clone()));
        let key = SupersedeKey::of_entry(&entry);
        let (minion, jid) = (entry.minion.clone(), entry.jid.clone());
        let kept = Kept { entry, expires, key, is_on_its_way: false };
        self.kept.entry(minion).or_default().insert(jid, kept);
    }

    pub(super) fn remove(&mut self, minion: &MinionId, jid: &JobId) -> Option<PendingEntry> {
        let of_minion = self.kept.get_mut(minion)?;
        let kept = of_minion.remove(jid)?;
        if of_minion.is_empty() {
            self.kept.remove(minion);
        }
        self.expiries.remove(&(kept.expires, minion.clone(), jid.clone()));
        Some(kept.entry)
    }

    pub(super) fn contains(&self, minion: &MinionId, jid: &JobId) -> bool {
        self.kept.get(minion).is_some_and(|kept| kept.contains_key(jid))
    }

    pub(super) fn is_on_its_way(&self, minion: &MinionId, jid: &JobId) -> bool {
        let kept = self.kept.get(minion).and_then(|kept| kept.get(jid));
        kept.is_some_and(|kept| kept.is_on_its_way)
    }

    /// What waits for the minion, oldest first; from now on it is on its way.
    pub(super) fn take_waiting(&mut self, minion: &MinionId) -> Vec<JobId> {
        let kept = self.kept.get_mut(minion).into_iter().flatten();
        let waiting = kept.filter(|(_, kept)| !kept.is_on_its_way);
        waiting
            .map(|(jid, kept)| {
                kept.is_on_its_way = true;
                jid.clone()
            })
            .collect()
    }

    /// What was on its way did not arrive, and waits again. False where it is not kept.
    pub(super) fn release(&mut self, minion: &MinionId, jid: &JobId) -> bool {
        let kept = self.kept.get_mut(minion).and_then(|kept| kept.get_mut(jid));
        kept.map(|kept| kept.is_on_its_way = false).is_some()
    }

    /// What waits for the minion and a new job with this key makes pointless.
    pub(super) fn superseded_by(&self, minion: &MinionId, key: &SupersedeKey) -> Vec<JobId> {
        let kept = self.kept.get(minion).into_iter().flatten();
        kept.filter(|(_, kept)| !kept.is_on_its_way && kept.key.as_ref() == Some(key))
            .map(|(jid, _)| jid.clone())
            .collect()
    }

    /// What waits for the minion although a later one with the same key waits too.
    pub(super) fn outdated(&self, minion: &MinionId) -> Vec<JobId> {
        let Some(kept) = self.kept.get(minion) else { return Vec::new() };
        let is_outdated = |(jid, one): &(&JobId, &Kept)| {
            !one.is_on_its_way
                && one.key.is_some()
                && kept.iter().any(|(later, other)| later > *jid && other.key == one.key)
        };
        kept.iter().filter(is_outdated).map(|(jid, _)| jid.clone()).collect()
    }

    pub(super) fn entries(&self) -> Vec<PendingEntry> {
        let mut entries: Vec<_> =
            self.kept.values().flat_map(BTreeMap::values).map(|kept| kept.entry.clone()).collect();
        entries.sort_by(|a, b| (&a.minion, &a.jid).cmp(&(&b.minion, &b.jid)));
        entries
    }

    pub(super) fn len(&self) -> usize {
        self.expiries.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _, _)| *at)
    }

    /// What has been kept long enough.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(MinionId, JobId)> {
        let mut expired = Vec::new();
        while self.expiries.first().is_some_and(|(at, _, _)| *at <= now) {
            let (_, minion, jid) = self.expiries.pop_first().expect("there is a first one");
            expired.push((minion, jid));
        }
        expired
    }
}
