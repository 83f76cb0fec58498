//! Two machines with one identity: a copied disk, a board that was read out. A run of the agent that is over does not come
//! back, so one that connects again after another was welcomed is a second machine. A machine without I/O: the hub tells
//! it who comes and goes, and asks it who may.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use drover_pki::Fingerprint;
use drover_proto::{MinionId, id::BootId};
use jiff::Timestamp;
use serde::Serialize;

/// The same two are told of once in this time.
const QUIET: Duration = Duration::from_secs(3_600);
/// Pairs that are told of one minion in this time.
const MOST_TOLD: usize = 4;
/// Runs before the present one that are remembered: more than two machines may share an identity.
const REMEMBERED: usize = 4;

/// Who is cut off where two machines have one identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClonePolicy {
    /// The machine that was there first stays; another is refused while the first is connected, and for an hour so is any
    /// run of the agent that nobody has seen before.
    #[default]
    First,
    /// The machine that came last stays.
    Last,
    /// Neither stays, and the id is rejected until an operator accepts it.
    Both,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its run of the agent; not known of one that was refused before it could say.
    pub boot: Option<BootId>,
    /// Where it connected from.
    pub address: Option<IpAddr>,
    /// The certificate that it showed, with colons.
    pub fingerprint: Option<String>,
    /// Since when it is known.
    pub since: Timestamp,
}

impl Machine {
    /// A run of the agent that says hello.
    #[must_use]
    pub fn new(boot: BootId, address: IpAddr, shown: &Fingerprint, since: Timestamp) -> Self {
        let fingerprint = Some(shown.with_colons());
        Self { boot: Some(boot), address: Some(address), fingerprint, since }
    }
}

/// How two machines showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A run of the agent came back after another.
    TwoBoots,
    /// An operational certificate was used again after a newer one was.
    SupersededCertificate,
}

/// That two machines have one identity: an event's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TwoMachines {
    /// Whose.
    pub id: MinionId,
    /// Both.
    pub machines: [Machine; 2],
    /// How they showed.
    pub sign: Sign,
    /// Which of them are cut off: their places in `machines`.
    pub cut: Vec<usize>,
    /// Which stays.
    pub kept: Option<usize>,
    /// Whether the id is to be rejected.
    #[serde(skip)]
    pub rejects: bool,
    /// Whether it was not told lately.
    #[serde(skip)]
    pub is_news: bool,
}

/// Whether a machine may have its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Welcome,
    /// Not while the other one is there.
    Refuse,
}

/// Watches for them.
#[derive(Debug, Default)]
pub struct Clones {
    policy: ClonePolicy,
    minions: HashMap<MinionId, Seen>,
    /// What was told lately, of the few that anything is told of.
    told: HashMap<MinionId, Vec<(Pair, Instant)>>,
}

/// What is remembered of one minion: little, for most never have more than one run while the master runs.
#[derive(Debug)]
struct Seen {
    boot: BootId,
    /// The number of its connection.
    number: u64,
    is_connected: bool,
    more: Option<Box<Runs>>,
}

/// What is remembered of one that had several.
#[derive(Debug)]
struct Runs {
    /// The present one.
    present: Machine,
    /// Those before it.
    before: Vec<BootId>,
    /// One that is refused while the present one is connected.
    barred: Option<BootId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pair {
    Boots([BootId; 2]),
    Certificate(Option<String>),
}

impl Runs {
    fn new(present: Machine) -> Self {
        Self { present, before: Vec::new(), barred: None }
    }

    fn succeed(&mut self, present: Machine, before: BootId) {
        self.before.retain(|boot| Some(*boot) != present.boot && *boot != before);
        if self.before.len() == REMEMBERED {
            self.before.remove(0);
        }
        self.before.push(before);
        self.present = present;
        self.barred = None;
    }
}

impl Clones {
    /// Nobody was seen yet.
    #[must_use]
    pub fn new(policy: ClonePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Whether a run is refused because another machine with its identity is connected.
    #[must_use]
    pub fn refuses(&self, minion: &MinionId, boot: BootId) -> bool {
        self.minions.get(minion).is_some_and(|seen| {
            let barred = seen.more.as_ref().and_then(|runs| runs.barred);
            seen.is_connected && barred == Some(boot)
        })
    }

    /// A machine wants its session, over a connection whose number is higher than those of all that began before.
    pub fn handle_hello(
        &mut self,
        minion: &MinionId,
        number: u64,
        machine: Machine,
        now: Instant,
    ) -> (Verdict, Option<TwoMachines>) {
        let Some(boot) = machine.boot else { return (Verdict::Refuse, None) };
        if self.refuses(minion, boot) {
            return (Verdict::Refuse, None);
        }
        let policy = self.policy;
        let Some(seen) = self.minions.get_mut(minion) else {
            let seen = Seen { boot, number, is_connected: true, more: None };
            self.minions.insert(minion.clone(), seen);
            return (Verdict::Welcome, None);
        };
        let (before, was_connected, older) = (seen.boot, seen.is_connected, seen.number);
        if before == boot {
            seen.number = number;
            seen.is_connected = true;
            return (Verdict::Welcome, None);
        }
        let runs = seen.more.get_or_insert_with(|| Box::new(Runs::new(machine.clone())));
        let is_back = runs.before.contains(&boot);
        if is_back && number < older {
            // A connection that began before the present one and is heard after it proves nothing.
            return (Verdict::Refuse, None);
        }
        // Where there are two machines, a new run is the other one's as likely as not: to begin again would otherwise be
        // all that it needs to push out the first.
        let is_suspect = || self.told.get(minion).is_some_and(|told| was_told(told, now));
        if !is_back && was_connected && policy == ClonePolicy::First && is_suspect() {
            runs.barred = Some(boot);
            return (Verdict::Refuse, None);
        }
        // One that was refused for the other's sake may come when the other has gone.
        let was_barred = runs.barred == Some(boot) && !was_connected;
        if !is_back || was_barred {
            runs.succeed(machine, before);
            (seen.boot, seen.number, seen.is_connected) = (boot, number, true);
            return (Verdict::Welcome, None);
        }
        let mut pair = [before, boot];
        pair.sort_unstable();
        let is_news = is_news(&mut self.told, minion, Pair::Boots(pair), now);
        let machines = [machine.clone(), runs.present.clone()];
        let (verdict, cut, kept) = match policy {
            ClonePolicy::Both => (Verdict::Refuse, vec![0, 1], None),
            ClonePolicy::Last if was_connected => (Verdict::Refuse, vec![0], Some(1)),
            ClonePolicy::First | ClonePolicy::Last => (Verdict::Welcome, vec![1], Some(0)),
        };
        let rejects = policy == ClonePolicy::Both;
        if rejects {
            // Whoever accepts the id begins anew.
            self.minions.remove(minion);
            self.told.remove(minion);
        } else if verdict == Verdict::Welcome {
            runs.succeed(machine, before);
            runs.barred = Some(before);
            (seen.boot, seen.number, seen.is_connected) = (boot, number, true);
        } else {
            runs.barred = Some(boot);
        }
        let sign = Sign::TwoBoots;
        let found = TwoMachines { id: minion.clone(), machines, sign, cut, kept, rejects, is_news };
        (verdict, Some(found))
    }

    /// A machine showed an operational certificate that a newer one has superseded, and was refused. `other` is who has
    /// the newer one.
    pub fn handle_superseded(
        &mut self,
        minion: &MinionId,
        shown: Machine,
        other: Machine,
        now: Instant,
    ) -> Option<TwoMachines> {
        let rejects = self.policy == ClonePolicy::Both;
        let pair = Pair::Certificate(shown.fingerprint.clone());
        let other = Machine { boot: self.minions.get(minion).map(|seen| seen.boot), ..other };
        let is_news = is_news(&mut self.told, minion, pair, now);
        if rejects {
            self.minions.remove(minion);
        }
        let (cut, kept) = if rejects { (vec![0, 1], None) } else { (vec![0], Some(1)) };
        let sign = Sign::SupersededCertificate;
        let machines = [shown, other];
        let found = TwoMachines { id: minion.clone(), machines, sign, cut, kept, rejects, is_news };
        (is_news || rejects).then_some(found)
    }

    /// A connection has ended.
    pub fn handle_closed(&mut self, minion: &MinionId, number: u64) {
        if let Some(seen) = self.minions.get_mut(minion).filter(|seen| seen.number == number) {
            seen.is_connected = false;
        }
    }
}

/// Whether these two were not told of lately, nor so many others of this minion that one more tells nobody anything: who
/// has its keys can make up as many runs as it wants.
fn is_news(
    told: &mut HashMap<MinionId, Vec<(Pair, Instant)>>,
    minion: &MinionId,
    pair: Pair,
    now: Instant,
) -> bool {
    let told = told.entry(minion.clone()).or_default();
    told.retain(|(_, at)| is_recent(*at, now));
    let is_news = told.len() < MOST_TOLD && told.iter().all(|(before, _)| *before != pair);
    if is_news {
        told.push((pair, now));
    }
    is_news
}

fn was_told(told: &[(Pair, Instant)], now: Instant) -> bool {
    told.iter().any(|(_, at)| is_recent(*at, now))
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < QUIET
}

#[cfg(test)]
mod tests;
