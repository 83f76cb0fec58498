//! `type: stdout`: every event a line on the daemon's standard output, for whoever keeps it: a container engine, a journal,
//! a pipe.

use std::{
    io::{self, Write},
    sync::Arc,
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use thiserror::Error;
use tokio::sync::Mutex;

use super::{
    shape::Shape,
    sink::{Item, Verdict},
};

/// Why lines were not written. The batch is tried again, and some of its lines may be there twice then.
#[derive(Debug, Error)]
#[error("cannot write to the standard output")]
pub struct StdoutError(#[source] io::Error);

/// The daemon's standard output.
pub struct StdoutSink {
    shape: Shape,
    /// Whoever writes has it, and a write to a pipe that nobody reads lasts.
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl StdoutSink {
    /// Reads `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        Ok(Self::new(Shape::read(settings)?, Box::new(io::stdout())))
    }

    fn new(shape: Shape, out: Box<dyn Write + Send>) -> Self {
        Self { shape, out: Arc::new(Mutex::new(out)) }
    }

    /// Writes a line for each event.
    ///
    /// # Errors
    /// When the output is closed.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, StdoutError> {
        let mut lines = Vec::new();
        let verdicts = items.iter().map(|item| match self.shape.text(item) {
            Ok(text) => {
                lines.extend_from_slice(text.trim_end_matches('\n').as_bytes());
                lines.push(b'\n');
                Verdict::Done
            }
            Err(reason) => Verdict::Refused(reason),
        });
        let verdicts = verdicts.collect();
        // One thread at a time waits for a reader, however often it is tried.
        let mut out = self.out.clone().lock_owned().await;
        let write = move || out.write_all(&lines).and_then(|()| out.flush());
        let written = tokio::task::spawn_blocking(write).await;
        written.expect("writing does not panic").map_err(StdoutError)?;
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use serde_json::json;

    use super::*;
    use crate::bridge::sink::item;

    /// What was written.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Short writes, as pipes have them.
            kept.write(&bytes[..bytes.len().min(100)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_event_is_a_line() {
        let output = Output::default();
        let sink = StdoutSink::new(Shape::default(), Box::new(output.clone()));
        let items: Vec<_> = (1..=20).map(|seq| item(seq, "a/b", json!({"n": seq}))).collect();
        assert_eq!(sink.deliver(&items).await.unwrap(), vec![Verdict::Done; 20]);
        let bytes = output.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        let seqs: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].clone())
            .collect();
        assert_eq!(seqs, (1..=20).map(|seq| json!(seq)).collect::<Vec<_>>());
    }
}
