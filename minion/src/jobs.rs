//! Which jobs run on this device, and which wait. State runs go one at a time, in the order they came; other functions
//! run beside them, up to a bound. A machine: the agent runs what it says, and keeps the journal.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use drover_proto::{
    id::JobId,
    job::{Job, Return},
    message::JobAccepted,
};
use serde_json::{Value, json};

use crate::functions::Effect;

mod memory;

use memory::Memory;

/// How many jobs may wait. One more is refused: whoever sends that many does not look at the answers.
const LONGEST_QUEUE: usize = 256;

const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// A job that came, and what decides how it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The job.
    pub job: Job,
    /// What a repetition would do.
    pub effect: Effect,
    /// How long it may run.
    pub limit: Duration,
}

/// What the agent is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell the master where the job stands.
    Tell(JobAccepted),
    /// Run it, and say [`Jobs::handle_return`] when it has ended.
    Run(Admitted),
    /// Stop running it: its return has been given.
    Stop(JobId),
    /// Send this return. `journal` says whether it must be written down before.
    Return {
        /// The return.
        returned: Return,
        /// Whether the job was journalled when it began.
        journal: bool,
    },
}

/// The jobs of one device.
#[derive(Debug)]
pub struct Jobs {
    slots: usize,
    running: Vec<Running>,
    waiting: VecDeque<Admitted>,
    state_runs: VecDeque<Admitted>,
    memory: Memory,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Running {
    jid: JobId,
    fun: String,
    effect: Effect,
    limit: Duration,
    ends_at: Instant,
}

impl Jobs {
    /// No jobs; at most `slots` of them run at a time, state runs aside.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            running: Vec::new(),
            waiting: VecDeque::new(),
            state_runs: VecDeque::new(),
            memory: Memory::default(),
            actions: VecDeque::new(),
        }
    }

    /// A job from the master. One that is here already is told of again, or answered from memory.
    pub fn handle_job(&mut self, admitted: Admitted, now: Instant) {
        let jid = admitted.job.jid.clone();
        if let Some(returned) = self.memory.recall(&jid) {
            self.actions.push_back(Action::Return { returned, journal: false });
            return;
        }
        if self.behind(&jid).is_none() {
            let queue = match admitted.effect {
                Effect::StateRun => &mut self.state_runs,
                Effect::ReadOnly | Effect::Changing => &mut self.waiting,
            };
            if queue.len() >= LONGEST_QUEUE {
                let value = json!(format!("{LONGEST_QUEUE} jobs wait on this minion already"));
                let Job { jid, fun, .. } = admitted.job;
                let returned = Return { jid, fun, value, retcode: 1 };
                self.actions.push_back(Action::Return { returned, journal: false });
                return;
            }
            queue.push_back(admitted);
        }
        // What is told on receipt comes before what is told at the start.
        if let Some(behind) = self.behind(&jid) {
            let starts = behind == 0 && !self.is_running(&jid);
            if !starts {
                self.actions.push_back(Action::Tell(JobAccepted { jid, behind }));
            }
        }
        self.start_what_can(now);
    }

    /// A job that runs has ended by itself.
    pub fn handle_return(&mut self, returned: Return, now: Instant) {
        let Some(place) = self.running.iter().position(|running| running.jid == returned.jid)
        else {
            return;
        };
        let ended = self.running.swap_remove(place);
        self.give(returned, ended.effect);
        self.start_what_can(now);
    }

    /// Ends a job that runs or waits. One that is not here is none of ours any more.
    pub fn handle_kill(&mut self, jid: &JobId, now: Instant) {
        match self.take_waiting(jid) {
            Some(Admitted { job: Job { jid, fun, .. }, .. }) => {
                let value = json!("killed before it ran");
                // It never began, so it was not journalled.
                self.give(Return { jid, fun, value, retcode: 1 }, Effect::ReadOnly);
            }
            None => self.stop(jid, "killed", now),
        }
    }

    /// Ends what has run too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<_> = self
            .running
            .iter()
            .filter(|running| running.ends_at <= now)
            .map(|running| (running.jid.clone(), running.limit))
            .collect();
        for (jid, limit) in late {
            let said = format!("timed out after {} s and was ended", limit.as_secs_f64());
            self.stop(&jid, &said, now);
        }
    }

    /// The agent ends, and what runs is left to itself. What changes something has that as its return; the rest has
    /// none: the master sends it again to the agent that follows, which may well be what it is about to install.
    pub fn handle_shutdown(&mut self) {
        self.waiting.clear();
        self.state_runs.clear();
        for running in std::mem::take(&mut self.running) {
            if running.effect == Effect::Changing {
                let Running { jid, fun, .. } = running;
                let value = json!("the agent was stopped while it ran, and left it running");
                self.give(Return { jid, fun, value, retcode: 1 }, Effect::Changing);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.running.iter().map(|running| running.ends_at).min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the job runs or waits.
    #[must_use]
    pub fn has(&self, jid: &JobId) -> bool {
        self.behind(jid).is_some()
    }

    /// Whether a state run is under way.
    #[must_use]
    pub fn runs_states(&self) -> bool {
        self.running.iter().any(|running| running.effect == Effect::StateRun)
    }

    /// What runs and waits, for `saltutil.running`.
    #[must_use]
    pub fn overview(&self) -> Value {
        let running = self
            .running
            .iter()
            .map(|running| json!({"jid": running.jid, "fun": running.fun, "state": "running"}));
        let waiting = self.state_runs.iter().chain(&self.waiting).map(|waiting| {
            json!({"jid": waiting.job.jid, "fun": waiting.job.fun, "arg": waiting.job.arg, "state": "queued"})
        });
        running.chain(waiting).collect()
    }

    /// How many jobs run before this one; `None` for one that is not here.
    fn behind(&self, jid: &JobId) -> Option<u32> {
        if self.is_running(jid) {
            return Some(0);
        }
        let place = |queue: &VecDeque<Admitted>| queue.iter().position(|w| w.job.jid == *jid);
        let ahead = match (place(&self.state_runs), place(&self.waiting)) {
            (Some(place), _) => place + usize::from(self.runs_states()),
            // A slot frees with each one that ends.
            (None, Some(place)) if self.others_running() >= self.slots => place + 1,
            (None, Some(place)) => place,
            (None, None) => return None,
        };
        Some(u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    fn take_waiting(&mut self, jid: &JobId) -> Option<Admitted> {
        [&mut self.waiting, &mut self.state_runs].into_iter().find_map(|queue| {
            let place = queue.iter().position(|waiting| waiting.job.jid == *jid)?;
            queue.remove(place)
        })
    }

    fn is_running(&self, jid: &JobId) -> bool {
        self.running.iter().any(|running| running.jid == *jid)
    }

    fn others_running(&self) -> usize {
        self.running.iter().filter(|running| running.effect != Effect::StateRun).count()
    }

    fn start_what_can(&mut self, now: Instant) {
        while self.others_running() < self.slots
            && let Some(next) = self.waiting.pop_front()
        {
            self.start(next, now);
        }
        if !self.runs_states()
            && let Some(next) = self.state_runs.pop_front()
        {
            self.start(next, now);
        }
    }

    fn start(&mut self, next: Admitted, now: Instant) {
        let jid = next.job.jid.clone();
        self.running.push(Running {
            jid: jid.clone(),
            fun: next.job.fun.clone(),
            effect: next.effect,
            limit: next.limit,
            // Whatever the master asks for: a year is as good as for ever.
            ends_at: now + next.limit.min(YEAR),
        });
        self.actions.push_back(Action::Tell(JobAccepted { jid, behind: 0 }));
        self.actions.push_back(Action::Run(next));
    }

    fn stop(&mut self, jid: &JobId, why: &str, now: Instant) {
        let Some(place) = self.running.iter().position(|running| running.jid == *jid) else {
            return;
        };
        let ended = self.running.swap_remove(place);
        self.actions.push_back(Action::Stop(jid.clone()));
        let returned = Return { jid: ended.jid, fun: ended.fun, value: json!(why), retcode: 1 };
        self.give(returned, ended.effect);
        self.start_what_can(now);
    }

    fn give(&mut self, returned: Return, effect: Effect) {
        let journal = effect == Effect::Changing;
        if !journal {
            self.memory.keep(&returned);
        }
        self.actions.push_back(Action::Return { returned, journal });
    }
}

#[cfg(test)]
mod tests;
