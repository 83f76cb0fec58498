//! What a job is, on the wire and in the master's store: who runs which function with which arguments.

use drover_pki::MinionId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::JobId;

/// One function to run on one minion, as the master sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job's id; the same on every minion that the job went to.
    pub jid: JobId,
    /// `module.function`.
    pub fun: String,
    /// Positional arguments.
    #[serde(default)]
    pub arg: Vec<Value>,
    /// Keyword arguments.
    #[serde(default)]
    pub kwarg: Map<String, Value>,
    /// How long the function may run, in seconds.
    pub timeout: u64,
}

/// What came of a job on one minion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Return {
    /// The job it answers.
    pub jid: JobId,
    /// The function that ran.
    pub fun: String,
    /// What the function gave back.
    #[serde(rename = "return")]
    pub value: Value,
    /// 0 for success; as Salt: 1 a function that failed or a state run that did not compile, 2 a failed state, else a
    /// command's own status.
    pub retcode: i32,
}

impl Return {
    /// Whether the function did what was asked.
    #[must_use]
    pub const fn success(&self) -> bool {
        self.retcode == 0
    }
}

/// Where a job stands on one minion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits on the master for the minion to be connected.
    Queued,
    /// Sent; the minion has not said that it has it.
    Sent,
    /// The minion has it: it runs, or waits there for its turn.
    Running,
    /// Returned with success.
    Done,
    /// Returned with a failure, or cut off by a crash.
    Failed,
    /// Nothing was heard before its deadline.
    TimedOut,
    /// Its time to live ended before the minion came back.
    Expired,
    /// A later job for the same minion took its place.
    Superseded,
    /// An operator took it back.
    Cancelled,
}

impl JobState {
    /// Whether nothing more is expected.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Sent | Self::Running => false,
            Self::Done
            | Self::Failed
            | Self::TimedOut
            | Self::Expired
            | Self::Superseded
            | Self::Cancelled => true,
        }
    }
}

/// How a target expression is read; the letters are Salt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetType {
    /// Shell glob on the id.
    #[default]
    Glob,
    /// `-E`: regular expression on the id, anchored at its start.
    Pcre,
    /// `-L`: ids with commas between.
    List,
    /// `-G`: `key:value` with a glob.
    Grain,
    /// `-P`: `key:regex`.
    GrainPcre,
    /// `-I`: glob on a pillar value.
    Pillar,
    /// `-J`: regular expression on a pillar value.
    PillarPcre,
    /// `-S`: address or CIDR.
    Ipcidr,
    /// `-N`: a group named in the master's configuration.
    Nodegroup,
    /// `-C`: the above, with `and`, `or`, `not` and parentheses.
    Compound,
}

/// What an operator, a rule or a schedule asks for, before the master has resolved the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The target expression.
    pub tgt: String,
    /// How it is read.
    #[serde(default)]
    pub tgt_type: TargetType,
    /// `module.function`.
    pub fun: String,
    /// Positional arguments.
    #[serde(default)]
    pub arg: Vec<Value>,
    /// Keyword arguments.
    #[serde(default)]
    pub kwarg: Map<String, Value>,
    /// How long the function may run on the minion, in seconds; `None` takes the master's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_timeout: Option<u64>,
    /// Keep it for targeted minions that are away.
    #[serde(default)]
    pub pending: bool,
    /// How long to keep it for them, in seconds; `None` takes the master's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Who asked: an operator's user name, or `Reactor`.
    #[serde(default)]
    pub user: String,
}

/// A job's entry in the master's store, without its minions' states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job's id.
    pub jid: JobId,
    /// What was asked for.
    #[serde(flatten)]
    pub request: JobRequest,
    /// When it was taken.
    pub ts: Timestamp,
    /// Whom the target resolved to.
    pub minions: Vec<MinionId>,
}
