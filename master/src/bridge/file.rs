//! `type: file`: every event a line, once. The file itself tells what it has: after a crash or an error its last lines say
//! which events are there, whatever the cursor says.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};

mod recovery;
mod rotation;
mod writer;

pub use writer::FileError;

use super::{
    shape::Shape,
    sink::{Item, Verdict},
};
use rotation::Rotation;
use writer::{Line, Writer};

/// A file that lines are added to.
pub struct FileSink {
    shape: Shape,
    writer: Arc<Mutex<Writer>>,
    /// Whoever works on the file has it. One thread at a time waits for a disk that hangs, however often it is tried:
    /// all of the master's would be used up.
    turn: Arc<tokio::sync::Mutex<()>>,
    is_replay: AtomicBool,
}

impl FileSink {
    /// Reads `path`, `rotate`, `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let path = settings.path("path")?;
        let path = path.ok_or_else(|| settings.missing("the bridge", "path"))?;
        let rotation = settings.map("rotate", Rotation::read)?;
        Ok(Self::new(path, Shape::read(settings)?, rotation))
    }

    fn new(path: PathBuf, shape: Shape, rotation: Option<Rotation>) -> Self {
        let writer = Writer::new(path, shape.has_id(), rotation);
        let writer = Arc::new(Mutex::new(writer));
        Self { shape, writer, turn: Arc::default(), is_replay: AtomicBool::new(false) }
    }

    /// Writes a line for each event, and returns when they are on the disk.
    ///
    /// # Errors
    /// When the file cannot be opened or written. None, some or all of them may be there; sent again, each is there once.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, FileError> {
        let mut verdicts = Vec::with_capacity(items.len());
        let mut lines = Vec::with_capacity(items.len());
        for item in items {
            match self.shape.text(item) {
                Ok(text) => {
                    lines.push(Line { id: item.event.id, text });
                    verdicts.push(Verdict::Done);
                }
                Err(reason) => verdicts.push(Verdict::Refused(reason)),
            }
        }
        let packing = self.on_file(move |writer| writer.append(&lines)).await?;
        if let Some(packing) = packing {
            // Beside the next batches. What fails is tried again with the next rotation.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = packing.run() {
                    tracing::warn!(%error, "a full file cannot be packed");
                }
            });
        }
        Ok(verdicts)
    }

    /// What was written before is wanted once more.
    pub fn handle_replay(&self) {
        self.is_replay.store(true, Ordering::Relaxed);
    }

    /// Works on the file on a thread that may block.
    async fn on_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> T {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let writer = self.writer.clone();
        let is_replay = self.is_replay.swap(false, Ordering::Relaxed);
        let work = move || {
            let _turn = turn;
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if is_replay {
                writer.handle_replay();
            }
            work(&mut writer)
        };
        tokio::task::spawn_blocking(work).await.expect("writing a file does not panic")
    }
}

#[cfg(test)]
mod tests;
