//! When a device asks for its next operational certificate (docs/protocol.md §4.7): at about two thirds of the life of
//! the one that it has, at once where the session is for nothing else, and sooner if the master says so. A machine: the
//! agent makes the keys, sends the requests and keeps what comes.

use std::time::{Duration, Instant};

use drover_proto::{message::Scope, session::jitter::Jitter};
use jiff::Timestamp;

/// In hundredths of a certificate's life: it is renewed at a moment drawn between the two, so that a fleet that was
/// made in one day does not come in one moment.
const DUE: (u32, u32) = (60, 73);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait after a failure, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));
/// Likewise while the device can do nothing else.
const URGENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Certificates follow each other no closer than this part of the life of the one in hand, whatever the master wants,
const APART: u32 = 30;
/// but for so many: authorities may change as a device comes for the first time.
const HASTY: u32 = 3;
/// The requests' numbers begin here: those for files and pillar stay below.
const NUMBERS: u64 = 1 << 63;

/// For how long a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Term {
    fn life(self) -> Duration {
        Duration::try_from(self.issued.duration_until(self.expires)).unwrap_or_default()
    }
}

/// See the module. One for each run of the agent.
#[derive(Debug)]
pub struct Renewal {
    jitter: Jitter,
    held: Option<Held>,
    session: Option<Session>,
    /// The master wants it by then.
    wanted_by: Option<Instant>,
    retires: Option<Timestamp>,
    /// The number of the open request, and until when its answer may come.
    open: Option<(u64, Instant)>,
    numbers: u64,
    /// Since the last full session that a new certificate led to.
    failures: u32,
    not_before: Option<Instant>,
    /// The newest certificate has not led to a full session yet.
    is_unproven: bool,
    /// How many certificates in a row led back to a session for renewal.
    in_vain: u32,
    /// How many came sooner after the one before than they should, less those that did not.
    hasty: u32,
}

/// The certificate that is renewed.
#[derive(Debug, Clone, Copy)]
struct Held {
    term: Term,
    /// At this age it is due.
    due: Duration,
    /// When it came, if it was in this run of the agent.
    taken: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    scope: Scope,
    /// The clock that was put right, and the moment at which it was read.
    wall: Timestamp,
    at: Instant,
}

impl Renewal {
    /// For a device that has this operational certificate, or none. `seed` sets it apart from others.
    #[must_use]
    pub fn new(term: Option<Term>, seed: u64) -> Self {
        let mut renewal = Self {
            jitter: Jitter::new(seed),
            held: None,
            session: None,
            wanted_by: None,
            retires: None,
            open: None,
            numbers: NUMBERS,
            failures: 0,
            not_before: None,
            is_unproven: false,
            in_vain: 0,
            hasty: 0,
        };
        renewal.held = term.map(|term| renewal.hold(term));
        renewal
    }

    /// A session begins. `wall` is the time, put right by the welcome.
    pub fn handle_connected(
        &mut self,
        scope: Scope,
        retires: Option<Timestamp>,
        wall: Timestamp,
        now: Instant,
    ) {
        self.session = Some(Session { scope, wall, at: now });
        self.retires = retires;
        match scope {
            Scope::Full => {
                (self.is_unproven, self.in_vain, self.failures) = (false, 0, 0);
                self.not_before = None;
            }
            // The newest certificate led back here. Once may be an accident; more often must not become a loop.
            Scope::Renewal if self.is_unproven => {
                self.is_unproven = false;
                self.in_vain += 1;
                self.failures += 1;
                if self.failures > 1 {
                    self.wait(now);
                }
            }
            Scope::Renewal => {}
        }
    }

    /// The session ended, and with it the open request: whatever was issued for its key is of no use to anybody.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.open.is_some() {
            self.fail(now);
        }
        self.session = None;
    }

    /// The master asks for a renewal at a random moment within this time.
    pub fn handle_renew(&mut self, within: Duration, now: Instant) {
        let at = now.checked_add(self.jitter.between(Duration::ZERO, within));
        self.wanted_by = [self.wanted_by, at].into_iter().flatten().min();
    }

    /// The day on which the device ends changed.
    pub fn handle_retirement(&mut self, at: Option<Timestamp>) {
        self.retires = at;
    }

    /// The answer to a request verified, and the device has it.
    pub fn handle_certificate(&mut self, term: Term, now: Instant) {
        let is_hasty = self.held.and_then(Held::apart_until).is_some_and(|until| now < until);
        self.hasty = if is_hasty { self.hasty + 1 } else { self.hasty.saturating_sub(1) };
        self.held = Some(Held { taken: Some(now), ..self.hold(term) });
        (self.open, self.wanted_by, self.not_before) = (None, None, None);
        self.is_unproven = true;
    }

    /// A request was refused, or its answer is of no use.
    pub fn handle_failure(&mut self, request: u64, now: Instant) {
        if self.is_open(request) {
            self.fail(now);
        }
    }

    /// Gives up on an answer that does not come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.open.is_some_and(|(_, give_up_at)| give_up_at <= now) {
            self.fail(now);
        }
    }

    /// The number of a request that is to be made now, with a new key.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<u64> {
        if self.open.is_some() || self.due_at()? > now {
            return None;
        }
        let request = self.numbers;
        self.numbers += 1;
        self.open = Some((request, now + PATIENCE));
        Some(request)
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.map(|(_, give_up_at)| give_up_at).or_else(|| self.due_at())
    }

    /// Whether this request waits for its answer.
    #[must_use]
    pub fn is_open(&self, request: u64) -> bool {
        self.open.is_some_and(|(open, _)| open == request)
    }

    /// When the device ends, as the master said last.
    #[must_use]
    pub const fn retires(&self) -> Option<Timestamp> {
        self.retires
    }

    /// When the next request is due in this session; never, if the device has ended by then.
    fn due_at(&self) -> Option<Instant> {
        let session = self.session?;
        let due = match session.scope {
            // What this session is for is done.
            Scope::Renewal if self.is_unproven => None,
            Scope::Renewal => Some(session.at),
            // A birth certificate that is good for everything is not renewed.
            Scope::Full => {
                let held = self.held?;
                let due = [self.of_age_at(session), self.wanted_by].into_iter().flatten().min()?;
                let apart = held.apart_until().filter(|_| self.hasty >= HASTY);
                Some(apart.map_or(due, |at| at.max(due)))
            }
        };
        let due = due?.max(self.not_before.unwrap_or(session.at));
        let has_ended = self.retires.is_some_and(|end| session.instant(end) <= Some(due));
        (!has_ended).then_some(due)
    }

    fn of_age_at(&self, session: Session) -> Option<Instant> {
        let held = self.held?;
        session.instant(held.term.issued.checked_add(held.due).ok()?)
    }

    fn hold(&mut self, term: Term) -> Held {
        let hundredth = term.life() / 100;
        let due = self.jitter.between(hundredth * DUE.0, hundredth * DUE.1);
        Held { term, due, taken: None }
    }

    fn fail(&mut self, now: Instant) {
        self.open = None;
        self.failures += 1;
        self.wait(now);
    }

    fn wait(&mut self, now: Instant) {
        let is_urgent = self.session.is_some_and(|session| session.scope == Scope::Renewal);
        let life = self.held.map_or(Duration::MAX, |held| held.term.life());
        let (first, most) = match (is_urgent, self.in_vain) {
            (false, _) => (WAIT.0.min(life / 40), WAIT.1.min(life / 10)),
            (true, 0 | 1) => URGENT,
            // Each of these was written to the disk for nothing.
            (true, _) => (URGENT.0, WAIT.1.min(life / 10).max(URGENT.1)),
        };
        let doubled = first.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let wait = doubled.min(most);
        self.not_before = now.checked_add(self.jitter.between(wait / 2, wait));
    }
}

impl Held {
    /// Until when no other should follow it.
    fn apart_until(self) -> Option<Instant> {
        self.taken?.checked_add(self.term.life() / APART)
    }
}

impl Session {
    /// The moment of a time; the session's beginning for one that was before it.
    fn instant(self, time: Timestamp) -> Option<Instant> {
        let ahead = Duration::try_from(self.wall.duration_until(time)).unwrap_or_default();
        self.at.checked_add(ahead)
    }
}

#[cfg(test)]
mod tests;
