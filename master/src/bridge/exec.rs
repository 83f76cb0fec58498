//! `type: exec`: a program of one's own. It reads events as lines of JSON on its standard input, and acknowledges their
//! numbers on its standard output. It is started with the first event, kept running, and started anew when it fails;
//! what it did not acknowledge comes again.

use std::{path::PathBuf, time::Duration};

use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{Data, Node},
};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::timeout};

mod acks;
mod child;
mod diagnostics;

pub use acks::{Acks, ViolationError};
pub use child::ExecError;

use self::child::{Child, Recipe};
use super::{
    shape::Shape,
    sink::{Failure, Item, Verdict},
};

/// How long a program may acknowledge nothing, where the configuration does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// A call ends after so long, with what is acknowledged until then.
const AT_ONCE: Duration = Duration::from_secs(120);

impl ExecError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Start { .. } => Failure::Denied,
            Self::Ended { .. }
            | Self::Deaf { .. }
            | Self::Silent { .. }
            | Self::Busy { .. }
            | Self::Violation(_)
            | Self::Pipe(_) => Failure::Away,
        }
    }
}

/// A program.
pub struct ExecSink {
    shape: Shape,
    recipe: Recipe,
    at_once: Duration,
    child: Mutex<Option<Child>>,
}

impl ExecSink {
    /// Reads its own keys: `command`, `env`, `directory`, `ack_timeout`, `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let bridge = settings.text("name")?.unwrap_or_default();
        let command = settings.take("command", command)?;
        let mut command =
            command.ok_or_else(|| settings.missing("the bridge", "command"))?.into_iter();
        let program = PathBuf::from(command.next().unwrap_or_default());
        let recipe = Recipe {
            bridge,
            program,
            arguments: command.collect(),
            environment: settings.take("env", environment)?.unwrap_or_default(),
            directory: settings.path("directory")?.unwrap_or_else(|| "/".into()),
            patience: settings.duration("ack_timeout")?.unwrap_or(PATIENCE),
        };
        Ok(Self {
            shape: Shape::read(settings)?,
            recipe,
            at_once: AT_ONCE,
            child: Mutex::default(),
        })
    }

    /// Gives a batch to the program; one call at a time keeps the order.
    ///
    /// # Errors
    /// When it acknowledged none of it. It may have worked on some, and gets it again.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, ExecError> {
        // Taken out: a call that is given up in the middle takes the program with it.
        let mut kept = self.child.lock().await;
        let seqs: Vec<u64> = items.iter().map(|item| item.event.seq).collect();
        let usable = kept.take().and_then(|child| child.goes_on_with(&seqs));
        let mut child = match usable {
            Some(child) => child,
            None => Child::start(&self.recipe)?,
        };
        let mut refused = vec![None; items.len()];
        // What is on its way is answered first; the rest of the batch waits for it.
        if child.acks.is_complete() {
            let mut batch = Vec::with_capacity(items.len());
            for (item, refused) in items.iter().zip(&mut refused) {
                match self.line(item) {
                    Ok(line) => batch.push((item.event.seq, line)),
                    Err(reason) => *refused = Some(Verdict::Refused(reason)),
                }
            }
            // A dead letter that is tried again may come late, or beside itself. By number, one line each, the last
            // number stands for all.
            batch.sort_by_key(|(seq, _)| *seq);
            batch.dedup_by_key(|(seq, _)| *seq);
            child.begin(batch);
        }
        let failed = match timeout(self.at_once, child.answer()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if child.acks.is_begun() => Some(error.to_string()),
            Ok(Err(error)) => return Err(error),
            Err(_) => None,
        };
        let busy = ExecError::Busy { outstanding: child.acks.outstanding() };
        let is_refused = refused.iter().any(Option::is_some);
        let is_answered = seqs.iter().any(|seq| child.acks.verdict(*seq).is_some());
        if failed.is_none() && !is_refused && !is_answered {
            *kept = Some(child);
            return Err(busy);
        }
        let later = failed.clone().unwrap_or_else(|| busy.to_string());
        let verdict = |(item, refused): (&Item, Option<Verdict>)| {
            let answered = refused.or_else(|| child.acks.verdict(item.event.seq).cloned());
            answered.unwrap_or_else(|| Verdict::Later(later.clone()))
        };
        let verdicts = items.iter().zip(refused).map(verdict).collect();
        if failed.is_none() {
            *kept = Some(child);
        }
        Ok(verdicts)
    }

    /// The program.
    #[must_use]
    pub fn server(&self) -> String {
        self.recipe.program.display().to_string()
    }

    /// An event for the program, which always has its number.
    fn line(&self, item: &Item) -> Result<Vec<u8>, String> {
        let mut line = match self.shape.template_text(item) {
            Some(text) => json!({"text": text?}),
            None => self.shape.json(item),
        };
        if let Value::Object(fields) = &mut line {
            fields.insert("seq".to_owned(), Value::from(item.event.seq));
        }
        Ok(line.to_string().into_bytes())
    }
}

/// A program by its full path, or by its name in `PATH`, and its arguments.
fn command(node: &Node) -> Result<Vec<String>, &'static str> {
    const WANTED: &str = "a program and its arguments, as a list of texts: `[/usr/local/bin/to-kafka, --topic, events]`";
    let Data::Sequence(items) = &node.data else { return Err(WANTED) };
    let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.filter(|texts| texts.first().is_some_and(|program| !program.is_empty())).ok_or(WANTED)
}

fn environment(node: &Node) -> Result<Vec<(String, String)>, &'static str> {
    const WANTED: &str = "a map of variables with texts; quote a number";
    let Data::Mapping(entries) = &node.data else { return Err(WANTED) };
    let variable = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    entries
        .iter()
        .map(|entry| {
            let value = entry.node.as_str().filter(|value| !value.contains('\0'));
            let value = value.filter(|_| variable(&entry.key)).ok_or(WANTED)?;
            Ok((entry.key.clone(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
