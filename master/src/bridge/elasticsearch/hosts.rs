//! Which host of a cluster is asked next: in turn, but those that failed rest, each for longer, and one that turns out to
//! be of another cluster is not written to. A machine.

use std::time::{Duration, Instant};

/// How long a host rests after it failed first; each further time it is twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The hosts of one cluster.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
    next: usize,
    /// The cluster that the bridge writes to, by its UUID.
    cluster: Option<String>,
    epoch: u64,
}

#[derive(Debug, Clone, Default)]
struct Host {
    rest: Option<(Duration, Instant)>,
    /// Whether it was asked who it is since it failed.
    is_greeted: bool,
    /// The cluster that it was of when it was asked.
    cluster: Option<String>,
}

/// A host of another cluster than the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stranger {
    /// The UUID of the cluster that the bridge writes to.
    pub(super) known: String,
}

impl Hosts {
    /// So many hosts, of which nothing is known.
    pub(super) fn new(count: usize) -> Self {
        debug_assert!(count > 0, "the configuration names a host");
        Self { hosts: vec![Host::default(); count], next: 0, cluster: None, epoch: 0 }
    }

    /// The next host to ask that is not in `asked`. All resting, the one that has rested longest is asked: whoever calls
    /// waits between its own tries.
    pub(super) fn choose(&mut self, asked: &[usize], now: Instant) -> Option<usize> {
        let count = self.hosts.len();
        let open = |at: &usize| !asked.contains(at);
        let in_turn = (0..count).map(|step| (self.next + step) % count).filter(open);
        let is_awake = |at: &usize| self.hosts[*at].rest.is_none_or(|(_, until)| until <= now);
        let chosen = in_turn.clone().find(is_awake).or_else(|| {
            // One that rests is not asked for the sake of a request that another host has failed already.
            let first = in_turn.min_by_key(|at| self.hosts[*at].rest.map(|(_, until)| until));
            first.filter(|_| asked.is_empty())
        })?;
        self.next = (chosen + 1) % count;
        Some(chosen)
    }

    /// Whether a host is known to be of the cluster.
    pub(super) fn is_greeted(&self, host: usize) -> bool {
        self.hosts[host].is_greeted
    }

    /// A host said of which cluster it is. Where all of them say the same, that is the cluster, also if it was another one
    /// before: it was made anew.
    pub(super) fn handle_greeting(&mut self, host: usize, cluster: &str) -> Result<(), Stranger> {
        self.hosts[host].cluster = Some(cluster.to_owned());
        let is_all = self.hosts.iter().all(|host| host.cluster.as_deref() == Some(cluster));
        match &self.cluster {
            Some(known) if known != cluster && !is_all => {
                return Err(Stranger { known: known.clone() });
            }
            Some(known) if known == cluster => {}
            Some(_) | None => {
                self.cluster = Some(cluster.to_owned());
                self.epoch += 1;
            }
        }
        self.hosts[host].is_greeted = true;
        Ok(())
    }

    /// A host answered as it should.
    pub(super) fn handle_success(&mut self, host: usize) {
        self.hosts[host].rest = None;
    }

    /// A host did not answer, or not as it should: it rests, and what comes back may be another one.
    pub(super) fn handle_failure(&mut self, host: usize, now: Instant) {
        let at = &mut self.hosts[host];
        let rest = at.rest.map_or(FIRST_REST, |(rest, _)| (rest * 2).min(LONGEST_REST));
        at.rest = Some((rest, now + rest));
        at.is_greeted = false;
        self.epoch += 1;
    }

    /// It changes whenever what was known of the cluster may no longer be so.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant() -> Instant {
        crate::clock::Now::read().instant
    }

    #[test]
    fn hosts_take_turns_and_one_that_failed_rests_for_longer_each_time() {
        let (mut hosts, now) = (Hosts::new(3), instant());
        let turns: Vec<_> = (0..4).map(|_| hosts.choose(&[], now).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0]);
        hosts.handle_failure(1, now);
        assert_eq!(hosts.choose(&[], now), Some(2));
        let late = now + FIRST_REST;
        assert_eq!((hosts.choose(&[], late), hosts.choose(&[], late)), (Some(0), Some(1)));
        hosts.handle_failure(1, late);
        assert_eq!((hosts.choose(&[], late), hosts.choose(&[], late)), (Some(2), Some(0)));
        assert_eq!(hosts.choose(&[], late + FIRST_REST), Some(2));
        hosts.handle_success(1);
        assert_eq!((hosts.choose(&[], late), hosts.choose(&[], late)), (Some(0), Some(1)));
    }

    #[test]
    fn a_request_goes_to_each_host_once_and_to_the_longest_at_rest_where_all_rest() {
        let (mut hosts, now) = (Hosts::new(2), instant());
        assert_eq!(hosts.choose(&[], now), Some(0));
        hosts.handle_failure(0, now);
        assert_eq!(hosts.choose(&[0], now), Some(1));
        hosts.handle_failure(1, now + Duration::from_millis(1));
        assert_eq!(hosts.choose(&[0, 1], now), None);
        assert_eq!(hosts.choose(&[], now), Some(0), "the first try after a pause is not lost");
        assert_eq!(hosts.choose(&[0], now), None);
    }

    #[test]
    fn a_host_of_another_cluster_is_not_written_to() {
        let (mut hosts, now) = (Hosts::new(2), instant());
        assert_eq!(hosts.handle_greeting(0, "A"), Ok(()));
        assert_eq!(hosts.handle_greeting(1, "B"), Err(Stranger { known: "A".into() }));
        assert!(hosts.is_greeted(0) && !hosts.is_greeted(1));
        // Not either when the first comes back, or is away.
        hosts.handle_failure(0, now);
        assert!(hosts.handle_greeting(1, "B").is_err());
        assert_eq!(hosts.handle_greeting(0, "A"), Ok(()));
    }

    #[test]
    fn a_cluster_that_was_made_anew_is_taken_once_all_its_hosts_say_so() {
        let mut hosts = Hosts::new(2);
        assert_eq!(
            (hosts.handle_greeting(0, "A"), hosts.handle_greeting(1, "A")),
            (Ok(()), Ok(()))
        );
        let epoch = hosts.epoch();
        assert!(hosts.handle_greeting(0, "B").is_err());
        assert_eq!(hosts.handle_greeting(1, "B"), Ok(()));
        assert_ne!(hosts.epoch(), epoch);
        assert_eq!(hosts.handle_greeting(0, "B"), Ok(()));

        let mut one = Hosts::new(1);
        assert_eq!((one.handle_greeting(0, "A"), one.handle_greeting(0, "B")), (Ok(()), Ok(())));
    }
}
