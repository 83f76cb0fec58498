//! The run: carries out what the plan decides, one state after another, and builds Salt's return.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::host::Host;
use crate::low::{Chunk, LowState, Retry};
use crate::module::Outcome;
use crate::plan::{Decision, Ended, Plan};
use crate::process::{ShellCommand, Stderr};

/// How long a condition's command may take.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(60);

/// How to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Only say what would change.
    pub test: bool,
    /// End at the first failure, as if every state said `failhard: True`.
    pub failhard: bool,
}

/// What a run returned: Salt's map from `state_|-ID_|-name_|-function`, in run order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateReturn(pub Map<String, Value>);

impl StateReturn {
    /// Whether no state failed.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.0.values().all(|state| state["result"] != Value::Bool(false))
    }

    /// Salt's return code: 0, or 2 when a state failed.
    #[must_use]
    pub fn retcode(&self) -> i32 {
        if self.succeeded() { 0 } else { 2 }
    }

    /// Whether any state changed something, or would.
    #[must_use]
    pub fn changed(&self) -> bool {
        let changes = |state: &Value| state["changes"].as_object().is_some_and(|c| !c.is_empty());
        self.0.values().any(|state| changes(state) || state["result"].is_null())
    }
}

/// One run of a low state.
pub struct Run {
    low: LowState,
    options: RunOptions,
}

impl Run {
    /// A run that has not begun.
    #[must_use]
    pub fn new(low: LowState, options: RunOptions) -> Self {
        Self { low, options }
    }

    /// Runs all states. `progress` is called with the key and the return of each as it ends.
    pub async fn execute(
        &self,
        host: &Host,
        mut progress: impl FnMut(&str, &Value),
    ) -> StateReturn {
        let mut plan = Plan::new(&self.low, self.options.failhard);
        let mut returns = Map::new();
        while let Some((index, decision)) = plan.poll() {
            let chunk = &self.low.chunks[index];
            let (started, began) = now();
            let (outcome, ran) = match decision {
                Decision::Run { watch_fired } => {
                    (run_chunk(chunk, host, self.options.test, watch_fired).await, true)
                }
                Decision::Fail { comment } => (Outcome::failed(comment), false),
                Decision::Skip { comment } => (Outcome::unchanged(comment), false),
            };
            let changed = !outcome.changes.is_empty() || outcome.result.is_none();
            plan.handle_ended(Ended { result: outcome.result, changed });
            let duration = now().1.saturating_duration_since(began);
            let value = to_return(chunk, outcome, ran, index, started, duration);
            let key = chunk.key();
            progress(&key, &value);
            returns.insert(key, value);
        }
        StateReturn(returns)
    }
}

fn to_return(
    chunk: &Chunk,
    outcome: Outcome,
    ran: bool,
    index: usize,
    started: Timestamp,
    duration: Duration,
) -> Value {
    json!({
        "name": chunk.name,
        "changes": outcome.changes,
        "result": outcome.result,
        "comment": outcome.comment,
        "start_time": started.strftime("%H:%M:%S%.6f").to_string(),
        "duration": (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0,
        "__id__": chunk.id,
        "__sls__": chunk.sls,
        "__run_num__": index,
        "__state_ran__": ran,
    })
}

async fn run_chunk(chunk: &Chunk, host: &Host, test: bool, watch_fired: bool) -> Outcome {
    if let Some(reason) = held_back(chunk).await {
        return Outcome::unchanged(reason);
    }
    let mut outcome = attempt(chunk, host, test, watch_fired).await;
    if let Some(retry) = chunk.global.retry.filter(|_| !test) {
        outcome = try_again(chunk, host, watch_fired, retry, outcome).await;
    }
    outcome
}

async fn attempt(chunk: &Chunk, host: &Host, test: bool, watch_fired: bool) -> Outcome {
    let mut outcome = chunk.module.run(host, test).await;
    let is_quiet = outcome.changes.is_empty() && outcome.result == Some(true);
    if watch_fired
        && is_quiet
        && let Some(watched) = chunk.module.watched(host, test).await
    {
        outcome = watched;
    }
    if !test && outcome.result == Some(true) {
        for command in &chunk.global.check_cmd {
            if !succeeds(command).await {
                outcome.result = Some(false);
                outcome.comment = format!(
                    "{}\ncheck_cmd determined the state failed: `{command}`",
                    outcome.comment
                );
            }
        }
    }
    outcome
}

async fn try_again(
    chunk: &Chunk,
    host: &Host,
    watch_fired: bool,
    retry: Retry,
    first: Outcome,
) -> Outcome {
    let mut outcome = first;
    let mut told = String::new();
    let mut attempts = 1;
    while outcome.result != Some(retry.until) && attempts < retry.attempts {
        let result = if outcome.result == Some(true) { "True" } else { "False" };
        told.push_str(&format!(
            "Attempt {attempts}: Returned a result of \"{result}\", with the following comment: \
             \"{}\"\n",
            outcome.comment
        ));
        tokio::time::sleep(retry.interval).await;
        let before = outcome.changes;
        outcome = attempt(chunk, host, false, watch_fired).await;
        // What an earlier attempt changed stays told.
        outcome.changes = before.into_iter().chain(outcome.changes).collect();
        attempts += 1;
    }
    outcome.comment.insert_str(0, &told);
    outcome
}

/// `creates`, `onlyif` and `unless`: why the state need not run.
async fn held_back(chunk: &Chunk) -> Option<String> {
    let global = &chunk.global;
    if !global.creates.is_empty() && global.creates.iter().all(|path| Path::new(path).exists()) {
        return Some(match global.creates.as_slice() {
            [path] => format!("{path} exists"),
            _ => "All files in creates exist".to_owned(),
        });
    }
    for command in &global.onlyif {
        if !succeeds(command).await {
            return Some("onlyif condition is false".to_owned());
        }
    }
    for command in &global.unless {
        if !succeeds(command).await {
            return None;
        }
    }
    (!global.unless.is_empty()).then(|| "unless condition is true".to_owned())
}

async fn succeeds(command: &str) -> bool {
    let command = ShellCommand { time: CONDITION_TIMEOUT, ..ShellCommand::new(command) };
    let finished = command.run(Stderr::Merged).await;
    finished.is_ok_and(|finished| !finished.timed_out && finished.retcode == 0)
}

#[expect(clippy::disallowed_methods, reason = "the run's shell times each state")]
fn now() -> (Timestamp, Instant) {
    (Timestamp::now(), Instant::now())
}

#[cfg(test)]
mod tests;
