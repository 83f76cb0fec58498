use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::compile::Compiler;
use crate::files::memory::MemoryFiles;
use crate::render::Context;

async fn run_with(files: &[(&str, &str)], options: RunOptions) -> StateReturn {
    let files = MemoryFiles::new(files);
    let pillar = json!({"motd": "hello"}).as_object().unwrap().clone();
    let compiler = Compiler::new(Arc::clone(&files) as _, Context::new(Map::new(), pillar.clone()));
    let low = compiler.sls("base", &["a"]).map_err(|errors| panic!("{errors}")).unwrap();
    let host = Host::new(files, Map::new(), pillar);
    let mut told = 0;
    let returned = Run::new(low, options).execute(&host, |_, _| told += 1).await;
    assert_eq!(told, returned.0.len());
    returned
}

async fn run(text: &str) -> StateReturn {
    run_with(&[("a.sls", text)], RunOptions::default()).await
}

async fn test_run(text: &str) -> StateReturn {
    run_with(&[("a.sls", text)], RunOptions { test: true, failhard: false }).await
}

/// `id: result comment` for each state.
fn told(returned: &StateReturn) -> Vec<String> {
    let line = |state: &Value| {
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {} {}", text("__id__"), state["result"], text("comment"))
    };
    returned.0.values().map(line).collect()
}

#[tokio::test]
async fn return_has_salts_shape() {
    let returned = run("a:\n  test.succeed_with_changes:\n    - name: n\n").await;
    let (key, state) = returned.0.iter().next().unwrap();
    assert_eq!(key, "test_|-a_|-n_|-succeed_with_changes");
    assert_eq!(state["name"], "n");
    assert_eq!(state["result"], true);
    assert_eq!(state["changes"]["testing"]["old"], "Unchanged");
    assert_eq!((&state["__id__"], &state["__sls__"]), (&json!("a"), &json!("a")));
    assert_eq!(state["__run_num__"], 0);
    assert!(state["duration"].is_f64() && state["start_time"].is_string());
}

#[tokio::test]
async fn failed_requisite_keeps_a_state_from_running_and_others_run() {
    let returned = run("
bad: test.fail_without_changes
needs:
  test.nop:
    - require:
      - test: bad
further:
  test.nop:
    - watch:
      - test: needs
alone: test.nop
any:
  test.nop:
    - require_any:
      - test: bad
      - test: alone
")
    .await;
    assert_eq!(
        told(&returned),
        [
            "bad: false Failure!",
            "needs: false One or more requisite failed: a.bad",
            "further: false One or more requisite failed: a.needs",
            "alone: true Success!",
            "any: true Success!",
        ]
    );
    assert_eq!(returned.retcode(), 2);
    assert_eq!(returned.0["test_|-needs_|-needs_|-nop"]["__state_ran__"], false);
}

#[tokio::test]
async fn onchanges_onfail_and_watch_react() {
    let returned = run("
changed: test.succeed_with_changes
same: test.nop
bad: test.fail_with_changes
on-changed:
  test.nop:
    - onchanges:
      - test: same
      - test: changed
on-same:
  test.nop:
    - onchanges:
      - test: same
on-fail:
  test.nop:
    - onfail:
      - test: same
      - test: bad
on-fail-all:
  test.nop:
    - onfail_all:
      - test: same
      - test: bad
watching:
  test.nop:
    - watch:
      - test: changed
")
    .await;
    assert_eq!(
        told(&returned)[3..],
        [
            "on-changed: true Success!",
            "on-same: true State was not run because none of the onchanges reqs changed",
            "on-fail: true Success!",
            "on-fail-all: true State was not run because onfail req did not change",
            "watching: true Watch statement fired.",
        ]
    );
}

#[tokio::test]
async fn failhard_ends_the_run() {
    let text = "bad:\n  test.fail_without_changes:\n    - failhard: True\nnext: test.nop\n";
    assert_eq!(told(&run(text).await), ["bad: false Failure!"]);
}

#[tokio::test]
async fn conditions_hold_a_state_back() {
    let returned = run("
u:
  test.nop:
    - unless: [\"true\", \"true\"]
o:
  test.nop:
    - onlyif: \"false\"
c:
  test.nop:
    - creates: /
r:
  test.nop:
    - unless: [\"true\", \"false\"]
")
    .await;
    assert_eq!(
        told(&returned),
        [
            "u: true unless condition is true",
            "o: true onlyif condition is false",
            "c: true / exists",
            "r: true Success!",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn retry_tells_its_attempts() {
    let returned = run("a:\n  test.fail_without_changes:\n    - retry: {attempts: 3}\n").await;
    let comment = returned.0.values().next().unwrap()["comment"].as_str().unwrap();
    assert_eq!(comment.matches("Returned a result of \"False\"").count(), 2);
    assert!(comment.starts_with("Attempt 1: "), "{comment}");
}

#[tokio::test]
async fn command_runs_with_its_environment_and_exit_codes() {
    let returned = run("
ok:
  cmd.run:
    - name: echo $WORD; exit 3
    - env:
      - WORD: hi
    - success_retcodes: 3
    - cwd: /
bad:
  cmd.run:
    - name: echo no >&2; false
waiting:
  cmd.wait:
    - name: echo waited
    - watch:
      - cmd: ok
idle:
  cmd.wait:
    - name: echo never
")
    .await;
    let states: Vec<&Value> = returned.0.values().collect();
    assert_eq!(states[0]["changes"]["stdout"], "hi");
    assert_eq!(states[0]["result"], true);
    assert_eq!(states[1]["result"], false);
    assert_eq!(states[1]["changes"]["stderr"], "no");
    assert_eq!(states[2]["changes"]["stdout"], "waited");
    assert_eq!(states[3]["changes"], json!({}));
    let dry = test_run("a:\n  cmd.run:\n    - name: touch /nowhere\n").await;
    assert_eq!(told(&dry), ["a: null Command \"touch /nowhere\" would have been executed"]);
}

#[tokio::test]
async fn command_runs_as_another_user() {
    // Only root may become somebody else.
    if !rustix::process::getuid().is_root() {
        return;
    }
    let returned = run("id -un; id -G; pwd:\n  cmd.run:\n    - runas: nobody\n").await;
    let state = returned.0.values().next().unwrap();
    let stdout = state["changes"]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("nobody\n"), "{state}");
    assert!(!stdout.lines().nth(1).unwrap().split(' ').any(|group| group == "0"), "{stdout}");
    let unknown = run("id:\n  cmd.run:\n    - runas: nosuchuser\n").await;
    assert_eq!(told(&unknown), ["id: false User nosuchuser is not available"]);
}

/// After an apply nothing is left to do: the law of every module.
async fn obeys_the_law(text: &str) {
    let dry = test_run(text).await;
    assert!(dry.0.values().all(|state| state["result"].is_null()), "{:?}", told(&dry));
    let first = run(text).await;
    assert!(first.succeeded() && first.changed(), "{:?}", told(&first));
    for again in [test_run(text).await, run(text).await] {
        assert!(again.succeeded() && !again.changed(), "{:?}", told(&again));
    }
}

#[tokio::test]
async fn file_states_obey_the_law() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    obeys_the_law(&format!(
        "{at}/new/file:\n  file.managed:\n    - contents: hello\n    - mode: 0640\n    - makedirs: True\n"
    ))
    .await;
    let metadata = std::fs::metadata(directory.path().join("new/file")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    obeys_the_law(&format!("{at}/dir:\n  file.directory:\n    - mode: '0700'\n")).await;
    obeys_the_law(&format!("{at}/dir:\n  file.directory:\n    - mode: 755\n")).await;
    obeys_the_law(&format!("{at}/link:\n  file.symlink:\n    - target: dir\n")).await;
    obeys_the_law(&format!("{at}/link:\n  file.symlink:\n    - target: new\n")).await;
    obeys_the_law(&format!("{at}/link:\n  file.absent\n")).await;
    obeys_the_law(&format!("{at}/new:\n  file.absent\n")).await;
    obeys_the_law(&format!("{at}/f:\n  file.managed:\n    - contents_pillar: motd\n")).await;
    obeys_the_law(&format!("{at}/f:\n  file.managed:\n    - mode: '0600'\n")).await;
    assert_eq!(std::fs::read_to_string(directory.path().join("f")).unwrap(), "hello\n");
}

#[tokio::test]
async fn unchanged_file_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let text = format!("{}:\n  file.managed:\n    - contents: [a, b]\n", path.display());
    run(&text).await;
    let before = std::fs::metadata(&path).unwrap();
    run(&text).await;
    let after = std::fs::metadata(&path).unwrap();
    let stamps = |m: &std::fs::Metadata| (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime_nsec());
    assert_eq!(stamps(&before), stamps(&after));
}

#[tokio::test]
async fn source_is_rendered_and_shown_as_a_diff() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("conf");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let sls = format!(
        "{}:\n  file.managed:\n    - source:\n      - salt://absent\n      - salt://d/conf\n    - template: jinja\n    - defaults:\n        word: no\n    - context:\n        word: 'three'\n",
        path.display()
    );
    let files =
        [("a.sls", sls.as_str()), ("d/conf", "one\n{{ word }} {{ pillar.motd }} {{ tpldir }}\n")];
    let returned = run_with(&files, RunOptions::default()).await;
    let state = returned.0.values().next().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nthree hello d\n");
    assert_eq!(
        state["changes"]["diff"],
        "--- \n+++ \n@@ -1,2 +1,2 @@\n one\n-two\n+three hello d\n"
    );
}

#[tokio::test]
async fn dry_run_takes_a_missing_parent_for_one_that_an_earlier_state_makes() {
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("made");
    let made = made.display();
    let text = format!(
        "{made}: file.directory\n{made}/in: file.directory\n{made}/in/file:\n  file.managed:\n    - contents: x\n{made}/link:\n  file.symlink:\n    - target: file\n"
    );
    let foretold = test_run(&text).await;
    assert!(foretold.0.values().all(|state| state["result"].is_null()), "{:?}", told(&foretold));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let done = run(&text).await;
    assert!(done.0.values().all(|state| state["result"] == true), "{:?}", told(&done));
}

#[tokio::test]
async fn file_without_a_directory_to_be_in_fails() {
    let text = "/nowhere/at/all:\n  file.managed:\n    - contents: x\n/nowhere/at/link:\n  file.symlink:\n    - target: x\n/nowhere/at/dir: file.directory\n";
    assert_eq!(
        told(&run(text).await),
        [
            "/nowhere/at/all: false Parent directory not present",
            "/nowhere/at/link: false Directory /nowhere/at for symlink is not present",
            "/nowhere/at/dir: false No directory to create /nowhere/at/dir in",
        ]
    );
    assert!(!Path::new("/nowhere").exists());
}
