//! What is said of peers that are turned away again and again: a line when a cause begins, then one an hour with the
//! count. A fixed number of causes is told apart; those beyond it share one line, so that no stranger fills the log or
//! the memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing more is said of a cause.
const SILENCE: Duration = Duration::from_secs(3_600);

/// How often a full table is searched for causes that are over.
const SEARCH: Duration = Duration::from_secs(60);

/// What is to be said of one refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A cause that begins, or goes on after an hour: so many times since the last line, this one included.
    Cause(u64),
    /// Causes for which there is no room: so many refusals since the last line.
    Others(u64),
    /// Nothing, but to who looks closely.
    Nothing,
}

/// The causes that are told apart.
#[derive(Debug)]
pub(super) struct Refusals {
    /// By a digest that nobody outside can foresee, so that an entry has a fixed size.
    causes: HashMap<u64, Cause>,
    hasher: RandomState,
    capacity: usize,
    others: Option<Cause>,
    searched: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Cause {
    told: Instant,
    /// Since then.
    times: u64,
}

impl Cause {
    /// So many times, where it is time for a line.
    fn handle(cause: &mut Option<Self>, now: Instant) -> Option<u64> {
        match cause {
            Some(known) if now.duration_since(known.told) < SILENCE => {
                known.times += 1;
                None
            }
            Some(known) => {
                let times = known.times + 1;
                *known = Self { told: now, times: 0 };
                Some(times)
            }
            None => {
                *cause = Some(Self { told: now, times: 0 });
                Some(1)
            }
        }
    }
}

impl Refusals {
    pub(super) fn new(capacity: usize) -> Self {
        let hasher = RandomState::new();
        Self { causes: HashMap::new(), hasher, capacity, others: None, searched: None }
    }

    /// A peer was turned away for this cause.
    pub(super) fn handle(&mut self, cause: impl Hash, now: Instant) -> Told {
        let digest = self.hasher.hash_one(cause);
        let mut known = self.causes.get(&digest).copied();
        if known.is_none() && !self.has_room(now) {
            return Cause::handle(&mut self.others, now).map_or(Told::Nothing, Told::Others);
        }
        let told = Cause::handle(&mut known, now).map_or(Told::Nothing, Told::Cause);
        self.causes.extend(known.map(|known| (digest, known)));
        told
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let is_due = |searched| now.duration_since(searched) >= SEARCH;
        if self.causes.len() >= self.capacity && self.searched.is_none_or(is_due) {
            self.searched = Some(now);
            self.causes.retain(|_, cause| now.duration_since(cause.told) < SILENCE);
        }
        self.causes.len() < self.capacity
    }
}

/// Longer than any name of ours.
const LONGEST: usize = 120;

/// A stranger's words, quoted, escaped and cut: they begin no line and colour none.
pub(super) struct Stranger<'a>(pub(super) &'a str);

impl fmt::Display for Stranger<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for letter in self.0.chars().take(LONGEST) {
            if letter.is_ascii_graphic() || letter == ' ' {
                write!(f, "{letter}")?;
            } else {
                write!(f, "{}", letter.escape_unicode())?;
            }
        }
        let is_cut = self.0.chars().nth(LONGEST).is_some();
        f.write_str(if is_cut { "…`" } else { "`" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_cause_is_told_when_it_begins_and_then_once_an_hour_with_its_count() {
        let (mut refusals, start) = (Refusals::new(8), start());
        let told: Vec<_> = (0..=720)
            .map(|attempt| refusals.handle(("rfid-1", "revoked"), start + attempt * SEARCH / 6))
            .enumerate()
            .filter(|(_, told)| *told != Told::Nothing)
            .collect();
        assert_eq!(told, [(0, Told::Cause(1)), (360, Told::Cause(360)), (720, Told::Cause(360))]);
        assert_eq!(refusals.handle(("rfid-1", "pending"), start), Told::Cause(1));
        assert_eq!(refusals.handle(("rfid-2", "revoked"), start), Told::Cause(1));
    }

    #[test]
    fn causes_beyond_the_table_share_a_line_and_make_no_memory_grow() {
        let (mut refusals, start) = (Refusals::new(100), start());
        let told: Vec<_> = (0..10_000).map(|id| refusals.handle(id, start)).collect();
        assert!(told[..100].iter().all(|told| *told == Told::Cause(1)));
        assert_eq!(told[100], Told::Others(1));
        assert!(told[101..].iter().all(|told| *told == Told::Nothing));
        assert_eq!(refusals.causes.len(), 100);
        // Those that are over make room.
        assert_eq!(refusals.handle(10_000, start + SILENCE), Told::Cause(1));
        assert_eq!(refusals.causes.len(), 1);
    }

    #[test]
    fn a_strangers_name_cannot_write_a_line_of_the_log() {
        let name = "CN=x\n2026 ERROR \u{1b}[31m\u{202e}ä";
        let told = Stranger(name).to_string();
        assert_eq!(told, "`CN=x\\u{a}2026 ERROR \\u{1b}[31m\\u{202e}\\u{e4}`");
        assert!(Stranger(&"a".repeat(5_000)).to_string().len() < 130);
    }
}
