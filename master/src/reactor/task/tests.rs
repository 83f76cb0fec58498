use std::{fs, path::Path, sync::Mutex};

use drover_proto::{
    id::JobId,
    job::{JobRequest, TargetType},
};
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{
    config::Config,
    store::{OpenError, Retention, StartError},
};

/// A fleet that writes down what it is asked for.
#[derive(Clone, Default)]
struct Fleet(Arc<Mutex<Vec<String>>>);

impl Fleet {
    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn jid(&self, asked: String) -> JobId {
        let mut all = self.0.lock().unwrap();
        all.push(asked);
        let at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(all.len() as i64);
        JobId::next(at, None)
    }
}

impl Effects for Fleet {
    async fn start_job(&self, request: JobRequest) -> Result<JobId, EffectError> {
        Ok(self.jid(format!("{} {}", request.tgt, request.fun)))
    }

    async fn deliver_pending(&self, tgt: String, _: TargetType) -> Result<usize, EffectError> {
        self.jid(format!("deliver {tgt}"));
        Ok(1)
    }
}

struct Setup {
    directory: TempDir,
    store: Store,
    fleet: Fleet,
}

impl Setup {
    fn new(rules: &[(&str, &str)]) -> Self {
        Self::keeping(rules, Retention::default())
    }

    fn keeping(rules: &[(&str, &str)], retention: Retention) -> Self {
        let directory = TempDir::new().unwrap();
        let list: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(i, (tags, _))| format!("  - '{tags}': {i}.sls\n"))
            .collect();
        for (index, (_, text)) in rules.iter().enumerate() {
            fs::write(directory.path().join(format!("{index}.sls")), text).unwrap();
        }
        fs::write(directory.path().join("master.yml"), format!("reactor:\n{}", list.concat()))
            .unwrap();
        let store = Store::open(&directory.path().join("data"), retention).unwrap();
        Self { directory, store, fleet: Fleet::default() }
    }

    /// As a master does that ends and starts.
    fn reopen(self, retention: Retention) -> Self {
        let Self { directory, store, fleet } = self;
        drop(store);
        let store = loop {
            // The writer of a dropped store lets go of the directory a moment later.
            match Store::open(&directory.path().join("data"), retention) {
                Err(OpenError::Start(StartError::InUse { .. })) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        Self { directory, store, fleet }
    }

    async fn start(&self) -> tokio::task::JoinHandle<Result<(), ReactorStopped>> {
        let config = Config::load(Path::new(self.directory.path())).unwrap();
        let rules =
            Rules::read(config.reactor.as_ref().unwrap(), config.file_roots.clone()).unwrap();
        let task =
            ReactorTask::new(self.store.clone(), self.fleet.clone(), rules, 10).await.unwrap();
        tokio::spawn(task.run())
    }

    async fn send(&self, tag: &str, minion: &str, data: Value) {
        let minion = Some(minion.parse().unwrap());
        self.store.append(NewEvent::new(tag.parse().unwrap(), minion, data)).await.unwrap();
    }

    /// The data of the events with this tag, once there are so many.
    async fn wait(&self, tag: &str, count: usize) -> Vec<Value> {
        let mut newer = self.store.watch();
        loop {
            let events = self.store.events(0, 100_000).await.unwrap();
            let found: Vec<_> = events
                .iter()
                .filter(|event| event.tag.as_str() == tag)
                .map(|event| event.data.clone())
                .collect();
            if found.len() >= count {
                return found;
            }
            newer.changed().await.unwrap();
        }
    }
}

const PUSH: &str = "push:\n  runner.pending.deliver:\n    - tgt: {{ data['id'] }}\n";
const PING: &str = "x:\n  local.test.ping:\n    - tgt: {{ data['id'] }}\n";

#[tokio::test]
async fn a_start_delivers_what_is_pending_and_is_recorded() {
    let setup = Setup::new(&[("salt/minion/*/start", PUSH)]);
    let _task = setup.start().await;
    setup.send("drover/minion/a/start", "a", Value::Null).await;
    let records = setup.wait("drover/reactor/ran", 1).await;
    assert_eq!(setup.fleet.asked(), ["deliver a"]);
    assert_eq!(records[0]["rule"], "salt/minion/*/start");
    assert_eq!(records[0]["event"]["tag"], "drover/minion/a/start");
    assert_eq!(records[0]["reactions"][0]["function"], "runner.pending.deliver");
    assert_eq!(records[0]["reactions"][0]["delivered"], 1);
}

#[tokio::test]
async fn events_before_there_was_a_rule_are_not_reacted_to() {
    let setup = Setup::new(&[("*", PING)]);
    setup.send("shop/open", "old", Value::Null).await;
    let _task = setup.start().await;
    setup.send("shop/open", "new", Value::Null).await;
    setup.wait("drover/reactor/ran", 1).await;
    assert_eq!(setup.fleet.asked(), ["new test.ping"]);
}

#[tokio::test]
async fn a_restart_takes_up_what_was_not_met_and_repeats_nothing_that_was_recorded() {
    let setup = Setup::new(&[("shop/*", PING)]);
    let task = setup.start().await;
    for minion in ["a", "b"] {
        setup.send("shop/open", minion, Value::Null).await;
    }
    setup.wait("drover/reactor/ran", 2).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(setup.store.cursor(CURSOR).unwrap(), Some(0), "the cursor had no time to be saved");
    setup.send("shop/open", "c", Value::Null).await;
    let _task = setup.start().await;
    setup.wait("drover/reactor/ran", 3).await;
    assert_eq!(setup.fleet.asked(), ["a test.ping", "b test.ping", "c test.ping"]);
}

#[tokio::test]
async fn what_retention_took_away_before_the_reactor_is_told_with_its_count() {
    let few = Retention { bytes: 4 << 10, undelivered: 16 << 10, ..Retention::default() };
    let setup = Setup::keeping(&[("shop/*", PING)], few);
    let task = setup.start().await;
    setup.send("shop/open", "a", Value::Null).await;
    setup.wait("drover/reactor/ran", 1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    for n in 0..2_000 {
        setup.send("other/open", "b", json!(n)).await;
    }
    while setup.store.expire().await.unwrap() {}
    let first = setup.store.first_seq().unwrap();
    assert!(first > 500, "the reactor holds only so much: {first}");
    let setup = setup.reopen(few);
    let _task = setup.start().await;
    let missed = setup.wait("drover/reactor/missed", 1).await;
    assert_eq!((&missed[0]["from"], &missed[0]["to"]), (&json!(1), &json!(first - 1)));
    assert_eq!(missed[0]["count"], first - 1);
    setup.send("shop/open", "c", Value::Null).await;
    setup.wait("drover/reactor/ran", 1).await;
    assert_eq!(setup.fleet.asked(), ["a test.ping", "c test.ping"], "and it goes on");
}

#[tokio::test]
async fn a_rule_that_would_feed_itself_stops_at_its_own_doing() {
    let setup = Setup::new(&[
        ("ping/*", "x:\n  runner.event.send:\n    - tag: pong/{{ data['id'] | default('x') }}\n"),
        ("pong/*", "x:\n  runner.event.send:\n    - tag: ping/x\n"),
    ]);
    let _task = setup.start().await;
    setup.send("ping/start", "a", Value::Null).await;
    let circles = setup.wait("drover/reactor/loop", 1).await;
    assert_eq!(circles[0]["rule"], "ping/*");
    assert_eq!(setup.wait("ping/x", 1).await.len(), 1);
}

#[tokio::test]
async fn a_flood_is_held_and_told() {
    let setup = Setup::new(&[("shop/*", "x:\n  local.test.ping:\n    - tgt: {{ data['n'] }}\n")]);
    let _task = setup.start().await;
    for n in 0..12 {
        setup.send("shop/open", "a", json!({"n": n})).await;
    }
    let held = setup.wait("drover/reactor/held", 1).await;
    assert_eq!(held[0]["rule"], "shop/*");
    setup.wait("drover/reactor/ran", 10).await;
    assert_eq!(setup.fleet.asked().len(), 10);
}

#[tokio::test]
async fn a_broken_rule_is_told_once_and_the_others_go_on() {
    let setup = Setup::new(&[
        ("shop/*", "x:\n  local.test.ping:\n    - tgt: {{ nothing }}\n"),
        ("shop/*", PING),
    ]);
    let _task = setup.start().await;
    for minion in ["a", "b", "c"] {
        setup.send("shop/open", minion, Value::Null).await;
    }
    setup.wait("drover/reactor/ran", 3).await;
    let errors = setup.wait("drover/reactor/error", 1).await;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["line"], 3);
    assert!(errors[0]["file"].as_str().unwrap().ends_with("/0.sls"));
}
