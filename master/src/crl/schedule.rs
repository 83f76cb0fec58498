//! When an authority's next list is due, and what it names: the machine behind one `crl.pem`. It
//! signs nothing and writes nothing; the task does, and says what came of it.

use std::time::Duration;

use drover_pki::{KeyDigest, certificate::SerialNumber, crl::RevocationReason};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The shortest validity: times in a list are whole seconds, and half of it has to be one.
const SHORTEST: Duration = Duration::from_secs(2);
/// How soon a list that could not be signed or written is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// A certificate that was taken back before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The authority that issued it, by its key.
    pub issuer: KeyDigest,
    /// The certificate's serial number.
    pub serial: SerialNumber,
    /// The end of its validity.
    pub expires: Timestamp,
    /// When it was revoked.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Which list an authority signed last. It is durable before the list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Its number.
    pub(super) number: u64,
    /// When it was made.
    pub(super) this_update: Timestamp,
    /// By when there will be another.
    pub(super) next_update: Timestamp,
    /// When the last list was made that was due by time, and not only because something was revoked.
    /// Where things are revoked all the time, that is one of those lists now and then.
    pub(super) regular: Timestamp,
}

impl Mark {
    /// Nothing is known of the list but its number.
    const fn numbered(number: u64) -> Self {
        let never = Timestamp::UNIX_EPOCH;
        Self { number, this_update: never, next_update: never, regular: never }
    }
}

/// Decides when one authority signs its next list.
#[derive(Debug)]
pub(super) struct Schedule {
    validity: Duration,
    mark: Option<Mark>,
    is_changed: bool,
    retry: Option<Timestamp>,
}

impl Schedule {
    /// For an authority whose last list had this mark.
    pub(super) fn new(validity: Duration, mark: Option<Mark>) -> Self {
        let validity = validity.max(SHORTEST);
        Self { validity, mark, is_changed: false, retry: None }
    }

    /// Something was revoked that the last list does not name, or the last list is lost.
    pub(super) fn handle_change(&mut self) {
        self.is_changed = true;
        self.retry = None;
    }

    /// A list with this number exists that is not in the store: an older store was put back.
    pub(super) fn handle_number(&mut self, number: u64) {
        let mark = self.mark.get_or_insert(Mark::numbered(0));
        if number > mark.number {
            mark.number = number;
            self.is_changed = true;
        }
    }

    /// The list is signed and written.
    pub(super) fn handle_published(&mut self, mark: Mark) {
        *self = Self { mark: Some(mark), is_changed: false, retry: None, ..*self };
    }

    /// The list could not be signed or written. Its number is not used again.
    pub(super) fn handle_failed(&mut self, mark: Mark, now: Timestamp) {
        let number = mark.number;
        self.mark = Some(Mark { number, ..self.mark.unwrap_or(Mark::numbered(number)) });
        self.is_changed = true;
        self.retry = Some(later(now, RETRY));
    }

    /// The list to be made now, if one is due.
    pub(super) fn poll_list(&self, now: Timestamp) -> Option<Mark> {
        if self.retry.is_some_and(|retry| now < retry) {
            return None;
        }
        if !self.is_due(now) && !self.is_changed {
            return None;
        }
        // Whole seconds, as the list has them: else what is due by the one is not by the other.
        let this_update = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Some(Mark {
            number: self.mark.map_or(0, |mark| mark.number).saturating_add(1),
            this_update,
            next_update: later(this_update, self.validity),
            regular: match self.mark {
                Some(mark) if now < self.half_way(&mark, mark.regular) => mark.regular,
                Some(_) | None => this_update,
            },
        })
    }

    /// When to ask again, where nothing else happens.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.retry.or_else(|| self.renewal())
    }

    /// Whether the next list names a certificate. RFC 5280 §3.3: an entry stays until it was on a
    /// regular list that was made after the certificate's end.
    pub(super) fn names(&self, revocation: &Revocation) -> bool {
        let over = revocation.expires.max(revocation.at);
        self.mark.is_none_or(|mark| mark.regular <= over)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was put back would leave a list from the future standing.
        let is_from_future = self.mark.is_some_and(|mark| mark.this_update > now);
        is_from_future || self.renewal().is_none_or(|renewal| renewal <= now)
    }

    /// Half-way to its end.
    fn renewal(&self) -> Option<Timestamp> {
        self.mark.map(|mark| self.half_way(&mark, mark.this_update))
    }

    /// Half of how long a list lasts after `since`, or sooner where the configuration was changed.
    fn half_way(&self, mark: &Mark, since: Timestamp) -> Timestamp {
        let lasts = Duration::try_from(mark.next_update.duration_since(mark.this_update));
        later(since, lasts.unwrap_or_default().min(self.validity) / 2)
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn at(days: u64) -> Timestamp {
        later(START, Duration::from_secs(days * 86_400))
    }

    /// Publishes the list that is due, and gives its mark.
    fn publish(schedule: &mut Schedule, now: Timestamp) -> Mark {
        let mark = schedule.poll_list(now).expect("a list is due");
        schedule.handle_published(mark);
        mark
    }

    fn revocation(expires: Timestamp) -> Revocation {
        Revocation {
            issuer: KeyDigest::of(b"a"),
            serial: "01".parse().unwrap(),
            expires,
            at: START,
            reason: RevocationReason::default(),
        }
    }

    #[test]
    fn the_first_list_is_due_at_once_and_the_next_half_way_to_its_end() {
        let mut schedule = Schedule::new(WEEK, None);
        assert_eq!(schedule.poll_timeout(), None);
        let first = publish(&mut schedule, START);
        assert_eq!((first.number, first.this_update, first.next_update), (1, START, at(7)));
        assert_eq!(schedule.poll_list(at(3)), None);
        assert_eq!(schedule.poll_timeout(), Some(START + SignedDuration::from_hours(84)));
        assert_eq!(publish(&mut schedule, at(4)).number, 2);
    }

    #[test]
    fn a_revocation_makes_a_list_at_once_and_numbers_rise_over_restarts() {
        let mut schedule = Schedule::new(WEEK, None);
        let first = publish(&mut schedule, START);
        let mut schedule = Schedule::new(WEEK, Some(first));
        assert_eq!(schedule.poll_list(at(1)), None);
        schedule.handle_change();
        let second = publish(&mut schedule, at(1));
        assert_eq!((second.number, second.regular), (2, START));
        assert_eq!(schedule.poll_list(at(1)), None);
    }

    #[test]
    fn an_entry_stays_until_a_regular_list_after_the_certificates_end() {
        let mut schedule = Schedule::new(WEEK, None);
        let revoked = revocation(at(1));
        publish(&mut schedule, START);
        assert!(schedule.names(&revoked));
        // Made for another revocation, after the end: the entry is on it.
        schedule.handle_change();
        publish(&mut schedule, at(2));
        assert!(schedule.names(&revoked));
        // The regular one names it for the last time.
        assert!(schedule.names(&revoked));
        publish(&mut schedule, at(6));
        assert!(!schedule.names(&revoked));
        assert!(schedule.names(&revocation(at(30))));
    }

    #[test]
    fn entries_leave_also_where_something_is_revoked_every_day() {
        let mut schedule = Schedule::new(WEEK, None);
        publish(&mut schedule, START);
        let revoked = revocation(at(1));
        for day in 1..=4 {
            assert!(schedule.names(&revoked));
            schedule.handle_change();
            publish(&mut schedule, at(day));
        }
        assert!(!schedule.names(&revoked));
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_with_another_number() {
        let mut schedule = Schedule::new(WEEK, None);
        publish(&mut schedule, START);
        schedule.handle_change();
        let failed = schedule.poll_list(at(1)).unwrap();
        schedule.handle_failed(failed, at(1));
        assert_eq!(schedule.poll_list(at(1)), None);
        let retry = schedule.poll_timeout().unwrap();
        assert_eq!(retry, later(at(1), RETRY));
        assert_eq!(publish(&mut schedule, retry).number, failed.number + 1);
        assert_eq!(schedule.poll_list(retry), None);
        // A revocation does not wait for the retry.
        let failed = {
            schedule.handle_change();
            schedule.poll_list(at(2)).unwrap()
        };
        schedule.handle_failed(failed, at(2));
        schedule.handle_change();
        assert!(schedule.poll_list(at(2)).is_some());
    }

    #[test]
    fn a_list_that_is_newer_than_the_store_is_gone_on_from() {
        let mut schedule = Schedule::new(WEEK, None);
        schedule.handle_number(41);
        assert_eq!(publish(&mut schedule, START).number, 42);
        schedule.handle_number(7);
        assert_eq!(schedule.poll_list(START), None);
    }

    #[test]
    fn a_clock_that_was_put_back_makes_a_new_list() {
        let mut schedule = Schedule::new(WEEK, None);
        publish(&mut schedule, at(5));
        let again = publish(&mut schedule, START);
        assert_eq!((again.number, again.this_update), (2, START));
    }

    #[test]
    fn a_shorter_validity_counts_at_once() {
        let mut schedule = Schedule::new(WEEK, None);
        let mark = publish(&mut schedule, START);
        let schedule = Schedule::new(Duration::from_millis(1), Some(mark));
        assert_eq!(schedule.poll_timeout(), Some(later(START, Duration::from_secs(1))));
    }
}
