//! The agent as a process, against a master that does exactly what a test says: jobs, files, kills and lost links.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test's surroundings ends the test")]

mod device;
mod hostile;
mod master;
mod renewal;

use drover_proto::message::{FromMinion, OutboxItem};
use serde_json::json;

use device::Device;
use master::{Fleet, Master, jid};

#[tokio::test]
async fn jobs_are_accepted_run_and_returned() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    let hello = master.hello().await;
    assert_eq!(hello.grains.configured["site"], "bne");
    assert_eq!(hello.grains.detected["id"], "rfid-1");

    master.job(1, "test.echo", json!(["hello"])).await;
    assert_eq!(master.accepted().await.jid, jid(1));
    let returned = master.returned(1).await;
    assert_eq!((returned.value, returned.retcode), (json!("hello"), 0));

    master.job(2, "x.y", json!([])).await;
    let returned = master.returned(2).await;
    assert_eq!((returned.value, returned.retcode), (json!("'x.y' is not available."), 1));

    master.job(3, "cmd.run", json!(["echo out; exit 3"])).await;
    let returned = master.returned(3).await;
    assert_eq!((returned.value, returned.retcode), (json!("out"), 3));
    device.stop();
}

#[tokio::test]
async fn enrolled_grains_win_and_are_kept_and_set_ones_are_told() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.enrolled = json!({"site": "factory"}).as_object().unwrap().clone();
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    master.job(1, "grains.get", json!(["site"])).await;
    assert_eq!(master.returned(1).await.value, "factory");
    master.job(2, "grains.setval", json!(["role", "rfid"])).await;
    let told = master
        .wait(|message| if let FromMinion::Grains(grains) = message { Some(grains) } else { None });
    assert_eq!(told.await.configured["role"], "rfid");
    device.stop();
    assert_eq!(device.call(&["grains.get", "site", "--out", "json"]), json!("factory"));
    assert_eq!(device.call(&["grains.get", "role", "--out", "json"]), json!("rfid"));
}

#[tokio::test]
async fn states_come_from_the_master_and_can_be_applied_again_without_it() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    let target = device.path("applied");
    let sls = format!(
        "{}:\n  file.managed:\n    - source: salt://big\n    - mode: '0600'\n",
        target.display()
    );
    // More than one window of chunks.
    let big = "0123456789abcdef".repeat(100_000);
    master.files(&[("top.sls", "base:\n  '*':\n    - rfid\n"), ("rfid.sls", &sls), ("big", &big)]);
    master.hello().await;
    master.job(1, "state.apply", json!([])).await;
    let returned = master.returned(1).await;
    assert_eq!(returned.retcode, 0, "{}", returned.value);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), big);

    master.job(2, "state.apply", json!(["missing"])).await;
    let returned = master.returned(2).await;
    assert_eq!(returned.retcode, 1);
    assert!(returned.value[0].as_str().unwrap().contains("missing"), "{}", returned.value);

    device.stop();
    drop(master);
    std::fs::remove_file(&target).unwrap();
    device.call(&["state.apply", "--out", "json"]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), big);
}

#[tokio::test]
async fn state_runs_wait_for_their_turn_and_say_so() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    let gate = device.path("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    let sls = format!("wait:\n  cmd.run:\n    - name: {wait}\n");
    master.files(&[("slow.sls", &sls), ("quick.sls", "quick:\n  test.nop: []\n")]);
    master.hello().await;
    master.job(1, "state.apply", json!(["slow"])).await;
    assert_eq!((master.accepted().await.behind, jid(1)), (0, jid(1)));
    master.job(2, "state.apply", json!(["quick"])).await;
    let waits = master.accepted().await;
    assert_eq!((waits.jid, waits.behind), (jid(2), 1));
    // Other functions do not wait.
    master.job(3, "test.ping", json!([])).await;
    assert_eq!(master.returned(3).await.value, true);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(master.returned(1).await.retcode, 0);
    assert_eq!(master.returned(2).await.retcode, 0);
    device.stop();
}

#[tokio::test]
async fn states_that_changed_or_failed_are_heard_of_before_the_return() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    let sls = "quiet:\n  test.nop: []\nchanged:\n  test.succeed_with_changes: []\n\
               failed:\n  test.fail_without_changes: []\n";
    master.files(&[("some.sls", sls)]);
    master.hello().await;
    master.job(1, "state.apply", json!(["some"])).await;
    let mut told = Vec::new();
    let returned = loop {
        match master.item().await {
            OutboxItem::Progress(step) => told.push(step),
            OutboxItem::Return(returned) => break returned,
            OutboxItem::Beacon(_) | OutboxItem::App(_) | OutboxItem::Agent(_) => {}
        }
    };
    assert_eq!(returned.value.as_object().unwrap().len(), 3);
    let ids: Vec<_> = told.iter().map(|step| &step.data["__id__"]).collect();
    assert_eq!(ids, ["changed", "failed"]);
    assert!(told.iter().all(|step| step.jid == jid(1) && step.data.get("changes").is_none()));
    device.stop();
}

#[tokio::test]
async fn a_job_that_sigkill_cut_off_fails_says_so_and_never_runs_again() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let mut device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    let ran = device.path("ran");
    let command = format!("echo x >> {}; exec sleep 600", ran.display());
    master.job(1, "cmd.run", json!([command])).await;
    device::until(|| ran.exists()).await;
    device.kill();
    device.restart();
    master.hello().await;
    let returned = master.returned(1).await;
    assert_eq!(returned.retcode, 1);
    assert!(returned.value.as_str().unwrap().contains("while `cmd.run` ran"), "{}", returned.value);
    master.job(1, "cmd.run", json!([command])).await;
    assert_eq!(master.returned(1).await, returned);
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "x\n");
    device.stop();
}

#[tokio::test]
async fn a_return_that_was_not_acknowledged_survives_sigkill_and_is_sent_again() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.acknowledges = false;
    let mut device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    let ran = device.path("ran");
    master.job(1, "cmd.run", json!([format!("echo x >> {0}; cat {0}", ran.display())])).await;
    assert_eq!(master.returned(1).await.value, "x");
    device.kill();
    master.acknowledges = true;
    device.restart();
    master.hello().await;
    assert_eq!(master.returned(1).await.value, "x");
    // Once it is acknowledged, and the agent has had a word from the master since, it is not sent again.
    master.job(2, "test.ping", json!([])).await;
    master.returned(2).await;
    device.stop();
    device.restart();
    let hello = master.hello().await;
    master.job(3, "test.ping", json!([])).await;
    assert_eq!(master.next_return().await.jid, jid(3), "{hello:?}");
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "x\n");
    device.stop();
}

#[tokio::test]
async fn the_minion_comes_back_when_its_master_was_away_and_loses_no_return() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let port = master.port();
    let device = Device::start(&fleet, "rfid-1", port, "");
    let before = master.hello().await;
    let gate = device.path("gate");
    let command = format!("until [ -e {} ]; do sleep 0.05; done; echo done", gate.display());
    master.job(1, "cmd.run", json!([command])).await;
    master.accepted().await;
    drop(master);
    std::fs::write(&gate, "").unwrap();
    let mut master = Master::start(&fleet, port).await;
    let after = master.hello().await;
    assert_eq!(before.boot, after.boot);
    assert_eq!(master.returned(1).await.value, "done");
    device.stop();
}

#[tokio::test]
async fn a_job_sent_again_while_its_return_is_on_its_way_is_not_answered_twice() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    master.acknowledges = false;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    master.job(1, "cmd.run", json!(["echo done"])).await;
    master.job(2, "test.ping", json!([])).await;
    master.returned(1).await;
    master.returned(2).await;
    master.job(1, "cmd.run", json!(["echo done"])).await;
    master.job(2, "test.ping", json!([])).await;
    master.job(3, "test.ping", json!([])).await;
    assert_eq!(master.next_return().await.jid, jid(3));
    device.stop();
}

#[tokio::test]
async fn a_job_is_killed_with_its_processes() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    let pid = device.path("pid");
    let command = format!("echo $$ > {}; sleep 600", pid.display());
    master.job(1, "cmd.run", json!([command])).await;
    device::until(|| std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'))).await;
    master.kill_job(1).await;
    let returned = master.returned(1).await;
    assert_eq!((returned.value, returned.retcode), (json!("killed"), 1));
    let pid = std::fs::read_to_string(&pid).unwrap();
    device::until(|| device::is_gone(pid.trim())).await;
    device.stop();
}

#[tokio::test]
async fn an_agent_that_is_stopped_says_so_and_leaves_what_runs_alone() {
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "");
    master.hello().await;
    let (begun, gate, ended) = (device.path("begun"), device.path("gate"), device.path("ended"));
    let command = format!(
        "touch {}; until [ -e {} ]; do sleep 0.05; done; touch {}",
        begun.display(),
        gate.display(),
        ended.display()
    );
    master.job(1, "cmd.run", json!([command])).await;
    device::until(|| begun.exists()).await;
    let returned = device.terminate();
    let said = master.returned(1).await;
    assert!(said.value.as_str().unwrap().contains("stopped while it ran"), "{}", said.value);
    assert_eq!(returned.await.code(), Some(0));
    std::fs::write(&gate, "").unwrap();
    device::until(|| ended.exists()).await;
}

#[tokio::test]
async fn a_local_program_that_sends_too_much_is_counted_and_not_sent() {
    use zeromq::{Socket as _, SocketSend as _};
    let fleet = Fleet::new();
    let mut master = Master::start(&fleet, 0).await;
    let device = Device::start(&fleet, "rfid-1", master.port(), "app_event_rate: 10\n");
    master.hello().await;
    let mut program = zeromq::PushSocket::new();
    let bus = device.path("run/events.ipc");
    program.connect(&format!("ipc://{}", bus.display())).await.unwrap();
    const SENT: u64 = 200;
    for _ in 0..SENT {
        let mut event = zeromq::ZmqMessage::from("door/open");
        event.push_back(drover_proto::codec::encode(&json!({"by": "ann"})).unwrap());
        program.send(event).await.unwrap();
    }
    let (mut taken, mut refused) = (0, 0);
    while taken + refused < SENT {
        match master.item().await {
            OutboxItem::App(event) => {
                assert_eq!((event.path.as_str(), event.data), ("door/open", json!({"by": "ann"})));
                taken += 1;
            }
            OutboxItem::Agent(event) => {
                assert_eq!(event.path, "app/refused");
                refused += event.data["count"].as_u64().unwrap();
            }
            other @ (OutboxItem::Beacon(_) | OutboxItem::Return(_) | OutboxItem::Progress(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert!(taken < SENT / 2, "{taken} were taken");
    device.stop();
}
