//! The reactor's shell: reads the log by its cursor, renders rules off the async threads, and runs what the guard lets
//! through, one after the other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::event::{Event, NewEvent};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{Instant as Clock, sleep_until, timeout};
use tracing::{error, warn};

use super::{
    causes::Causes,
    effects::{EffectError, Effects},
    guard::{Cause, Firing, Guard},
    handle::ReactorHandle,
    reaction::Reaction,
    record::{self, Done},
    rules::{Rendered, Rules},
};
use crate::store::{Batch, Missing, ReadError, Store, StoreError};

const CURSOR: &str = "reactor";
/// A cursor that says: begin at the end of the log.
const AT_THE_END: u64 = u64::MAX;
/// Events that are read at once.
const CHUNK: usize = 200;
/// The cursor is saved with what the rules do, after this many events, and after this time.
const SAVE_AFTER_EVENTS: u64 = 1_000;
const SAVE_AFTER: Duration = Duration::from_secs(5);
/// How long one reaction may take to be handed on.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same complaint is told again after this time.
const REPEAT: Duration = Duration::from_secs(60);
/// Complaints that are remembered.
const MOST_COMPLAINTS: usize = 1_000;
/// Being so many events behind is told in the log.
const LAG: u64 = 50_000;

/// Why the reactor stopped.
#[derive(Debug, Error)]
pub enum ReactorStopped {
    /// The log cannot be read.
    #[error("read events for the reactor")]
    Read(#[from] ReadError),
    /// The store no longer takes writes.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs the rules. An event is reacted to once; one whose reactions a crash cut off is reacted to again.
pub struct ReactorTask<E> {
    store: Store,
    effects: E,
    /// Away while templates are rendered.
    rules: Option<Rules>,
    guard: Guard,
    causes: Causes,
    complaints: HashMap<String, Clock>,
    /// The last event that was read, and the one that is saved.
    handle: ReactorHandle,
    read: u64,
    saved: u64,
    save_at: Option<Clock>,
    /// What ran before the start, for events up to `done_until`.
    done: Done,
    done_until: u64,
}

impl<E: Effects> ReactorTask<E> {
    /// Takes up where the reactor of the master before this one ended. A reactor that was not there before begins at
    /// the end of the log: what happened before there were rules is not reacted to. To be called before minions can
    /// connect.
    ///
    /// # Errors
    /// When the store has failed.
    pub async fn new(
        store: Store,
        effects: E,
        rules: Rules,
        per_minute: u32,
    ) -> Result<Self, ReactorStopped> {
        let last = store.last_seq();
        let cursor = store.cursor(CURSOR)?.unwrap_or(AT_THE_END);
        // A log that begins anew has lower numbers than the cursor.
        let read = cursor.min(last);
        for file in rules.missing() {
            warn!(file = %file.display(), "a rule file of the reactor is not there");
        }
        // Without rules the place in the log means nothing; rules that come later begin at the end.
        let start = if rules.is_empty() { AT_THE_END } else { read };
        if store.cursor(CURSOR)? != Some(start) {
            store.set_cursor(CURSOR, start).await?;
        }
        if !rules.is_empty() {
            store.hold(CURSOR)?;
        }
        let mut done = Done::default();
        let mut at = read;
        while !rules.is_empty() && at < last {
            let events = store.events(at, CHUNK).await?;
            let Some(newest) = events.last() else { break };
            at = newest.seq;
            events.iter().for_each(|event| done.handle_event(event));
        }
        Ok(Self {
            store,
            effects,
            rules: Some(rules),
            guard: Guard::new(per_minute),
            causes: Causes::default(),
            complaints: HashMap::new(),
            handle: ReactorHandle::new(read),
            read,
            saved: read,
            save_at: None,
            done,
            done_until: last,
        })
    }

    /// How far it has come; `None` where there are no rules.
    #[must_use]
    pub fn handle(&self) -> Option<ReactorHandle> {
        (!self.rules().is_empty()).then(|| self.handle.clone())
    }

    /// Runs for as long as the master does.
    ///
    /// # Errors
    /// When the store has failed.
    pub async fn run(mut self) -> Result<(), ReactorStopped> {
        if self.rules().is_empty() {
            return Ok(());
        }
        let mut newer = self.store.watch();
        loop {
            let events = self.store.events(self.read, CHUNK).await?;
            if events.is_empty() {
                let due = self.guard.poll_timeout().map(Clock::from_std);
                let due = due.into_iter().chain(self.save_at).min();
                tokio::select! {
                    changed = newer.changed() => changed.map_err(|_| StoreError::Failed)?,
                    () = sleep_until(due.unwrap_or_else(Clock::now)), if due.is_some() => {}
                }
            }
            self.meet(events).await?;
            self.guard.handle_timeout(now());
            while let Some(firing) = self.guard.poll_firing() {
                self.act(firing).await?;
            }
            self.tell_notices().await?;
            self.save_sometimes().await?;
        }
    }

    /// Hands what the rules make of these events to the guard.
    async fn meet(&mut self, events: Vec<Arc<Event>>) -> Result<(), ReactorStopped> {
        let (Some(first), Some(last)) = (events.first(), events.last().map(|event| event.seq))
        else {
            return Ok(());
        };
        if let Some(missing) = self.store.missing(self.read, first.seq) {
            let Missing { from, to, .. } = missing;
            warn!(from, to, "events were removed before the reactor met them");
            self.store.submit(record::missed(missing).into()).await?;
        }
        let mut met = Vec::new();
        for event in events.into_iter().filter(|event| !record::is_record(event)) {
            let rules = self.rules().matching(&event.tag);
            let chain = if rules.is_empty() { BTreeSet::new() } else { self.causes.chain(&event) };
            for rule in rules {
                if chain.contains(&rule) {
                    self.complain(record::went_in_circles(self.rules(), rule, &event)).await?;
                } else {
                    met.push((rule, event.clone(), chain.clone()));
                }
            }
        }
        for (rule, event, chain, rendered) in self.render(met).await {
            for wrong in &rendered.errors {
                error!("the reactor cannot use a rule file: {wrong}");
                self.complain(record::error(self.rules(), rule, &event, wrong)).await?;
            }
            if rendered.reactions.is_empty() {
                continue;
            }
            let firing = Firing {
                rule,
                minion: event.minion.clone(),
                cause: Cause::of(&event),
                through: event.seq,
                merged: 0,
                reactions: rendered.reactions,
                chain,
            };
            let is_done = event.seq <= self.done_until && self.done.has(self.rules(), &firing);
            if !is_done {
                self.guard.handle_firing(firing, now());
            }
        }
        self.read = last;
        self.handle.handle_read(last);
        if last > self.done_until {
            self.done = Done::default();
        }
        if self.store.last_seq() > last + LAG {
            warn!(behind = self.store.last_seq() - last, "the reactor is behind");
        }
        Ok(())
    }

    /// Renders on a thread that may block: rule files are read there, and a template may compute for long.
    async fn render(
        &mut self,
        met: Vec<(usize, Arc<Event>, BTreeSet<usize>)>,
    ) -> Vec<(usize, Arc<Event>, BTreeSet<usize>, Rendered)> {
        if met.is_empty() {
            return Vec::new();
        }
        let mut rules = self.rules.take().expect("rules are away only within this function");
        let rendering = tokio::task::spawn_blocking(move || {
            let rendered = met
                .into_iter()
                .map(|(rule, event, chain)| {
                    let rendered = rules.render(rule, &event);
                    (rule, event, chain, rendered)
                })
                .collect();
            (rules, rendered)
        });
        let (rules, rendered) = rendering.await.expect("rendering does not panic");
        self.rules = Some(rules);
        rendered
    }

    async fn act(&mut self, firing: Firing) -> Result<(), ReactorStopped> {
        let mut chain = firing.chain.clone();
        chain.insert(firing.rule);
        let mut results = Vec::new();
        for reaction in &firing.reactions {
            let function = reaction.function();
            match self.effect(reaction, &chain).await? {
                Ok(Some(mut result)) => {
                    result["function"] = Value::from(function);
                    results.push(result);
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(rule = self.rules().name(firing.rule), %function, %error, "a reaction failed");
                    results.push(json!({"function": function, "error": error.to_string()}));
                }
            }
        }
        if results.is_empty() {
            return Ok(());
        }
        // From here on a crash does not repeat the firing. One before this line does, also where the job is journalled
        // already: to deliver again sends nothing, a `local` job runs a second time.
        let mut batch = Batch::new();
        batch.event(record::ran(self.rules(), &firing, &results));
        self.store.write(batch).await?;
        Ok(())
    }

    /// What came of a reaction; `None` where there was nothing to do.
    async fn effect(
        &mut self,
        reaction: &Reaction,
        chain: &BTreeSet<usize>,
    ) -> Result<Result<Option<Value>, EffectError>, ReactorStopped> {
        let late = |_| EffectError(format!("it was not taken within {} s", PATIENCE.as_secs()));
        match reaction {
            Reaction::Local(request) => {
                let job = timeout(PATIENCE, self.effects.start_job(request.clone())).await;
                Ok(job.map_err(late).flatten().map(|jid| {
                    self.causes.handle_job(jid.clone(), chain.clone());
                    Some(json!({"tgt": request.tgt, "jid": jid}))
                }))
            }
            Reaction::DeliverPending { tgt, tgt_type } => {
                let jobs = self.effects.deliver_pending(tgt.clone(), *tgt_type);
                let jobs = timeout(PATIENCE, jobs).await.map_err(late).flatten();
                Ok(jobs.map(|sent| (sent > 0).then(|| json!({"tgt": tgt, "delivered": sent}))))
            }
            Reaction::SendEvent { tag, data } => {
                let event = NewEvent::new(tag.clone(), None, data.clone());
                let seq = self.store.append(event).await?;
                self.causes.handle_event(seq, chain.clone());
                Ok(Ok(Some(json!({"tag": tag, "seq": seq}))))
            }
        }
    }

    async fn tell_notices(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        while let Some(notice) = self.guard.poll_notice() {
            batch.event(record::notice(self.rules(), notice));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.store.submit(batch).await.map(drop)
    }

    /// Appends a complaint, if the same one was not made within the last minute: a broken rule meets every event.
    async fn complain(&mut self, event: NewEvent) -> Result<(), StoreError> {
        let (now, data) = (Clock::now(), &event.data);
        let key = format!("{} {} {} {}", event.tag, data["rule"], data["file"], data["message"]);
        if self.complaints.len() >= MOST_COMPLAINTS {
            self.complaints.retain(|_, told| *told + REPEAT > now);
        }
        let is_new = self.complaints.get(&key).is_none_or(|told| *told + REPEAT <= now);
        if !is_new || self.complaints.len() >= MOST_COMPLAINTS {
            return Ok(());
        }
        self.complaints.insert(key, now);
        self.store.submit(event.into()).await.map(drop)
    }

    /// The cursor stays before what is held, so that it is met again after a restart.
    async fn save_sometimes(&mut self) -> Result<(), StoreError> {
        let settled = self.guard.oldest_held().map_or(self.read, |held| self.read.min(held - 1));
        if settled <= self.saved {
            self.save_at = None;
            return Ok(());
        }
        let now = Clock::now();
        let save_at = *self.save_at.get_or_insert(now + SAVE_AFTER);
        if now < save_at && settled < self.saved + SAVE_AFTER_EVENTS {
            return Ok(());
        }
        let mut batch = Batch::new();
        // Everything up to here is journalled or recorded: those writes were handed in before this one.
        batch.cursor(CURSOR, settled);
        self.store.submit(batch).await?;
        (self.saved, self.save_at) = (settled, None);
        Ok(())
    }

    fn rules(&self) -> &Rules {
        self.rules.as_ref().expect("rules are away only while templates are rendered")
    }
}

fn now() -> Instant {
    Clock::now().into_std()
}

#[cfg(test)]
mod tests;
