use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::bridge::sink::item;

/// Acknowledges each event, and says so in a file.
const FAITHFUL: &str = "import sys, json
for line in sys.stdin:
    seq = json.loads(line)['seq']
    open('seen', 'a').write(f'{seq}\\n')
    print(seq, flush=True)";

fn sink(directory: &Path, settings: &str) -> Result<ExecSink, Diagnostic> {
    let text = format!("name: own\ndirectory: {}\n{settings}", directory.display());
    let root = drover_states::yaml::load_nodes(&text)?;
    let mut settings = Settings::new(directory, &text, root.as_ref())?;
    let sink = ExecSink::read(&mut settings)?;
    settings.finish()?;
    Ok(sink)
}

fn program(directory: &Path, interpreter: &str, flag: &str, script: &str) -> ExecSink {
    let command = serde_json::to_string(&[interpreter, flag, script]).unwrap();
    sink(directory, &format!("command: {command}\nack_timeout: 10s\n")).unwrap()
}

fn python(directory: &TempDir, script: &str) -> ExecSink {
    program(directory.path(), "python3", "-c", script)
}

fn shell(directory: &TempDir, script: &str) -> ExecSink {
    program(directory.path(), "sh", "-c", script)
}

fn items(seqs: impl IntoIterator<Item = u64>) -> Vec<Item> {
    seqs.into_iter().map(|seq| item(seq, "a/b", json!({"n": seq}))).collect()
}

fn seen(directory: &TempDir) -> Vec<u64> {
    let text = fs::read_to_string(directory.path().join("seen")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Waits until the process whose number is in a file is gone.
async fn gone(path: &Path) {
    for _ in 0..500 {
        let pid = fs::read_to_string(path).unwrap_or_default();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if !pid.is_empty() && (state.is_empty() || state.contains(") Z ")) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the process in {} lives", path.display());
}

#[tokio::test]
async fn a_program_is_kept_from_batch_to_batch() {
    let directory = TempDir::new().unwrap();
    let sink = python(&directory, &format!("open('starts', 'a').write('x')\n{FAITHFUL}"));
    assert_eq!(sink.deliver(&items(1..=300)).await.unwrap(), vec![Verdict::Done; 300]);
    assert_eq!(sink.deliver(&items([304, 307])).await.unwrap(), vec![Verdict::Done; 2]);
    assert_eq!(seen(&directory), (1..=300).chain([304, 307]).collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(directory.path().join("starts")).unwrap(), "x");
}

#[tokio::test]
async fn a_batch_larger_than_any_pipe_goes_both_ways_at_once() {
    let directory = TempDir::new().unwrap();
    let sink = python(&directory, FAITHFUL);
    let long = "x".repeat(100_000);
    let items: Vec<_> = (1..=50).map(|seq| item(seq, "a/b", json!(long))).collect();
    assert_eq!(sink.deliver(&items).await.unwrap(), vec![Verdict::Done; 50]);
}

#[tokio::test]
async fn what_a_program_left_when_it_died_goes_to_the_next_one() {
    let directory = TempDir::new().unwrap();
    let dying = format!("{FAITHFUL}\n    if seq % 3 == 0: sys.exit(7)");
    let sink = python(&directory, &dying);
    let verdicts = sink.deliver(&items(1..=5)).await.unwrap();
    assert_eq!(verdicts[..3], vec![Verdict::Done; 3]);
    let reason = "the program ended (exit status: 7) with 2 events not acknowledged";
    assert_eq!(verdicts[3..], vec![Verdict::Later(reason.into()); 2]);
    assert_eq!(sink.deliver(&items(4..=5)).await.unwrap(), vec![Verdict::Done; 2]);
    assert_eq!(seen(&directory), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_dead_letter_that_is_tried_again_comes_in_its_place_and_once() {
    let directory = TempDir::new().unwrap();
    let sink = python(&directory, FAITHFUL);
    assert_eq!(sink.deliver(&items([8, 9])).await.unwrap(), vec![Verdict::Done; 2]);
    assert_eq!(sink.deliver(&items([10, 3, 10])).await.unwrap(), vec![Verdict::Done; 3]);
    assert_eq!(seen(&directory), [8, 9, 3, 10]);
}

#[tokio::test]
async fn a_program_that_ended_between_two_batches_is_no_failure() {
    let directory = TempDir::new().unwrap();
    let sink = shell(&directory, "read line; echo 1; read line; echo 2; echo $$ > pid");
    assert_eq!(sink.deliver(&items(1..=2)).await.unwrap(), vec![Verdict::Done; 2]);
    gone(&directory.path().join("pid")).await;
    assert_eq!(sink.deliver(&items(1..=2)).await.unwrap(), vec![Verdict::Done; 2]);
}

#[tokio::test]
async fn a_refusal_is_the_events_own() {
    let directory = TempDir::new().unwrap();
    let sink = shell(
        &directory,
        "read a; read b; read c; echo '{\"seq\":2,\"refused\":\"no\"}'; echo 3; cat",
    );
    let verdicts = sink.deliver(&items(1..=3)).await.unwrap();
    assert_eq!(verdicts, [Verdict::Done, Verdict::Refused("no".into()), Verdict::Done]);
}

#[tokio::test]
async fn a_silent_program_is_killed_with_all_that_it_started() {
    let directory = TempDir::new().unwrap();
    let sink = sink(
        directory.path(),
        "command: [sh, -c, 'sleep 1000 & echo $! > pid; cat > /dev/null']\nack_timeout: 300ms\n",
    )
    .unwrap();
    let error = sink.deliver(&items(1..=2)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the program acknowledged none of 2 events within 0.3 s (`ack_timeout`)"
    );
    gone(&directory.path().join("pid")).await;
}

#[tokio::test]
async fn a_program_ends_with_its_bridge() {
    let directory = TempDir::new().unwrap();
    let sink = shell(&directory, "sleep 1000 & echo $! > pid; read line; echo 1; wait");
    assert_eq!(sink.deliver(&items([1])).await.unwrap(), [Verdict::Done]);
    drop(sink);
    gone(&directory.path().join("pid")).await;
}

#[tokio::test]
async fn floods_garbage_and_false_claims_are_refused() {
    let directory = TempDir::new().unwrap();
    for (script, reason) in [
        ("yes", "the program printed `y`, which acknowledges nothing"),
        ("tr '\\0' x < /dev/zero", "the program printed a line of more than 65536 bytes"),
        ("read a; echo 9", "the program acknowledged event 9, which it was not sent"),
        (
            "exec 0<&-; sleep 1000",
            "the program closed its standard input with 1 events not acknowledged",
        ),
        (
            "read a; exec 1>&-; sleep 1000",
            "the program closed its standard output with 1 events not acknowledged",
        ),
    ] {
        let long = item(1, "a/b", json!("x".repeat(200_000)));
        let error = shell(&directory, script).deliver(&[long]).await.unwrap_err();
        assert_eq!(error.to_string(), reason, "{script}");
        assert_eq!(error.failure(), Failure::Away);
    }
}

#[tokio::test]
async fn a_slow_program_is_not_given_twice_what_it_has() {
    let directory = TempDir::new().unwrap();
    let slow = format!("{FAITHFUL}\n    import time; time.sleep(0.1)");
    let mut sink = python(&directory, &slow);
    sink.at_once = Duration::from_millis(400);
    let mut left = items(1..=10);
    let mut calls = 0;
    while !left.is_empty() {
        calls += 1;
        // One that is loaded may answer nothing in a call: it is busy, and keeps what it has.
        let verdicts = match sink.deliver(&left).await {
            Ok(verdicts) => verdicts,
            Err(ExecError::Busy { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let mut verdicts = verdicts.iter();
        left.retain(|_| verdicts.next() != Some(&Verdict::Done));
    }
    assert!(calls > 1, "all was taken at once");
    assert_eq!(seen(&directory), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_program_gets_the_variables_that_it_is_given_and_no_secrets() {
    let directory = TempDir::new().unwrap();
    let sink = sink(
        directory.path(),
        "command: [sh, -c, 'env > env; read line; echo 1; cat']\nenv: {TOPIC: events}\n",
    )
    .unwrap();
    sink.deliver(&items([1])).await.unwrap();
    let environment = fs::read_to_string(directory.path().join("env")).unwrap();
    assert!(environment.contains("TOPIC=events\n") && environment.contains("DROVER_BRIDGE=own\n"));
    // Cargo gives tests many; a program has none of what it did not ask for.
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_for_the_operator() {
    let directory = TempDir::new().unwrap();
    let sink = sink(directory.path(), "command: [/no/such/program]\n").unwrap();
    let error = sink.deliver(&items([1])).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Denied);
}

#[test]
fn a_command_is_a_list() {
    let wrong = |text| sink(Path::new("/x"), text).err().unwrap().to_string();
    insta::assert_snapshot!(wrong("command: cat\n"), @r"
        line 3: `command` must be a program and its arguments, as a list of texts: `[/usr/local/bin/to-kafka, --topic, events]`
            3 | command: cat
    ");
    insta::assert_snapshot!(wrong("command: [cat]\nenv: {A: 1}\n"), @r"
        line 4: `env` must be a map of variables with texts; quote a number
            4 | env: {A: 1}
    ");
    insta::assert_snapshot!(wrong("ack_timeout: 1s\n"), @r"
        line 1: the bridge has no `command`
            1 | name: own
    ");
}
