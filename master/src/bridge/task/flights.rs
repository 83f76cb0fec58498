//! What a bridge has its sink do: batches, tests and upkeep, each a task of its own that comes back with its result.

use std::{any::Any, error::Error, panic::AssertUnwindSafe, time::Duration};

use drover_proto::event::Event;
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    BridgeTask, NewEvent, Now, PATIENCE, StoreError, Timestamp, UPKEEP_EVERY, Uuid, error, json,
    now, tag, timeout,
};
use crate::bridge::{
    feed::Transmit,
    handle::{TestVerdict, Tested},
    sink::{Failure, Form, Item, News, Quiet, SinkError, Verdict},
};

/// A sink's answer, or why there is none.
type Answer<T> = Result<Result<T, SinkError>, Lost>;

/// Why a sink did not answer. What it did until then is not known.
pub(super) enum Lost {
    Silent,
    Panicked(String),
}

/// What came back.
pub(super) enum Landed {
    Batch { id: u64, count: usize, answer: Answer<Vec<Verdict>> },
    Test { took: Duration, answer: Answer<Vec<Verdict>>, done: oneshot::Sender<Tested> },
    Upkeep(Answer<Vec<News>>),
}

impl BridgeTask {
    /// Sends what is due and may be sent.
    pub(super) fn launch(&mut self) {
        let now = now();
        let wants_upkeep =
            self.is_running() && now >= self.upkeep_at && self.sink.wants_upkeep(now);
        if now >= self.upkeep_at && !wants_upkeep {
            self.upkeep_at = now + UPKEEP_EVERY;
        }
        self.feed.drain(wants_upkeep || self.is_in_upkeep);
        if wants_upkeep && !self.is_in_upkeep && self.flights.is_empty() {
            self.is_in_upkeep = true;
            let sink = self.sink.clone();
            let quiet = Quiet { since_ambiguous: Some(now - self.ambiguous_at) };
            self.flights.spawn(async move { Landed::Upkeep(answer(sink.upkeep(quiet)).await) });
        }
        // First, as there may always be another batch.
        while self.has_slot() && !self.is_in_upkeep && !wants_upkeep {
            let Some(done) = self.tests.pop_front() else { break };
            let (sink, item) = (self.sink.clone(), self.test_item());
            self.flights.spawn(async move {
                let answer = answer(sink.deliver(&[item])).await;
                Landed::Test { took: super::now() - now, answer, done }
            });
        }
        while self.has_slot() {
            let Some(Transmit { id, items }) = self.feed.poll_transmit(now) else { break };
            let sink = self.sink.clone();
            self.flights.spawn(async move {
                let answer = answer(sink.deliver(&items)).await;
                Landed::Batch { id, count: items.len(), answer }
            });
        }
    }

    /// Whether the sink takes another batch beside those that are on their way.
    pub(super) fn has_slot(&self) -> bool {
        self.flights.len() < self.sink.in_flight().max(1)
    }

    /// Takes what came back.
    pub(super) async fn land(&mut self, landed: Landed) -> Result<(), StoreError> {
        match landed {
            Landed::Batch { id, count, answer } => self.land_batch(id, count, answer),
            Landed::Test { took, answer, done } => {
                let (verdict, reason) = self.said(answer);
                let server = self.sink.server();
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                let tested = Tested { bridge: self.name.clone(), server, ms, verdict, reason };
                // Whoever asked may be gone.
                let _ = done.send(tested);
            }
            Landed::Upkeep(answer) => {
                self.is_in_upkeep = false;
                self.upkeep_at = now() + UPKEEP_EVERY;
                match answer {
                    Ok(Ok(news)) => {
                        for News { what, data } in news {
                            self.append(what, data).await?;
                        }
                    }
                    Ok(Err(error)) => {
                        let is_denied = error.failure() == Failure::Denied;
                        self.handle_failure(&reason(&error), is_denied);
                    }
                    Err(lost) => {
                        let reason = self.lost(lost, "its upkeep");
                        self.handle_failure(&reason, false);
                        self.ambiguous_at = now();
                    }
                }
            }
        }
        Ok(())
    }

    fn land_batch(&mut self, id: u64, count: usize, answer: Answer<Vec<Verdict>>) {
        let now = now();
        let (failure, reason, is_busy) = match answer {
            Ok(Ok(verdicts)) => {
                let late = verdicts.iter().find_map(|verdict| match verdict {
                    Verdict::Later(reason) => Some(reason.clone()),
                    Verdict::Done | Verdict::Refused(_) => None,
                });
                let is_late = |verdict: &Verdict| matches!(verdict, Verdict::Later(_));
                let is_taken = !verdicts.iter().all(is_late);
                let done = verdicts.iter().filter(|verdict| **verdict == Verdict::Done).count();
                self.count(done);
                self.feed.handle_verdicts(id, verdicts, now);
                self.ledger.hurry();
                match late {
                    Some(reason) if !is_taken => self.handle_failure(&reason, false),
                    late => {
                        self.handle_success();
                        if let Some(reason) = late {
                            self.last_error = Some((Timestamp::now(), reason));
                        }
                    }
                }
                return;
            }
            Ok(Err(error)) => (error.failure(), reason(&error), error.is_busy()),
            Err(lost) => (Failure::Away, self.lost(lost, &format!("{count} events")), false),
        };
        self.feed.handle_failure(id, failure, &reason, now);
        match failure {
            // The server is there, and takes smaller ones.
            Failure::TooLarge => self.last_error = Some((Timestamp::now(), reason)),
            Failure::Denied => self.handle_failure(&reason, true),
            // It takes its time, and says so. Nothing is wrong with it.
            Failure::Away if is_busy => self.last_error = Some((Timestamp::now(), reason)),
            Failure::Away => {
                self.ambiguous_at = now;
                self.handle_failure(&reason, false);
            }
        }
    }

    /// An event that is made for a test.
    fn test_item(&self) -> Item {
        let message = format!("a test of the bridge `{}`", self.name);
        let NewEvent { at, tag, minion, data } =
            NewEvent::new(tag(&self.name, "test"), None, json!({"message": message}));
        let ts = Now::read().wall;
        let event = Event { id: Uuid::now_v7(), seq: 0, ts, at, tag, minion, data };
        Item {
            grains: self.choice.grains(&event),
            event: event.into(),
            form: Form::Whole,
            is_retry: false,
        }
    }
    fn said(&self, answer: Answer<Vec<Verdict>>) -> (TestVerdict, Option<String>) {
        match answer {
            Ok(Ok(verdicts)) => match verdicts.into_iter().next() {
                Some(Verdict::Done) => (TestVerdict::Done, None),
                Some(Verdict::Later(reason)) => (TestVerdict::Later, Some(reason)),
                Some(Verdict::Refused(reason)) => (TestVerdict::Refused, Some(reason)),
                None => (TestVerdict::Failed, Some("it says nothing of the event".to_owned())),
            },
            Ok(Err(error)) => (TestVerdict::Failed, Some(reason(&error))),
            Err(lost) => (TestVerdict::Failed, Some(self.lost(lost, "the event"))),
        }
    }

    /// A sink's failure to answer, for people. A panic is a mistake of ours, so the log has each.
    fn lost(&self, lost: Lost, of: &str) -> String {
        match lost {
            Lost::Silent => format!("no answer to {of} within {} s", PATIENCE.as_secs()),
            Lost::Panicked(message) => {
                let reason = format!("the bridge's sink panicked: {message}");
                error!(bridge = self.name, reason, "a bridge's sink has a bug; the bridge goes on");
                reason
            }
        }
    }
}

/// Waits for a sink. What it panics with ends neither the bridge nor the master.
async fn answer<T>(work: impl Future<Output = Result<T, SinkError>>) -> Answer<T> {
    match timeout(PATIENCE, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(panic)) => Err(Lost::Panicked(message(&*panic))),
        Err(_) => Err(Lost::Silent),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}

/// An error with what caused it, in one line.
fn reason(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}
