//! How many files and connections this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// File descriptors that a master uses for each minion: TCP, and both ends of its unix socket.
pub const PER_CONNECTION: u64 = 3;

/// File descriptors kept back for the store, logs and local sockets.
const RESERVED: u64 = 128;

/// What `RLIMIT_NOFILE` allows, after it was raised as far as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The most open descriptors; `None` if there is no limit.
    pub descriptors: Option<u64>,
}

impl DescriptorLimit {
    /// How many minions can be connected at once; `None` if there is no limit.
    #[must_use]
    pub fn connections(self) -> Option<u64> {
        self.descriptors.map(|most| most.saturating_sub(RESERVED) / PER_CONNECTION)
    }
}

/// Raises the soft limit of `RLIMIT_NOFILE` to the hard one, and reports what holds afterwards.
#[must_use]
pub fn raise_limit() -> DescriptorLimit {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    DescriptorLimit { descriptors: getrlimit(Resource::Nofile).current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit();
        assert_eq!(limit.descriptors, getrlimit(Resource::Nofile).maximum);
    }

    #[test]
    fn a_limit_tells_how_many_minions_fit() {
        let limit = DescriptorLimit { descriptors: Some(1024) };
        assert_eq!(limit.connections(), Some(298));
        assert_eq!(DescriptorLimit { descriptors: None }.connections(), None);
    }
}
