//! Which connections stand, and how each of them can be cut.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use drover_pki::MinionId;
use thiserror::Error;
use tokio::sync::oneshot;

/// One connection of one minion: also its ROUTER identity, `<minion id>/<connection number>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Whose certificate was shown.
    pub minion: MinionId,
    /// Counts the connections since the gateway started.
    pub number: u64,
}

impl ConnectionId {
    /// Reads the identity frame that ROUTER puts before a message. `None` if it is not one of ours.
    #[must_use]
    pub fn from_identity(identity: &[u8]) -> Option<Self> {
        let (minion, number) = std::str::from_utf8(identity).ok()?.split_once('/')?;
        Some(Self { minion: MinionId::from_str(minion).ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.minion, self.number)
    }
}

/// Why the master ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CutReason {
    /// The registry does not accept the minion any more.
    #[error("the minion is not accepted any more")]
    NotAccepted,
    /// The minion has newer connections, and too many.
    #[error("the minion has newer connections")]
    Superseded,
    /// The session found that the peer misbehaves.
    #[error("the session ended it")]
    Session,
    /// The master stops.
    #[error("the master stops")]
    Shutdown,
}

/// The open connections of one gateway.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_number: HashMap<u64, Open>,
    by_minion: HashMap<MinionId, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Open {
    minion: MinionId,
    /// Newer ones do not push it out: the master ends it itself.
    is_kept: bool,
    cut: oneshot::Sender<CutReason>,
}

impl Connections {
    /// Takes a connection in. Beyond `most` of one minion its oldest is cut that is not kept.
    pub(super) fn insert(
        &mut self,
        connection: &ConnectionId,
        most: usize,
    ) -> oneshot::Receiver<CutReason> {
        let (cut, receiver) = oneshot::channel();
        let numbers = self.by_minion.entry(connection.minion.clone()).or_default();
        numbers.insert(connection.number);
        let is_kept = |number: &u64| self.by_number.get(number).is_some_and(|open| open.is_kept);
        let oldest = numbers.iter().copied().find(|number| !is_kept(number));
        let oldest = oldest.filter(|_| numbers.len() > most);
        let minion = connection.minion.clone();
        self.by_number.insert(connection.number, Open { minion, is_kept: false, cut });
        if let Some(oldest) = oldest {
            self.cut(oldest, CutReason::Superseded);
        }
        receiver
    }

    /// Newer connections of its minion do not push this one out any more.
    pub(super) fn keep(&mut self, number: u64) {
        if let Some(open) = self.by_number.get_mut(&number) {
            open.is_kept = true;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<oneshot::Sender<CutReason>> {
        let open = self.by_number.remove(&number)?;
        if let Some(numbers) = self.by_minion.get_mut(&open.minion) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_minion.remove(&open.minion);
            }
        }
        Some(open.cut)
    }

    /// Ends one connection; false if there is none of this number.
    pub(super) fn cut(&mut self, number: u64, reason: CutReason) -> bool {
        self.remove(number).is_some_and(|cut| cut.send(reason).is_ok())
    }

    /// Ends all connections of one minion and returns how many there were.
    pub(super) fn cut_minion(&mut self, minion: &MinionId, reason: CutReason) -> usize {
        let numbers = self.by_minion.get(minion).cloned().unwrap_or_default();
        numbers.into_iter().filter(|&number| self.cut(number, reason)).count()
    }

    pub(super) fn cut_all(&mut self, reason: CutReason) {
        let numbers: Vec<_> = self.by_number.keys().copied().collect();
        for number in numbers {
            self.cut(number, reason);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(minion: &str, number: u64) -> ConnectionId {
        ConnectionId { minion: minion.parse().unwrap(), number }
    }

    #[test]
    fn an_identity_reads_back_as_the_connection() {
        let id = connection("rfid-0042", 7);
        assert_eq!(id.to_string(), "rfid-0042/7");
        assert_eq!(ConnectionId::from_identity(b"rfid-0042/7"), Some(id));
        assert_eq!(ConnectionId::from_identity(b"rfid-0042"), None);
        assert_eq!(ConnectionId::from_identity(b"\xff/7"), None);
    }

    #[test]
    fn cutting_a_minion_cuts_all_its_connections_and_no_others() {
        let mut connections = Connections::default();
        let mut first = connections.insert(&connection("a", 1), 4);
        let mut second = connections.insert(&connection("a", 2), 4);
        let mut other = connections.insert(&connection("b", 3), 4);
        let cut = connections.cut_minion(&"a".parse().unwrap(), CutReason::NotAccepted);
        assert_eq!((cut, connections.len()), (2, 1));
        assert_eq!(first.try_recv(), Ok(CutReason::NotAccepted));
        assert_eq!(second.try_recv(), Ok(CutReason::NotAccepted));
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn a_minion_that_connects_too_often_loses_its_oldest_connection() {
        let mut connections = Connections::default();
        let mut first = connections.insert(&connection("a", 1), 2);
        let _second = connections.insert(&connection("a", 2), 2);
        let _third = connections.insert(&connection("a", 3), 2);
        assert_eq!(first.try_recv(), Ok(CutReason::Superseded));
        assert_eq!(connections.len(), 2);
    }

    #[test]
    fn a_session_that_stands_is_not_pushed_out_by_connections_that_say_nothing() {
        let mut connections = Connections::default();
        let mut session = connections.insert(&connection("a", 1), 2);
        connections.keep(1);
        let mut silent = connections.insert(&connection("a", 2), 2);
        let _newest = connections.insert(&connection("a", 3), 2);
        assert!(session.try_recv().is_err());
        assert_eq!(silent.try_recv(), Ok(CutReason::Superseded));
        assert!(connections.cut(1, CutReason::Superseded), "the master may");
    }
}
