//! What is written when the disk is nearly full. A machine: the writer tells it what is free before each commit, and it
//! says who may still write. The engine never meets a full disk: a write that fails half-way ends it.

use jiff::Timestamp;

/// The reserve's file is a quarter of it, and no more than this.
const LARGEST_BALLAST: u64 = 16 << 20;
/// What the engine may need at once, however little is written: pages, and its list of them.
const LARGEST_MARGIN: u64 = 1 << 20;

/// Who needs a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Minions, operators and programs: it can come again.
    Outside,
    /// The master itself, which goes on meanwhile: it waits.
    Master,
    /// Whoever takes a device's keys away.
    Essential,
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Write,
    Hold,
    Refuse,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Full,
    Open { since: Timestamp },
}

/// How much there is to write in, from the most to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Open,
    /// Within the reserve.
    Reserve,
    /// Within the last half of what is the store's alone.
    Last,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Room {
    reserve: u64,
    grade: Grade,
    since: Option<Timestamp>,
}

impl Room {
    pub(super) const fn new(reserve: u64) -> Self {
        Self { reserve, grade: Grade::Open, since: None }
    }

    /// How large the reserve's file is to be.
    pub(super) fn ballast(&self) -> u64 {
        (self.reserve / 4).min(LARGEST_BALLAST)
    }

    /// What has to be free so that the engine can write a little.
    pub(super) fn margin(&self) -> u64 {
        (self.reserve / 8).min(LARGEST_MARGIN)
    }

    /// What the disk has free, with the reserve's file; whether the store is full now, or no longer.
    pub(super) fn handle_available(&mut self, available: u64, now: Timestamp) -> Option<Turn> {
        let margin = self.margin();
        // It opens with a little more than it closes with, so that it does not go to and fro.
        let enough = match self.since {
            None => self.reserve,
            Some(_) => self.reserve.saturating_add(self.reserve / 8),
        };
        self.grade = match available {
            _ if available >= enough => Grade::Open,
            _ if available >= self.ballast() / 2 + margin => Grade::Reserve,
            _ if available >= margin => Grade::Last,
            _ => Grade::Nothing,
        };
        match (self.grade, self.since) {
            (Grade::Open, Some(since)) => {
                self.since = None;
                Some(Turn::Open { since })
            }
            (Grade::Reserve | Grade::Last | Grade::Nothing, None) => {
                self.since = Some(now);
                Some(Turn::Full)
            }
            (Grade::Open, None) | (Grade::Reserve | Grade::Last | Grade::Nothing, Some(_)) => None,
        }
    }

    /// What becomes of a write.
    pub(super) const fn admit(&self, need: Need) -> Admission {
        match (self.grade, need) {
            (Grade::Open, _)
            | (Grade::Reserve, Need::Master | Need::Essential)
            | (Grade::Last, Need::Essential) => Admission::Write,
            (Grade::Last | Grade::Nothing, Need::Master) => Admission::Hold,
            (_, Need::Outside) | (Grade::Nothing, Need::Essential) => Admission::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_can_come_again_is_refused_first_and_keys_can_be_revoked_to_the_last() {
        let mut room = Room::new(64 * MIB);
        assert_eq!((room.ballast(), room.margin()), (16 * MIB, MIB));
        let needs = [Need::Outside, Need::Master, Need::Essential];
        let mut admitted = |mib| {
            room.handle_available(mib * MIB, Timestamp::UNIX_EPOCH);
            needs.map(|need| room.admit(need))
        };
        use Admission::{Hold, Refuse, Write};
        assert_eq!(admitted(64), [Write, Write, Write]);
        assert_eq!(admitted(63), [Refuse, Write, Write]);
        assert_eq!(admitted(9), [Refuse, Write, Write]);
        assert_eq!(admitted(8), [Refuse, Hold, Write]);
        assert_eq!(admitted(0), [Refuse, Hold, Refuse]);
        assert_eq!(admitted(64), [Refuse, Write, Write], "a little more than that opens it");
        assert_eq!(admitted(72), [Write, Write, Write]);
    }

    #[test]
    fn a_store_is_full_once_and_open_once() {
        let mut room = Room::new(64 * MIB);
        let (one, two) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        assert_eq!(room.handle_available(100 * MIB, one), None);
        assert_eq!(room.handle_available(1, one), Some(Turn::Full));
        assert_eq!(room.handle_available(30 * MIB, two), None);
        assert_eq!(room.handle_available(100 * MIB, two), Some(Turn::Open { since: one }));
        assert_eq!(room.handle_available(100 * MIB, two), None);
    }
}
