use serde_json::Map;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn jid(number: u32) -> JobId {
    format!("2026112302370500{number:04}").parse().unwrap()
}

fn job(number: u32, effect: Effect) -> Admitted {
    let (fun, arg, kwarg) = ("test.ping".to_owned(), vec![], Map::new());
    let job = Job { jid: jid(number), fun, arg, kwarg, timeout: 60 };
    Admitted { job, effect, limit: MINUTE }
}

fn returned(number: u32, value: Value) -> Return {
    Return { jid: jid(number), fun: "test.ping".into(), value, retcode: 0 }
}

/// The actions in short: `tell 1 behind 0`, `run 1`, `stop 1`, `return 1 journalled`.
fn actions(jobs: &mut Jobs) -> Vec<String> {
    let number = |jid: &JobId| jid.as_str()[16..].trim_start_matches('0').to_owned();
    std::iter::from_fn(|| jobs.poll_action())
        .map(|action| match action {
            Action::Tell(told) => format!("tell {} behind {}", number(&told.jid), told.behind),
            Action::Run(admitted) => format!("run {}", number(&admitted.job.jid)),
            Action::Stop(jid) => format!("stop {}", number(&jid)),
            Action::Return { returned, journal: true } => {
                format!("return {} journalled: {}", number(&returned.jid), returned.value)
            }
            Action::Return { returned, journal: false } => {
                format!("return {}: {}", number(&returned.jid), returned.value)
            }
        })
        .collect()
}

#[test]
fn state_runs_go_one_at_a_time_in_order_while_others_run_beside_them() {
    let now = start();
    let mut jobs = Jobs::new(2);
    for number in 1..=3 {
        jobs.handle_job(job(number, Effect::StateRun), now);
    }
    jobs.handle_job(job(4, Effect::ReadOnly), now);
    assert_eq!(
        actions(&mut jobs),
        [
            "tell 1 behind 0",
            "run 1",
            "tell 2 behind 1",
            "tell 3 behind 2",
            "tell 4 behind 0",
            "run 4"
        ]
    );
    jobs.handle_return(returned(1, json!({})), now);
    assert_eq!(actions(&mut jobs), ["return 1: {}", "tell 2 behind 0", "run 2"]);
}

#[test]
fn other_functions_run_up_to_a_bound_and_wait_in_order() {
    let now = start();
    let mut jobs = Jobs::new(2);
    for number in 1..=4 {
        jobs.handle_job(job(number, Effect::Changing), now);
    }
    assert_eq!(actions(&mut jobs)[4..], ["tell 3 behind 1", "tell 4 behind 2"]);
    jobs.handle_return(returned(2, json!(1)), now);
    assert_eq!(actions(&mut jobs), ["return 2 journalled: 1", "tell 3 behind 0", "run 3"]);
}

#[test]
fn a_job_sent_again_is_told_of_again_and_answered_from_memory_when_done() {
    let now = start();
    let mut jobs = Jobs::new(2);
    jobs.handle_job(job(1, Effect::StateRun), now);
    actions(&mut jobs);
    jobs.handle_job(job(1, Effect::StateRun), now);
    assert_eq!(actions(&mut jobs), ["tell 1 behind 0"]);
    jobs.handle_return(returned(1, json!("done")), now);
    actions(&mut jobs);
    jobs.handle_job(job(1, Effect::StateRun), now);
    assert_eq!(actions(&mut jobs), ["return 1: \"done\""]);
}

#[test]
fn a_job_that_takes_too_long_is_stopped_and_its_own_return_is_not_sent() {
    let now = start();
    let mut jobs = Jobs::new(2);
    jobs.handle_job(job(1, Effect::Changing), now);
    actions(&mut jobs);
    assert_eq!(jobs.poll_timeout(), Some(now + MINUTE));
    jobs.handle_timeout(now + MINUTE);
    assert_eq!(
        actions(&mut jobs),
        ["stop 1", "return 1 journalled: \"timed out after 60 s and was ended\""]
    );
    jobs.handle_return(returned(1, json!("late")), now);
    assert_eq!(actions(&mut jobs), [""; 0]);
}

#[test]
fn a_killed_job_ends_whether_it_runs_or_waits() {
    let now = start();
    let mut jobs = Jobs::new(2);
    for number in 1..=3 {
        jobs.handle_job(job(number, Effect::StateRun), now);
    }
    actions(&mut jobs);
    jobs.handle_kill(&jid(2), now);
    assert_eq!(actions(&mut jobs), ["return 2: \"killed before it ran\""]);
    jobs.handle_kill(&jid(1), now);
    assert_eq!(actions(&mut jobs), ["stop 1", "return 1: \"killed\"", "tell 3 behind 0", "run 3"]);
    jobs.handle_kill(&jid(9), now);
    assert_eq!(actions(&mut jobs), [""; 0]);
}

#[test]
fn the_queue_is_bounded() {
    let now = start();
    let mut jobs = Jobs::new(1);
    for number in 0..=LONGEST_QUEUE as u32 + 1 {
        jobs.handle_job(job(number, Effect::StateRun), now);
    }
    assert!(actions(&mut jobs).last().unwrap().contains("256 jobs wait"));
}

#[test]
fn an_agent_that_ends_answers_only_for_what_must_not_run_again() {
    let now = start();
    let mut jobs = Jobs::new(1);
    jobs.handle_job(job(1, Effect::Changing), now);
    jobs.handle_job(job(2, Effect::StateRun), now);
    jobs.handle_job(job(3, Effect::Changing), now);
    actions(&mut jobs);
    jobs.handle_shutdown();
    assert_eq!(
        actions(&mut jobs),
        ["return 1 journalled: \"the agent was stopped while it ran, and left it running\""]
    );
    assert_eq!(jobs.overview(), json!([]));
}
