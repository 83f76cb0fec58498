//! `drover-enrol batch`: issues a whole list. It is checked from the first line to the last before
//! anything is issued, and it may be stopped at any time and run again.

use std::path::Path;
use std::sync::atomic::Ordering;

use drover_pki::assembly::read_device_list;
use drover_pki::file;
use drover_pki::ledger::Reason;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::arguments::line::Batch;
use crate::failure::Failure;
use crate::input;
use crate::line::{self, Line};

mod plan;
mod report;

use plan::{Job, Step, plan};
use report::{Outcome, Report};

pub(crate) fn batch(arguments: Batch, now: Timestamp) -> Result<(), Failure> {
    let Batch { line: common, csv, reason, json, reissue } = arguments;
    let refused = |wrong: Vec<_>| -> Failure {
        let printed = if json { report::print_refusal(&wrong) } else { Ok(()) };
        printed.err().unwrap_or_else(|| Failure::device_list(&csv, &wrong))
    };
    let settings = common.settings()?;
    let list = read_device_list(&file::read(&csv)?, &settings);
    let list = list.map_err(|error| refused(error.wrong))?;

    let out = common.out.clone();
    let mut line = Line::open(common, settings, now)?;
    let beside = csv.parent().unwrap_or(Path::new(""));
    let jobs = plan(&list, &line, &out, beside, reissue)?.map_err(refused)?;
    line::prepare(&out).map_err(Failure::no_place)?;

    let stop = input::stop_flag().map_err(Failure::signals)?;
    let mut report = Report::new(line.station.name(), jobs.len());
    let progress = progress(jobs.len());
    let mut failed = None;
    for job in jobs {
        // Here, and nowhere within a device: what was begun is finished.
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match work(&mut line, job, reason.as_ref()) {
            Ok(outcome) => report.add(outcome),
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if report.has_new_configuration() {
        line.warn_without_master();
    }
    if json {
        report.print_json()?;
    } else {
        crate::print(&report.text(&out, line.labels.directory()))?;
    }
    match failed {
        Some(failure) => Err(failure.during_batch(report.remaining())),
        None if report.remaining() > 0 => Err(Failure::stopped(report.remaining())),
        None => Ok(()),
    }
}

fn work(line: &mut Line, job: Job, reason: Option<&Reason>) -> Result<Outcome, Failure> {
    let Job { line: number, mut order, step } = job;
    let out = order.out.clone();
    let what = format!("line {number}, the serial number `{}`", order.serial);
    let issued = match step {
        Step::Skip(entry) => {
            line.labels.complete(&entry)?;
            return Ok(Outcome::skipped(number, out, *entry));
        }
        Step::Finish(begun) => line.station.finish(&begun, crate::now()),
        Step::Issue => line.issue(order, crate::now()),
        Step::Reissue => {
            order.reissue = reason.cloned();
            line.issue(order, crate::now())
        }
    };
    let issued = issued.map_err(|error| Failure::from(error).at(&what))?;
    line.labels.write(&issued.entry)?;
    Ok(Outcome::issued(number, out, issued))
}

fn progress(devices: usize) -> ProgressBar {
    // Hides itself where standard error is no terminal.
    let length = u64::try_from(devices).ok();
    let progress = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}, {per_sec}, {eta} to go");
    match style {
        Ok(style) => progress.with_style(style),
        Err(_) => progress,
    }
}
