//! What a bridge tells of itself: that its server is away or back, and that events could not be delivered; each at most
//! once a minute, so that a bridge never feeds itself. A machine.

use std::time::{Duration, Instant};

/// No more than one announcement of a kind in this time.
const APART: Duration = Duration::from_secs(60);

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The sink takes events again.
    Up,
    /// It does not.
    Down {
        /// Why.
        reason: String,
    },
    /// Events were refused for good.
    DeadLetters {
        /// How many since the last time that this was told.
        count: u64,
        /// The last one's reason.
        reason: String,
    },
}

/// What is known and what was told.
#[derive(Debug, Default)]
pub struct Health {
    /// Why it is down, if it is.
    down: Option<String>,
    told_down: bool,
    told_at: Option<Instant>,
    dead: u64,
    dead_reason: String,
    dead_told_at: Option<Instant>,
}

impl Health {
    /// The sink took something.
    pub fn handle_success(&mut self) {
        self.down = None;
    }

    /// It did not.
    pub fn handle_failure(&mut self, reason: &str) {
        self.down = Some(reason.to_owned());
    }

    /// An event was refused for good.
    pub fn handle_dead(&mut self, reason: &str) {
        self.dead += 1;
        reason.clone_into(&mut self.dead_reason);
    }

    /// Why it is down, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// What is to be told now.
    pub fn poll_event(&mut self, now: Instant) -> Option<Announcement> {
        if self.is_news() && is_due(self.told_at, now) {
            self.told_at = Some(now);
            self.told_down = self.down.is_some();
            return Some(match &self.down {
                Some(reason) => Announcement::Down { reason: reason.clone() },
                None => Announcement::Up,
            });
        }
        if self.dead > 0 && is_due(self.dead_told_at, now) {
            self.dead_told_at = Some(now);
            let count = std::mem::take(&mut self.dead);
            let reason = std::mem::take(&mut self.dead_reason);
            return Some(Announcement::DeadLetters { count, reason });
        }
        None
    }

    /// When [`Self::poll_event`] will have something that it keeps back now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let news = self.told_at.filter(|_| self.is_news());
        let dead = self.dead_told_at.filter(|_| self.dead > 0);
        news.into_iter().chain(dead).min().map(|told| told + APART)
    }

    const fn is_news(&self) -> bool {
        self.down.is_some() != self.told_down
    }
}

fn is_due(told: Option<Instant>, now: Instant) -> bool {
    told.is_none_or(|told| now >= told + APART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[test]
    fn away_and_back_are_told_and_a_trembling_server_is_not_a_flood() {
        let (mut health, start) = (Health::default(), Now::read().instant);
        health.handle_success();
        assert_eq!(health.poll_event(start), None, "a bridge that works says nothing");
        let mut told = Vec::new();
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            if second % 2 == 0 {
                health.handle_failure("away")
            } else {
                health.handle_success()
            }
            told.extend(health.poll_event(now));
        }
        assert!(told.len() <= 10, "{} announcements", told.len());
        assert_eq!(told[0], Announcement::Down { reason: "away".into() });
        assert_eq!(told[1], Announcement::Up);
    }

    #[test]
    fn what_was_kept_back_is_told_when_its_minute_is_over() {
        let (mut health, start) = (Health::default(), Now::read().instant);
        health.handle_failure("away");
        assert!(health.poll_event(start).is_some());
        health.handle_success();
        assert_eq!(health.poll_event(start), None);
        let due = health.poll_timeout().unwrap();
        assert_eq!(due, start + APART);
        assert_eq!(health.poll_event(due), Some(Announcement::Up));
        assert_eq!(health.poll_timeout(), None);
    }

    #[test]
    fn dead_letters_are_counted() {
        let (mut health, start) = (Health::default(), Now::read().instant);
        for _ in 0..5 {
            health.handle_dead("no");
        }
        let reason = String::from("no");
        assert_eq!(health.poll_event(start), Some(Announcement::DeadLetters { count: 5, reason }));
        health.handle_dead("never");
        assert_eq!(health.poll_event(start), None);
        let reason = String::from("never");
        let told = health.poll_event(start + APART);
        assert_eq!(told, Some(Announcement::DeadLetters { count: 1, reason }));
    }
}
