//! Prometheus' own judge of metrics.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

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
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() || !said.is_empty() { said } else { output.status.to_string() }
}
