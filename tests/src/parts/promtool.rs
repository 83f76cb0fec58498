//! Prometheus' own judge of metrics and rules.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs a command of promtool on a file.
///
/// # Errors
/// With what it said, where it is not content.
///
/// # Panics
/// When it cannot be run.
pub fn run(verb: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new("promtool").args(verb).arg(path).output();
    let output = output.expect("promtool is installed (tests/parts/install)");
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

/// What `promtool check metrics` finds wrong with a page of metrics; nothing where it is content.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn complaints(metrics: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is installed (tests/parts/install)");
    let mut stdin = promtool.stdin.take().expect("it was asked for");
    stdin.write_all(metrics.as_bytes()).expect("promtool reads to the end");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = said(&output);
    if output.status.success() || !said.is_empty() { said } else { output.status.to_string() }
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}
