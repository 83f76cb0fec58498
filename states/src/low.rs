//! What compiling yields: the low state, one chunk for each state function and name, in the order in
//! which it runs. Vocabulary of the compiler, the plan and the run.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::module::Module;

/// A compiled run: chunks in run order, every requisite resolved to earlier ones.
#[derive(Default)]
pub struct LowState {
    /// The chunks.
    pub chunks: Vec<Chunk>,
}

impl LowState {
    /// Salt's `state.show_low_sls`: a list of maps.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.chunks.iter().map(Chunk::to_value).collect()
    }
}

/// One state function to run.
pub struct Chunk {
    /// Its ID.
    pub id: String,
    /// Its name: the ID unless `name` or `names` says otherwise.
    pub name: String,
    /// The SLS it is from.
    pub sls: String,
    /// The environment it is from.
    pub saltenv: String,
    /// `file` of `file.managed`.
    pub state: String,
    /// `managed` of `file.managed`.
    pub function: String,
    /// The order number.
    pub order: i64,
    /// The function's arguments as written.
    pub arguments: Map<String, Value>,
    /// What it waits for and listens to.
    pub requisites: Vec<Requisite>,
    /// The arguments that every state takes.
    pub global: GlobalArguments,
    /// The function, its arguments parsed.
    pub module: Module,
}

impl Chunk {
    /// Salt's key of a return: `file_|-ID_|-name_|-managed`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}_|-{}_|-{}_|-{}", self.state, self.id, self.name, self.function)
    }

    fn to_value(&self) -> Value {
        let mut low = json!({
            "state": self.state, "fun": self.function, "name": self.name, "__id__": self.id,
            "__sls__": self.sls, "__env__": self.saltenv, "order": self.order,
        });
        if let Value::Object(low) = &mut low {
            for (key, value) in &self.arguments {
                low.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        low
    }
}

/// How a requisite joins its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Every target counts.
    All,
    /// One target is enough.
    Any,
}

/// What a state wants of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequisiteKind {
    /// They must have succeeded.
    Require,
    /// The same; and when one has changed, this state reacts.
    Watch,
    /// One of them must have changed.
    Onchanges,
    /// They must have failed.
    Onfail,
}

/// One requisite, its targets resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requisite {
    /// What is wanted.
    pub kind: RequisiteKind,
    /// Of all targets or of one.
    pub join: Join,
    /// Indices into [`LowState::chunks`], each below the chunk's own.
    pub targets: Vec<usize>,
}

/// Arguments that every state takes, whatever its function.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GlobalArguments {
    /// End the run when this state fails.
    pub failhard: bool,
    /// Commands that must succeed, all of them, for the state to run.
    pub onlyif: Vec<String>,
    /// Commands that keep the state from running when all of them succeed.
    pub unless: Vec<String>,
    /// Paths that keep the state from running when all of them exist.
    pub creates: Vec<String>,
    /// Commands that must succeed after the state has changed something.
    pub check_cmd: Vec<String>,
    /// Try again when the state fails.
    pub retry: Option<Retry>,
}

/// `retry`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How often at most.
    pub attempts: u32,
    /// The result that ends the trying.
    pub until: bool,
    /// The pause between two tries.
    pub interval: Duration,
}
