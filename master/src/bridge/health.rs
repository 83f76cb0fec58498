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
    /// It turns us away: somebody has to do something.
    Paused {
        /// Why.
        reason: String,
    },
    /// Events were refused for good.
    DeadLetters {
        /// How many since the last time that this was told.
        count: u64,
        /// How many older ones went for them.
        dropped: u64,
        /// The last one's reason.
        reason: String,
    },
}

/// How the other side is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// It takes events, as far as is known.
    #[default]
    Well,
    /// It is away.
    Down(String),
    /// It turns us away.
    Denied(String),
}

/// What is known and what was told.
#[derive(Debug, Default)]
pub struct Health {
    condition: Condition,
    /// What was told last.
    told: Condition,
    told_at: Option<Instant>,
    dead: u64,
    dropped: u64,
    dead_reason: String,
    dead_told_at: Option<Instant>,
}

impl Health {
    /// The sink took something.
    pub fn handle_success(&mut self) {
        self.condition = Condition::Well;
    }

    /// It did not.
    pub fn handle_failure(&mut self, reason: &str, is_denied: bool) {
        let reason = reason.to_owned();
        self.condition =
            if is_denied { Condition::Denied(reason) } else { Condition::Down(reason) };
    }

    /// An event was refused for good, and so many older letters went for it.
    pub fn handle_dead(&mut self, reason: &str, dropped: usize) {
        self.dead += 1;
        self.dropped += dropped as u64;
        reason.clone_into(&mut self.dead_reason);
    }

    /// How the other side is.
    #[must_use]
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What is to be told now.
    pub fn poll_event(&mut self, now: Instant) -> Option<Announcement> {
        if self.is_news() && is_due(self.told_at, now) {
            self.told_at = Some(now);
            self.told = self.condition.clone();
            return Some(match self.condition.clone() {
                Condition::Well => Announcement::Up,
                Condition::Down(reason) => Announcement::Down { reason },
                Condition::Denied(reason) => Announcement::Paused { reason },
            });
        }
        if self.dead > 0 && is_due(self.dead_told_at, now) {
            self.dead_told_at = Some(now);
            let count = std::mem::take(&mut self.dead);
            let dropped = std::mem::take(&mut self.dropped);
            let reason = std::mem::take(&mut self.dead_reason);
            return Some(Announcement::DeadLetters { count, dropped, reason });
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

    /// Another reason for the same is none.
    fn is_news(&self) -> bool {
        std::mem::discriminant(&self.condition) != std::mem::discriminant(&self.told)
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
                health.handle_failure("away", false)
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
        health.handle_failure("away", false);
        assert!(health.poll_event(start).is_some());
        health.handle_success();
        assert_eq!(health.poll_event(start), None);
        let due = health.poll_timeout().unwrap();
        assert_eq!(due, start + APART);
        assert_eq!(health.poll_event(due), Some(Announcement::Up));
        assert_eq!(health.poll_timeout(), None);
    }

    #[test]
    fn one_that_is_turned_away_is_another_matter_than_one_that_is_away() {
        let (mut health, start) = (Health::default(), Now::read().instant);
        health.handle_failure("connection refused", false);
        assert!(matches!(health.poll_event(start), Some(Announcement::Down { .. })));
        health.handle_failure("401", true);
        let told = health.poll_event(start + APART);
        assert_eq!(told, Some(Announcement::Paused { reason: "401".into() }));
        health.handle_failure("403", true);
        assert_eq!(health.poll_event(start + 2 * APART), None, "another reason is no news");
    }

    #[test]
    fn dead_letters_are_counted() {
        let (mut health, start) = (Health::default(), Now::read().instant);
        for _ in 0..5 {
            health.handle_dead("no", 1);
        }
        let reason = String::from("no");
        assert_eq!(
            health.poll_event(start),
            Some(Announcement::DeadLetters { count: 5, dropped: 5, reason })
        );
        health.handle_dead("never", 0);
        assert_eq!(health.poll_event(start), None);
        let reason = String::from("never");
        let told = health.poll_event(start + APART);
        assert_eq!(told, Some(Announcement::DeadLetters { count: 1, dropped: 0, reason }));
    }
}
