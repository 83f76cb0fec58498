use std::fs;

use serde_json::json;

use super::*;

fn jid(number: u32) -> JobId {
    format!("2026112302370500{number:04}").parse().unwrap()
}

fn returned(number: u32, value: serde_json::Value) -> Return {
    Return { jid: jid(number), fun: "cmd.run".into(), value, retcode: 0 }
}

#[test]
fn a_job_that_returned_is_recalled_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.recall(&jid(1)).unwrap(), Remembered::New);
    journal.begin(&jid(1), "cmd.run").unwrap();
    assert_eq!(journal.recall(&jid(1)).unwrap(), Remembered::Begun);
    journal.end(returned(1, json!("done"))).unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.recall(&jid(1)).unwrap(), Remembered::Returned(returned(1, json!("done"))));
    assert_eq!(journal.undelivered().unwrap(), [returned(1, json!("done"))]);
    journal.delivered(&jid(1)).unwrap();
    assert!(Journal::open(directory.path()).unwrap().undelivered().unwrap().is_empty());
}

#[test]
fn a_job_that_a_crash_cut_off_has_failed_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    Journal::open(directory.path()).unwrap().begin(&jid(1), "cmd.run").unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let Remembered::Returned(found) = journal.recall(&jid(1)).unwrap() else { panic!("no return") };
    assert_eq!(found.retcode, 1);
    assert!(found.value.as_str().unwrap().contains("while `cmd.run` ran"), "{}", found.value);
    assert_eq!(journal.undelivered().unwrap(), [found]);
}

#[test]
fn a_torn_tail_is_left_out_wherever_it_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.begin(&jid(1), "cmd.run").unwrap();
    journal.end(returned(1, json!("first"))).unwrap();
    let whole = fs::metadata(&path).unwrap().len() as usize;
    journal.begin(&jid(2), "cmd.run").unwrap();
    let content = fs::read(&path).unwrap();
    for cut in whole..content.len() {
        fs::write(&path, &content[..cut]).unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.recall(&jid(2)).unwrap(), Remembered::New, "cut at {cut}");
        journal.begin(&jid(3), "cmd.run").unwrap();
        journal.end(returned(3, json!("third"))).unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        assert_eq!(
            journal.recall(&jid(3)).unwrap(),
            Remembered::Returned(returned(3, json!("third")))
        );
    }
}

#[test]
fn the_journal_stays_bounded_and_forgets_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = Journal::open(directory.path()).unwrap();
    let output = json!("x".repeat(64 << 10));
    for number in 0..200 {
        journal.begin(&jid(number), "cmd.run").unwrap();
        journal.end(returned(number, output.clone())).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= REWRITE_AT + (128 << 10));
    }
    assert_eq!(journal.recall(&jid(0)).unwrap(), Remembered::New);
    assert_eq!(journal.recall(&jid(199)).unwrap(), Remembered::Returned(returned(199, output)));
}

#[test]
fn a_job_that_runs_while_the_journal_is_rewritten_is_not_taken_for_one_that_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.begin(&jid(0), "cmd.run").unwrap();
    for number in 1..3 * KEPT_JOBS as u32 {
        journal.begin(&jid(number), "cmd.run").unwrap();
        journal.end(returned(number, json!("done"))).unwrap();
    }
    assert!(journal.order.len() < 2 * KEPT_JOBS + 1, "it was rewritten");
    assert_eq!(journal.recall(&jid(0)).unwrap(), Remembered::Begun);
}

#[test]
fn a_rewrite_that_the_disk_does_not_take_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (here, away) = (directory.path().join("data"), directory.path().join("away"));
    fs::create_dir(&here).unwrap();
    let mut journal = Journal::open(&here).unwrap();
    let output = json!("x".repeat(64 << 10));
    let mut last = 0;
    while journal.end < REWRITE_AT {
        last += 1;
        journal.begin(&jid(last), "cmd.run").unwrap();
        journal.end(returned(last, output.clone())).unwrap();
    }
    fs::rename(&here, &away).unwrap();
    journal.begin(&jid(last + 1), "cmd.run").expect_err("there is nowhere to write to");
    fs::rename(&away, &here).unwrap();
    journal.begin(&jid(last + 2), "cmd.run").unwrap();
    assert!(journal.end < REWRITE_AT, "it was rewritten");
    assert_eq!(journal.recall(&jid(last)).unwrap(), Remembered::Returned(returned(last, output)));
}
