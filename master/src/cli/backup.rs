//! `drover backup`: takes what the master sends into a file, or looks at a file. What is taken is verified as it comes,
//! and has its name only when it is whole and on the disk.

use std::{
    fs,
    io::{self, IsTerminal as _, Read, Write},
    path::Path,
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Outcome,
    arguments::{BackupArguments, Format},
    client::Client,
    failure::Failure,
    output::{Printer, style::Style, table::time},
};
use crate::backup::{self, BackupError, Summary};

mod target;

use target::Target;

/// Chunks that wait for the disk.
const WAITING: usize = 4;

/// Looks at a backup; needs no master.
pub(super) fn check(printer: &Printer, file: &Path) -> Result<Outcome, Failure> {
    let opened = fs::File::open(file).map_err(|error| {
        Failure::wrong(format!("cannot read `{}`", file.display())).because(error)
    })?;
    let progress = progress(opened.metadata().map_or(0, |found| found.len()));
    let read = progress.wrap_read(io::BufReader::with_capacity(1 << 20, opened));
    let checked = backup::read::<BackupError>(read, |_| Ok(()));
    progress.finish_and_clear();
    let summary =
        checked.map_err(|error| told(&error, format!("`{}` is no good backup", file.display())))?;
    report(printer, file, &summary)
}

pub(super) async fn run(
    client: Client,
    printer: &Printer,
    arguments: &BackupArguments,
) -> Result<Outcome, Failure> {
    let file = arguments.file.as_path();
    let is_stdout = file == Path::new("-");
    if is_stdout && io::stdout().is_terminal() {
        return Err(Failure::wrong("a backup is not for a terminal")
            .hint("name a file, or send it on: `drover backup - | zstd > master.tar.zst`"));
    }
    let target = if is_stdout { None } else { Some(Target::begin(file, arguments.force)?) };
    let (mut body, expected) = client.get_stream("/v1/backup").await?;
    let (sender, chunks) = mpsc::channel(WAITING);
    let progress = progress(expected);
    let shown = progress.clone();
    let writing = tokio::task::spawn_blocking(move || take(target, Chunks::new(chunks, shown)));
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            chunk = body.next() => {
                let Some(chunk) = chunk else { break };
                // Where the writer has ended, it says why.
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            // The writer finds that it is cut off, and tidies up.
            Ok(()) = &mut interrupted => break,
        }
    }
    drop(sender);
    let written =
        writing.await.map_err(|error| Failure::failed("the writer panicked").because(error))?;
    progress.finish_and_clear();
    let summary = written?;
    if is_stdout {
        printer.note(&line(file, &as_json(file, &summary)));
        return Ok(Outcome::Success);
    }
    report(printer, file, &summary)
}

/// Takes all of it.
fn take(target: Option<Target>, chunks: Chunks) -> Result<Summary, Failure> {
    let Some(mut target) = target else {
        let mut out = io::stdout().lock();
        let summary = verified(Tee { from: chunks, to: &mut out })?;
        out.flush().map_err(|_| Failure::OutputClosed)?;
        return Ok(summary);
    };
    let summary = verified(Tee { from: chunks, to: &mut target })?;
    target.finish()?;
    Ok(summary)
}

fn verified(mut input: impl Read) -> Result<Summary, Failure> {
    let summary = backup::read::<BackupError>(&mut input, |_| Ok(()));
    let summary = summary.map_err(|error| told(&error, "the backup was not taken".to_owned()))?;
    // What tar has behind its last member belongs to the file too.
    io::copy(&mut input, &mut io::sink())
        .map_err(|error| Failure::failed("the backup was not taken").because(error))?;
    Ok(summary)
}

fn told(error: &BackupError, message: String) -> Failure {
    let mut failure = Failure::failed(message).because(error).hint(error.hint());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        failure = failure.because(cause);
        source = cause.source();
    }
    failure
}

/// What the master sends, to read from.
struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
    progress: ProgressBar,
}

impl Chunks {
    const fn new(chunks: mpsc::Receiver<Bytes>, progress: ProgressBar) -> Self {
        Self { chunks, rest: Bytes::new(), progress }
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(chunk) = self.chunks.blocking_recv() else { return Ok(0) };
            self.progress.inc(chunk.len() as u64);
            self.rest = chunk;
        }
        let length = into.len().min(self.rest.len());
        into[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// What is read is written too.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        self.to.write_all(&into[..length])?;
        Ok(length)
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(expected: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bytes} of about {total_bytes}, {bytes_per_sec}");
    let bar = ProgressBar::new(expected);
    bar.set_style(style.expect("a template with known keys"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn as_json(file: &Path, summary: &Summary) -> Value {
    let mut value = json!(summary);
    value["file"] = json!(file);
    value
}

fn report(printer: &Printer, file: &Path, summary: &Summary) -> Result<Outcome, Failure> {
    printer.print(&as_json(file, summary), Format::Table, text)?;
    Ok(Outcome::Success)
}

fn text(value: &Value, style: Style) -> String {
    let file = value["file"].as_str().unwrap_or_default();
    format!(
        "{}\n{}\n",
        style.clean(&line(Path::new(file), value)),
        "it holds the fleet CA's key: keep it where you would keep that",
    )
}

fn line(file: &Path, value: &Value) -> String {
    format!(
        "{}: `{}` at {}, events up to {}, {} files, {:.1} MiB",
        file.display(),
        value["name"].as_str().unwrap_or_default(),
        time(&value["finished"]),
        value["last_seq"],
        value["files"],
        value["bytes"].as_f64().unwrap_or_default() / 1_048_576.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_told_in_a_line_and_its_secret_in_another() {
        let value = json!({
            "format": 1, "version": "0.1.0", "name": "test", "created": "2026-11-23T02:37:05Z",
            "last_seq": 4711, "finished": "2026-11-23T02:37:06.5Z", "files": 7,
            "bytes": 5_242_880, "file": "master.backup",
        });
        insta::assert_snapshot!(text(&value, Style::default()), @"
        master.backup: `test` at 2026-11-23 02:37:06Z, events up to 4711, 7 files, 5.0 MiB
        it holds the fleet CA's key: keep it where you would keep that
        ");
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "before").unwrap();
        assert!(Target::begin(&file, false).is_err());
        let (_, chunks) = mpsc::channel(1);
        let target = Target::begin(&file, true).unwrap();
        let taken = take(Some(target), Chunks::new(chunks, ProgressBar::hidden()));
        assert!(taken.is_err(), "nothing came");
        assert_eq!(fs::read(&file).unwrap(), b"before");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
    }
}
