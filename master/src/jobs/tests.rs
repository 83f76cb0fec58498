use std::collections::HashSet;

use drover_proto::job::TargetType;
use serde_json::{Value, json};

use super::*;

/// Jobs in virtual time, with a store that is a map.
struct Scene {
    jobs: Jobs,
    now: Now,
    connected: HashSet<MinionId>,
    sent: Vec<(String, JobId)>,
    tags: Vec<String>,
    entries: BTreeMap<(JobId, MinionId), JobEntry>,
}

const LIMITS: JobLimits =
    JobLimits { timeout: Duration::from_secs(300), ttl: Duration::from_secs(7 * 86_400) };

fn id(text: &str) -> MinionId {
    text.parse().unwrap()
}

fn request(fun: &str, arg: &[Value], pending: bool) -> JobRequest {
    JobRequest {
        tgt: "*".into(),
        tgt_type: TargetType::Glob,
        fun: fun.into(),
        arg: arg.to_vec(),
        kwarg: serde_json::Map::new(),
        job_timeout: None,
        pending,
        ttl: None,
        user: "test".into(),
    }
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary moment to count from")]
    fn new(connected: &[&str]) -> Self {
        Self {
            jobs: Jobs::new(LIMITS, None),
            now: Now { instant: Instant::now(), wall: "2026-11-23T02:37:05Z".parse().unwrap() },
            connected: connected.iter().map(|text| id(text)).collect(),
            sent: Vec::new(),
            tags: Vec::new(),
            entries: BTreeMap::new(),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
        self.now.wall += jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        self.with(|jobs, now, effects| jobs.handle_timeout(now, effects));
    }

    /// Does what the hub would.
    fn with<T>(&mut self, act: impl FnOnce(&mut Jobs, Now, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let value = act(&mut self.jobs, self.now, &mut effects);
        let sends = effects.sends.into_iter();
        self.sent.extend(sends.map(|(minion, frame)| (minion.to_string(), frame.jid().clone())));
        self.tags.extend(effects.batch.tags());
        for (jid, minion, entry) in effects.batch.job_entries() {
            self.entries.insert((jid, minion), entry);
        }
        value
    }

    fn start(&mut self, request: JobRequest, minions: &[&str]) -> JobId {
        let connected = self.connected.clone();
        let minions: Vec<_> = minions.iter().map(|text| id(text)).collect();
        let ticket = self.with(|jobs, now, effects| {
            jobs.start(request, minions, |minion| connected.contains(minion), now, effects).unwrap()
        });
        ticket.jid.unwrap()
    }

    fn accept(&mut self, minion: &str, jid: &JobId) {
        let accepted = JobAccepted { jid: jid.clone(), behind: 0 };
        self.with(|jobs, now, effects| jobs.handle_accepted(&id(minion), &accepted, now, effects));
    }

    fn give(&mut self, minion: &str, jid: &JobId, value: Value, retcode: i32) -> bool {
        let given = Return { jid: jid.clone(), fun: "test.ping".into(), value, retcode };
        let at = self.now.wall;
        self.with(|jobs, now, effects| jobs.handle_return(&id(minion), given, at, now, effects))
    }

    fn state(&self, minion: &str, jid: &JobId) -> JobState {
        let live = self.jobs.states(jid).into_iter().find(|(of, _)| *of == id(minion));
        live.map(|(_, state)| state)
            .or_else(|| self.entries.get(&(jid.clone(), id(minion))).map(|entry| entry.state))
            .unwrap_or(JobState::Sent)
    }

    fn deliver(&mut self, minion: &str) -> Vec<JobId> {
        self.with(|jobs, now, effects| jobs.deliver(&id(minion), now, effects))
    }

    fn lose(&mut self, minion: &str, unacknowledged: &[&JobId]) {
        let jids: Vec<_> = unacknowledged.iter().map(|jid| (*jid).clone()).collect();
        self.connected.remove(&id(minion));
        self.with(|jobs, now, effects| jobs.handle_unfinished(&id(minion), &jids, now, effects));
    }

    fn tags(&self, what: &str) -> usize {
        self.tags.iter().filter(|tag| tag.contains(what)).count()
    }
}

#[test]
fn every_target_reaches_a_final_state() {
    let mut scene = Scene::new(&["answers", "silent", "runs"]);
    let jid = scene.start(request("test.ping", &[], false), &["answers", "away", "runs", "silent"]);
    assert_eq!(scene.state("away", &jid), JobState::TimedOut, "nobody waits for it");
    scene.accept("answers", &jid);
    assert!(scene.give("answers", &jid, json!(true), 0));
    scene.accept("runs", &jid);
    scene.pass(61);
    assert_eq!(scene.state("silent", &jid), JobState::TimedOut);
    assert_eq!(scene.state("runs", &jid), JobState::Running);
    scene.pass(300);
    assert_eq!(scene.state("runs", &jid), JobState::TimedOut);
    assert!(!scene.jobs.knows(&jid), "over");
    assert_eq!(scene.state("answers", &jid), JobState::Done);
    assert_eq!(scene.jobs.poll_timeout(), None);
}

#[test]
fn a_job_may_ask_for_all_the_time_that_there_is() {
    let mut scene = Scene::new(&["a"]);
    let endless = JobRequest { job_timeout: Some(u64::MAX), ..request("cmd.run", &[], false) };
    let jid = scene.start(endless, &["a"]);
    scene.accept("a", &jid);
    scene.pass(86_400);
    assert_eq!(scene.state("a", &jid), JobState::Running);
}

#[test]
fn a_return_counts_once_and_a_late_one_too() {
    let mut scene = Scene::new(&["a"]);
    let jid = scene.start(request("test.ping", &[], false), &["a"]);
    scene.pass(61);
    assert_eq!(scene.state("a", &jid), JobState::TimedOut);
    assert!(!scene.give("a", &jid, json!(1), 0), "the hub brings it back first");
    let record = JobRecord {
        jid: jid.clone(),
        request: request("test.ping", &[], false),
        ts: scene.now.wall,
        minions: vec![id("a")],
    };
    let recall = |scene: &mut Scene| {
        let entry = scene.entries[&(jid.clone(), id("a"))].clone();
        scene.jobs.recall(record.clone(), vec![(id("a"), entry)], scene.now);
    };
    recall(&mut scene);
    assert!(scene.give("a", &jid, json!(1), 0));
    assert_eq!(scene.state("a", &jid), JobState::Done);
    recall(&mut scene);
    assert!(!scene.give("a", &jid, json!(1), 0), "resent by an agent that restarted");
    assert!(!scene.jobs.knows(&jid));
    assert_eq!(scene.tags("/ret/a"), 1);
}

#[test]
fn a_return_of_a_minion_that_was_not_asked_is_none() {
    let mut scene = Scene::new(&["a", "b"]);
    let jid = scene.start(request("test.ping", &[], false), &["a"]);
    assert!(!scene.give("b", &jid, json!(true), 0));
    assert_eq!(scene.tags("/ret/"), 0);
}

#[test]
fn a_job_that_was_on_its_way_is_sent_again_when_the_minion_is_back() {
    let mut scene = Scene::new(&["a"]);
    let jid = scene.start(request("test.ping", &[], false), &["a"]);
    scene.lose("a", &[&jid]);
    assert_eq!(scene.state("a", &jid), JobState::Sent);
    scene.with(|jobs, _, effects| jobs.handle_connected(&id("a"), effects));
    assert_eq!(scene.sent.len(), 2);
    scene.accept("a", &jid);
    scene.with(|jobs, _, effects| jobs.handle_connected(&id("a"), effects));
    assert_eq!(scene.sent.len(), 3, "it may have ended with the agent");
    scene.give("a", &jid, json!(true), 0);
    scene.with(|jobs, _, effects| jobs.handle_connected(&id("a"), effects));
    assert_eq!(scene.sent.len(), 3);
}

#[test]
fn a_pending_job_is_delivered_once_and_oldest_first() {
    let mut scene = Scene::new(&[]);
    let first = scene.start(request("cmd.run", &[json!("one")], true), &["a"]);
    let second = scene.start(request("cmd.run", &[json!("two")], true), &["a"]);
    assert_eq!(scene.state("a", &first), JobState::Queued);
    assert_eq!(scene.deliver("a"), [first.clone(), second.clone()]);
    assert_eq!(scene.deliver("a"), [], "they are on their way");
    scene.accept("a", &first);
    assert_eq!(scene.tags("pending/a/delivered"), 1);
    // The connection ends before the second one is acknowledged.
    scene.lose("a", &[&second]);
    assert_eq!(scene.state("a", &second), JobState::Queued);
    assert_eq!(scene.state("a", &first), JobState::Running);
    assert_eq!(scene.deliver("a"), std::slice::from_ref(&second));
    scene.accept("a", &second);
    assert!(scene.give("a", &second, json!(""), 0));
    assert_eq!(scene.deliver("a"), []);
    assert_eq!((scene.tags("queued"), scene.tags("delivered")), (2, 2));
    assert!(scene.jobs.pending().is_empty());
}

#[test]
fn a_later_state_run_of_the_same_sls_supersedes() {
    let mut scene = Scene::new(&[]);
    let apply = |sls: &str| request("state.apply", &[json!(sls)], true);
    let first = scene.start(apply("b,a"), &["x"]);
    let other = scene.start(apply("b"), &["x"]);
    let elsewhere = scene.start(apply("a,b"), &["y"]);
    let test =
        JobRequest { kwarg: serde_json::from_str(r#"{"test": true}"#).unwrap(), ..apply("a,b") };
    let test = scene.start(test, &["x"]);
    let second = scene.start(request("state.sls", &[json!(["a", "b"])], true), &["x"]);
    assert_eq!(scene.state("x", &first), JobState::Superseded);
    assert_eq!(scene.deliver("x"), [other, test, second]);
    assert_eq!(scene.state("y", &elsewhere), JobState::Queued);
    assert_eq!(scene.tags("superseded"), 1);
}

#[test]
fn a_state_run_that_never_reaches_the_minion_supersedes_nothing() {
    let mut scene = Scene::new(&["there"]);
    let waits = scene.start(request("state.apply", &[json!("app")], true), &["away"]);
    let lost = scene.start(request("state.apply", &[json!("app")], false), &["there", "away"]);
    assert_eq!(scene.state("away", &lost), JobState::TimedOut);
    assert_eq!(scene.state("away", &waits), JobState::Queued);
    assert_eq!(scene.tags("superseded"), 0);
    assert_eq!(scene.deliver("away"), [waits]);
}

#[test]
fn what_came_back_too_late_is_superseded_by_what_waits_already() {
    let mut scene = Scene::new(&[]);
    let first = scene.start(request("state.highstate", &[], true), &["x"]);
    scene.deliver("x");
    let second = scene.start(request("state.apply", &[], true), &["x"]);
    assert_eq!(scene.state("x", &first), JobState::Sent, "it may have arrived");
    scene.lose("x", &[&first]);
    assert_eq!(scene.state("x", &first), JobState::Superseded);
    assert_eq!(scene.deliver("x"), [second]);
}

#[test]
fn a_pending_job_expires_or_is_taken_back() {
    let mut scene = Scene::new(&[]);
    let expires = JobRequest { ttl: Some(60), ..request("cmd.run", &[json!("x")], true) };
    let expires = scene.start(expires, &["a"]);
    let cancelled = scene.start(request("cmd.run", &[json!("y")], true), &["a", "b"]);
    scene.pass(61);
    assert_eq!(scene.state("a", &expires), JobState::Expired);
    let taken = scene.with(|jobs, now, effects| {
        jobs.cancel_pending(|entry| entry.minion == id("a"), now, effects)
    });
    assert_eq!(taken, [(cancelled.clone(), id("a"))]);
    assert_eq!(scene.state("a", &cancelled), JobState::Cancelled);
    assert_eq!(scene.state("b", &cancelled), JobState::Queued);
    assert_eq!(scene.deliver("a"), []);
    assert_eq!((scene.tags("expired"), scene.tags("cancelled")), (1, 1));
}

#[test]
fn a_killed_job_ends_where_it_waits_and_is_told_where_it_runs() {
    let mut scene = Scene::new(&["a"]);
    let jid = scene.start(request("cmd.run", &[json!("sleep 99")], true), &["a", "b"]);
    scene.accept("a", &jid);
    let connected = scene.connected.clone();
    let mut kills = Vec::new();
    let open = scene.with(|jobs, now, effects| {
        let open = jobs.kill(&jid, |minion| connected.contains(minion), now, effects);
        kills.append(&mut effects.kills);
        open
    });
    assert_eq!(open, [id("a"), id("b")]);
    assert_eq!(kills, [(id("a"), jid.clone())]);
    assert_eq!(scene.state("b", &jid), JobState::Cancelled);
    assert!(scene.give("a", &jid, json!("killed"), 1));
    assert_eq!(scene.state("a", &jid), JobState::Failed);
}

#[test]
fn a_master_that_starts_again_keeps_what_was_pending_and_waits_for_what_was_sent() {
    let mut scene = Scene::new(&["b"]);
    let jid = scene.start(request("state.apply", &[json!("app")], true), &["a", "b"]);
    let record = JobRecord {
        jid: jid.clone(),
        request: request("state.apply", &[json!("app")], true),
        ts: scene.now.wall,
        minions: vec![id("a"), id("b")],
    };
    let stored =
        scene.entries.iter().map(|((_, minion), entry)| (minion.clone(), entry.clone())).collect();
    let mut again = Scene::new(&[]);
    again.with(|jobs, now, effects| jobs.load(record, stored, now, effects));
    assert_eq!(again.deliver("a"), std::slice::from_ref(&jid));
    assert_eq!(again.deliver("b"), [jid], "nobody knows whether it came through");
    assert_eq!(again.tags("pending/b/queued"), 1);
    assert_eq!(again.tags("pending/a/queued"), 0);
}
