//! The plan machine of a run: which state is next, and whether its requisites let it run. Pure: the
//! run's shell carries out what it decides and reports how it ended.

use crate::low::{Join, LowState, Requisite, RequisiteKind};

/// How a state ended, as far as others depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// `true`, `false`, or `None` for a change foretold by a dry run.
    pub result: Option<bool>,
    /// Whether it changed, or would change, anything.
    pub changed: bool,
}

/// What is to be done with the next state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Run it; `watch_fired` says that a watched state has changed.
    Run {
        /// Whether `mod_watch` is due if the state itself changes nothing.
        watch_fired: bool,
    },
    /// Do not run it: a requisite has failed, and so has this state.
    Fail {
        /// Salt's text.
        comment: String,
    },
    /// Do not run it: nothing asks for it. It counts as succeeded.
    Skip {
        /// Salt's text.
        comment: String,
    },
}

/// Decides state by state.
pub struct Plan<'a> {
    low: &'a LowState,
    ended: Vec<Ended>,
    failhard: bool,
    stopped: bool,
}

impl<'a> Plan<'a> {
    /// A plan for the whole low state.
    #[must_use]
    pub fn new(low: &'a LowState, failhard: bool) -> Self {
        Self { low, ended: Vec::with_capacity(low.chunks.len()), failhard, stopped: false }
    }

    /// The next state and what to do with it; `None` when the run is over.
    #[must_use]
    pub fn poll(&self) -> Option<(usize, Decision)> {
        let index = self.ended.len();
        let chunk = self.low.chunks.get(index).filter(|_| !self.stopped)?;
        Some((index, self.decide(&chunk.requisites)))
    }

    /// Reports how the state that `poll` gave has ended.
    pub fn handle_ended(&mut self, ended: Ended) {
        let chunk = self.low.chunks.get(self.ended.len());
        let failhard = self.failhard || chunk.is_some_and(|chunk| chunk.global.failhard);
        self.stopped |= failhard && ended.result == Some(false);
        self.ended.push(ended);
    }

    fn decide(&self, requisites: &[Requisite]) -> Decision {
        let failed: Vec<usize> =
            requisites.iter().flat_map(|requisite| self.failed(requisite)).collect();
        if !failed.is_empty() {
            let name = |index: &usize| {
                let chunk = &self.low.chunks[*index];
                format!("{}.{}", chunk.sls, chunk.id)
            };
            let mut names: Vec<String> = failed.iter().map(name).collect();
            names.dedup();
            let comment = format!("One or more requisite failed: {}", names.join(", "));
            return Decision::Fail { comment };
        }
        for requisite in requisites {
            let skip = match requisite.kind {
                RequisiteKind::Onchanges if !self.any(requisite, changed) => {
                    "State was not run because none of the onchanges reqs changed"
                }
                RequisiteKind::Onfail if !self.joined(requisite, is_failed) => {
                    "State was not run because onfail req did not change"
                }
                RequisiteKind::Require
                | RequisiteKind::Watch
                | RequisiteKind::Onchanges
                | RequisiteKind::Onfail => continue,
            };
            return Decision::Skip { comment: skip.to_owned() };
        }
        let watch_fired = requisites.iter().any(|requisite| {
            requisite.kind == RequisiteKind::Watch && self.any(requisite, changed)
        });
        Decision::Run { watch_fired }
    }

    /// The targets whose failure keeps the state from running.
    fn failed(&self, requisite: &Requisite) -> Vec<usize> {
        let failed = || {
            let targets = requisite.targets.iter().copied();
            targets.filter(|target| is_failed(self.end(*target))).collect()
        };
        match (requisite.kind, requisite.join) {
            (RequisiteKind::Require | RequisiteKind::Watch, Join::All) => failed(),
            (RequisiteKind::Require | RequisiteKind::Watch, Join::Any)
                if !self.any(requisite, |ended| !is_failed(ended)) =>
            {
                failed()
            }
            // One that has changed is enough, whatever became of the others.
            (RequisiteKind::Onchanges, _) if !self.any(requisite, changed) => failed(),
            (_, Join::All | Join::Any) => Vec::new(),
        }
    }

    fn any(&self, requisite: &Requisite, holds: impl Fn(Ended) -> bool) -> bool {
        requisite.targets.iter().any(|target| holds(self.end(*target)))
    }

    fn joined(&self, requisite: &Requisite, holds: impl Fn(Ended) -> bool) -> bool {
        match requisite.join {
            Join::Any => self.any(requisite, holds),
            Join::All => requisite.targets.iter().all(|target| holds(self.end(*target))),
        }
    }

    fn end(&self, target: usize) -> Ended {
        // invariant: requisites lead to states that come earlier.
        debug_assert!(target < self.ended.len());
        self.ended.get(target).copied().unwrap_or(Ended { result: Some(false), changed: false })
    }
}

fn is_failed(ended: Ended) -> bool {
    ended.result == Some(false)
}

fn changed(ended: Ended) -> bool {
    ended.changed && !is_failed(ended)
}
