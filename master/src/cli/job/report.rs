//! What comes back of a job: each return as it comes where people read along, one value at the end where a program
//! does. Who did not answer is named on standard error.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

use super::{count, ids, passed_over};
use crate::cli::{
    Outcome,
    arguments::Format,
    client::Lines,
    failure::Failure,
    output::{
        Printer, highstate, nested, pretty,
        style::{Colour, Style},
        table, yaml,
    },
};

pub(in crate::cli) struct Report<'a> {
    printer: &'a Printer,
    format: Format,
    jid: String,
    expected: usize,
    /// Kept for the end where the format is one value.
    returns: BTreeMap<String, (Value, bool)>,
    returned: usize,
    has_failure: bool,
    silent: bool,
    /// Those that the job never reaches.
    away: BTreeSet<String>,
    progress: ProgressBar,
}

impl<'a> Report<'a> {
    pub(in crate::cli) fn new(printer: &'a Printer) -> Self {
        // Hides itself where standard error is no terminal.
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            progress.set_style(style);
        }
        Self {
            printer,
            format: printer.format_or(Format::Nested),
            jid: String::new(),
            expected: 0,
            returns: BTreeMap::new(),
            returned: 0,
            has_failure: false,
            silent: false,
            away: BTreeSet::new(),
            progress,
        }
    }

    /// The stream's first line: who was matched, and which ids of a list nobody has.
    pub(in crate::cli) fn ticket(&mut self, ticket: &Value) {
        self.expected = ids(&ticket["minions"]).len();
        for (id, reason) in passed_over(ticket) {
            self.missing(&id, &reason);
        }
        self.batch(ticket);
    }

    /// The ticket of one batch among several.
    pub(in crate::cli) fn batch(&mut self, ticket: &Value) {
        if let Some(jid) = ticket["jid"].as_str() {
            jid.clone_into(&mut self.jid);
        }
        let queued = ids(&ticket["queued"]);
        self.away.extend(ids(&ticket["away"]).into_iter().filter(|id| !queued.contains(id)));
    }

    fn line(&mut self, line: &Value) -> Result<(), Failure> {
        let minion = line["minion"].as_str().unwrap_or_default();
        let state = line["state"].as_str().unwrap_or_default();
        if line["silent"] == Value::Bool(true) {
            self.silent |= !self.away.contains(minion);
            self.missing(minion, line["reason"].as_str().unwrap_or("did not answer"));
            return Ok(());
        }
        match state {
            "done" | "failed" => {
                let succeeded = state == "done" && line["retcode"].as_i64().unwrap_or(0) == 0;
                self.returned(minion, &line["return"], succeeded)?;
            }
            "running" => match line["behind"].as_u64() {
                Some(behind) if behind > 0 => {
                    self.progress.set_message(format!("{minion} has it, behind {behind} others"));
                    self.progress.tick();
                }
                Some(_) | None => {}
            },
            "queued" => self.note(&format!("{minion}: is away; kept until it is back")),
            "timed_out" => self.missing(minion, "the job was not over in its time"),
            "expired" => self.missing(minion, "did not come back in the job's time to live"),
            "superseded" => self.missing(minion, "a later job took this one's place"),
            "cancelled" => self.missing(minion, "the job was taken back"),
            other => self.missing(minion, &format!("the job ended as `{other}`")),
        }
        Ok(())
    }

    fn returned(&mut self, minion: &str, value: &Value, succeeded: bool) -> Result<(), Failure> {
        self.returned += 1;
        self.has_failure |= !succeeded;
        let style = self.printer.style();
        let text = match self.format {
            Format::Nested => Some(render(minion, value, succeeded, style)),
            Format::Txt => Some(format!("{minion}: {}", style.clean(&line_of(value)))),
            Format::Json | Format::Yaml | Format::Table => {
                self.returns.insert(minion.to_owned(), (value.clone(), succeeded));
                None
            }
            Format::Quiet => None,
        };
        if let Some(text) = text {
            self.progress.suspend(|| self.printer.text(&text))?;
        }
        if self.expected > 1 && self.returned < self.expected {
            let message = format!("{} of {} returned", self.returned, count(self.expected));
            self.progress.set_message(message);
            self.progress.tick();
        }
        Ok(())
    }

    fn missing(&mut self, minion: &str, reason: &str) {
        self.has_failure = true;
        self.note(&format!("{minion}: {reason}"));
    }

    fn note(&self, text: &str) {
        let text = self.printer.style().clean(text).into_owned();
        self.progress.suspend(|| self.printer.note(&text));
    }

    /// A minion that was away never got the job, so nothing comes late of it.
    fn hint(&self) -> Option<String> {
        const KEEP: &str = "--pending keeps a job for minions that are away";
        match (self.silent && !self.jid.is_empty(), self.away.is_empty()) {
            (true, true) => {
                Some(format!("hint: a late return is in `drover jobs show {}`", self.jid))
            }
            (true, false) => {
                Some(format!("hint: a late return is in `drover jobs show {}`; {KEEP}", self.jid))
            }
            (false, false) => Some(format!("hint: {KEEP}")),
            (false, true) => None,
        }
    }

    pub(in crate::cli) fn finish(self) -> Result<Outcome, Failure> {
        self.progress.finish_and_clear();
        let all = || -> Value {
            let returns =
                self.returns.iter().map(|(minion, (value, _))| (minion.clone(), value.clone()));
            Value::Object(returns.collect::<Map<_, _>>())
        };
        match self.format {
            Format::Json => self.printer.text(&pretty(&all()))?,
            Format::Yaml => self.printer.text(&yaml(&all())?)?,
            Format::Table => self.printer.text(&columns(&self.returns, self.printer.style()))?,
            Format::Nested | Format::Txt | Format::Quiet => {}
        }
        if let Some(hint) = self.hint() {
            self.printer.note(&hint);
        }
        Ok(if self.has_failure { Outcome::Failed } else { Outcome::Success })
    }
}

/// Takes the lines of one job until its stream ends. Ctrl-C ends the waiting, not the job.
pub(in crate::cli) async fn follow(
    lines: &mut Lines,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => report.line(&line)?,
                None => return Ok(()),
            },
            // Where the signal cannot be caught, it ends the process as it always did.
            Ok(()) = tokio::signal::ctrl_c() => {
                let jid = &report.jid;
                return Err(Failure::failed(format!("no longer waiting; job {jid} goes on"))
                    .hint(format!("`drover jobs wait {jid}` waits again, `drover jobs kill {jid}` ends it")));
            }
        }
    }
}

fn render(minion: &str, value: &Value, succeeded: bool, style: Style) -> String {
    match highstate::states(value) {
        Some(states) => highstate::render(minion, &states, style),
        None => {
            let colour = if succeeded { Colour::Green } else { Colour::Red };
            nested::render_return(minion, value, colour, style)
        }
    }
}

fn line_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// A row a minion; of a state run its sums.
fn columns(returns: &BTreeMap<String, (Value, bool)>, style: Style) -> String {
    let is_run = !returns.is_empty()
        && returns.values().all(|(value, _)| highstate::states(value).is_some());
    if !is_run {
        let rows = returns.iter().map(|(minion, (value, succeeded))| {
            let result = if *succeeded { "ok" } else { "failed" };
            vec![minion.clone(), result.to_owned(), table::cell(value)]
        });
        return table::render(&["minion", "result", "return"], rows, style);
    }
    let rows = returns.iter().filter_map(|(minion, (value, _))| {
        let totals = highstate::totals(&highstate::states(value)?);
        Some(vec![
            minion.clone(),
            totals.succeeded.to_string(),
            totals.changed.to_string(),
            totals.unchanged.to_string(),
            totals.failed.to_string(),
            format!("{:.0} ms", totals.duration),
        ])
    });
    table::render(&["minion", "succeeded", "changed", "unchanged", "failed", "time"], rows, style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;
    use crate::cli::arguments::Global;

    #[test]
    fn a_table_has_a_row_for_each_minion() {
        let returns = BTreeMap::from([
            ("rfid-1".to_owned(), (json!(true), true)),
            ("gate-1".to_owned(), (json!("'test.pong' is not available."), false)),
        ]);
        assert_snapshot!(columns(&returns, Style::default()), @"
        minion  result  return
        gate-1  failed  'test.pong' is not available.
        rfid-1  ok      true
        ");
        let run =
            json!({ "test_|-a_|-a_|-nop": { "result": true, "changes": {}, "duration": 1.5 } });
        let returns = BTreeMap::from([("rfid-1".to_owned(), (run, true))]);
        assert_snapshot!(columns(&returns, Style::default()), @"
        minion  succeeded  changed  unchanged  failed  time
        rfid-1  1          0        0          0       2 ms
        ");
    }

    #[test]
    fn a_minion_that_was_away_promises_no_late_return() {
        let global = Global {
            config: ".".into(),
            out: Some(Format::Quiet),
            no_color: true,
            force_color: false,
        };
        let printer = Printer::new(&global);
        let silent = |minion: &str| json!({ "minion": minion, "state": "sent", "silent": true });
        let mut report = Report::new(&printer);
        report.ticket(&json!({ "jid": "7", "minions": ["a", "b"], "away": ["a"], "queued": [] }));
        report.line(&silent("a")).unwrap();
        assert_eq!(report.hint().unwrap(), "hint: --pending keeps a job for minions that are away");
        report.line(&silent("b")).unwrap();
        assert!(report.hint().unwrap().contains("`drover jobs show 7`"));
    }
}
