//! The time of day that events and returns are stamped with: the device's clock or, where that is clearly wrong, the
//! master's of the welcome, carried on by the monotonic clock. Stamps alone; trust in certificates never follows the
//! master's word.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// A difference below this is the link's delay, not the clock's.
const TOLERATED: SignedDuration = SignedDuration::from_secs(5);

/// What the master said the time was, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamps {
    welcome: Option<(Timestamp, Instant)>,
}

impl Stamps {
    pub(super) const fn from_welcome(master: Timestamp, now: Instant) -> Self {
        Self { welcome: Some((master, now)) }
    }

    /// The time of day, when the device's clock shows `device`. That clock may be set at any moment, also within a
    /// session, so it is asked each time anew whether it can be right.
    pub(super) fn at(self, device: Timestamp, now: Instant) -> Timestamp {
        let Some((master, welcomed)) = self.welcome else { return device };
        let passed = SignedDuration::try_from(now.saturating_duration_since(welcomed));
        let expected = passed.ok().and_then(|passed| master.checked_add(passed).ok());
        expected
            .filter(|expected| device.duration_until(*expected).abs() > TOLERATED)
            .unwrap_or(device)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
mod tests {
    use std::time::Duration;

    use drover_proto::{
        codec::decode,
        message::{FromMinion, OutboxEvent, OutboxItem},
        outbox::Outbox,
    };

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn master() -> Timestamp {
        "2026-11-23T02:00:00Z".parse().unwrap()
    }

    fn sent(outbox: &mut Outbox, wall: Timestamp, now: Instant) -> String {
        let (_, frame) = outbox.next_after(0, wall, now).unwrap();
        let FromMinion::Outbox(entry) = decode(&frame).unwrap() else { panic!("an entry") };
        entry.at.to_string()
    }

    #[test]
    fn what_happened_in_1970_is_sent_with_the_time_that_it_was() {
        let boot = Instant::now();
        let mut outbox = Outbox::default();
        let event = OutboxEvent { path: "door/open".to_owned(), data: true.into() };
        outbox.push(OutboxItem::App(event), boot);
        let connected = boot + MINUTE * 10;
        let stamps = Stamps::from_welcome(master(), connected);
        let in_1970 = Timestamp::UNIX_EPOCH + MINUTE * 10;
        let wall = stamps.at(in_1970, connected);
        assert_eq!(sent(&mut outbox, wall, connected), "2026-11-23T01:50:00Z");

        // Sent again after NTP has set the clock, within the same session.
        let later = connected + MINUTE;
        let wall = stamps.at(master() + MINUTE, later);
        assert_eq!(sent(&mut outbox, wall, later), "2026-11-23T01:50:00Z");
    }

    #[test]
    fn a_clock_that_is_set_wrong_within_a_session_is_not_followed() {
        let now = Instant::now();
        let stamps = Stamps::from_welcome(master(), now);
        assert_eq!(stamps.at(Timestamp::UNIX_EPOCH, now + MINUTE), master() + MINUTE);
        let in_2099 = "2099-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(stamps.at(in_2099, now + MINUTE), master() + MINUTE);
    }

    #[test]
    fn a_clock_that_is_about_right_is_left_alone() {
        let now = Instant::now();
        let device = master() - SignedDuration::from_secs(4);
        assert_eq!(Stamps::from_welcome(master(), now).at(device, now), device);
        assert_eq!(Stamps::default().at(device, now), device);
    }
}
