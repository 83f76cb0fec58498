//! How connections began, counted for whoever watches the master.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a connection's beginning ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The minion proved its key and is accepted.
    Admitted,
    /// It proved its key, and the registry does not accept it.
    NotAccepted,
    /// It showed a certificate that is refused.
    Certificate,
    /// The TLS handshake failed for another reason: no TLS, another version, an early end.
    Tls,
    /// The TLS handshake took too long.
    TimedOut,
    /// It was pushed out of the lobby by newer ones.
    Displaced,
}

impl Beginning {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Admitted,
        Self::NotAccepted,
        Self::Certificate,
        Self::Tls,
        Self::TimedOut,
        Self::Displaced,
    ];
}

/// Counts since the gateway was made.
#[derive(Debug, Default)]
pub(super) struct Beginnings([AtomicU64; Beginning::ALL.len()]);

impl Beginnings {
    pub(super) fn count(&self, beginning: Beginning) {
        self.0[beginning as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn of(&self, beginning: Beginning) -> u64 {
        self.0[beginning as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_beginning_has_a_count_of_its_own() {
        let beginnings = Beginnings::default();
        for (times, beginning) in Beginning::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| beginnings.count(beginning));
        }
        let counts = Beginning::ALL.map(|beginning| beginnings.of(beginning));
        assert_eq!(counts, [0, 1, 2, 3, 4, 5]);
    }
}
