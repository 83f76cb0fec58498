//! A sink that answers as a test wants it to, and remembers what it was sent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Failure, Form, Item, News, Verdict};

/// What it answers to one batch.
#[derive(Debug, Clone, Copy)]
pub(in crate::bridge) enum Reply {
    /// The batch as a whole is not taken.
    Fail(Failure),
    /// Each second event is to come again.
    Half,
    /// It has a bug.
    Panic,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}, says the script")]
pub(in crate::bridge) struct ScriptedError(pub(super) Failure);

#[derive(Debug, Default)]
pub(in crate::bridge) struct Script {
    /// What it answers to the next batches; then it takes everything.
    pub(in crate::bridge) replies: VecDeque<Reply>,
    /// It answers so to every batch, once there is nothing else.
    pub(in crate::bridge) always: Option<Failure>,
    /// Batches of more events are too large.
    pub(in crate::bridge) most: Option<usize>,
    /// It refuses events of this tag: as they are, and as text.
    pub(in crate::bridge) refuses: Option<(&'static str, bool)>,
    /// How often each event was taken, by its seq, and the last item of it.
    pub(in crate::bridge) taken: BTreeMap<u64, (u32, Item)>,
    /// It asks for upkeep, which brings this.
    pub(in crate::bridge) news: Option<News>,
    /// Its first upkeep has a bug.
    pub(in crate::bridge) has_bug: bool,
    /// Batches that are with it now, and the most that ever were.
    pub(in crate::bridge) open: (usize, usize),
}

#[derive(Debug, Default)]
pub(in crate::bridge) struct Scripted {
    script: Mutex<Script>,
    pub(in crate::bridge) in_flight: usize,
}

impl Scripted {
    pub(in crate::bridge) fn new(in_flight: usize) -> Self {
        Self { script: Mutex::default(), in_flight }
    }

    pub(in crate::bridge) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, ScriptedError> {
        {
            let mut script = self.script();
            script.open.0 += 1;
            script.open.1 = script.open.1.max(script.open.0);
        }
        tokio::task::yield_now().await;
        let mut script = self.script();
        script.open.0 -= 1;
        let reply = script.replies.pop_front();
        assert!(!matches!(reply, Some(Reply::Panic)), "a bug");
        if let Some(Reply::Fail(failure)) = reply {
            return Err(ScriptedError(failure));
        }
        if let Some(failure) = script.always {
            return Err(ScriptedError(failure));
        }
        if script.most.is_some_and(|most| items.len() > most) {
            return Err(ScriptedError(Failure::TooLarge));
        }
        let verdict = |(number, item): (usize, &Item)| {
            if reply.is_some() && number % 2 == 1 {
                return Verdict::Later("busy".into());
            }
            match script.refuses {
                Some((tag, also_text))
                    if item.event.tag.as_str() == tag
                        && (also_text || item.form == Form::Whole) =>
                {
                    Verdict::Refused("not like this".into())
                }
                _ => {
                    let taken = script.taken.entry(item.event.seq);
                    taken.or_insert_with(|| (0, item.clone())).0 += 1;
                    Verdict::Done
                }
            }
        };
        Ok(items.iter().enumerate().map(verdict).collect())
    }

    pub(super) fn upkeep(&self) -> Vec<News> {
        let mut script = self.script();
        assert_eq!(script.open.0, 0, "nothing is on its way");
        assert!(!std::mem::take(&mut script.has_bug), "a bug in its upkeep");
        script.news.take().into_iter().collect()
    }
}
