//! SIGKILL again and again, at the master and at the agents, with jobs under way: each job ends, once, and nothing that
//! changes something happens twice.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{collections::BTreeMap, fs, time::Duration};

use drover_tests::{fleet::Fleet, wait};

const MINIONS: [&str; 2] = ["rfid-1", "rfid-2"];
const ROUNDS: usize = 12;

#[test]
fn jobs_end_once_though_master_and_agents_are_killed_over_and_over() {
    let mut fleet = Fleet::new();
    for id in MINIONS {
        fleet.enrol(id, &[]);
    }
    fleet.write(
        "master/reactor/push.sls",
        "push:\n  runner.pending.deliver:\n    - tgt: {{ data['id'] }}\n",
    );
    fleet.configure_master("reactor: [{'drover/minion/*/start': [reactor/push.sls]}]\n");
    fleet.bring_up(&MINIONS);
    let marks = fleet.path("marks");
    let mut jobs = Vec::new();
    for round in 0..ROUNDS {
        for (at, minion) in MINIONS.into_iter().enumerate() {
            for number in 0..2 {
                let name = format!("{round}-{at}-{number}");
                // Some are over before the kill, some are cut off by it.
                let pause = f64::from(u32::try_from((round + at + number) % 4).unwrap()) / 5.0;
                let command =
                    format!("echo {name} >> {}; sleep {pause}; echo {name}", marks.display());
                let started = fleet.json(&["--async", "--pending", minion, "cmd.run", &command]);
                jobs.push((started["jid"].as_str().unwrap().to_owned(), minion, name));
            }
        }
        if round % 2 == 0 {
            fleet.kill_master();
            fleet.start_master();
        } else {
            let minion = MINIONS[round / 2 % 2];
            fleet.kill_minion(minion);
            fleet.start_minion(minion);
        }
    }
    let mut returned = BTreeMap::new();
    wait::until("every job has ended", Duration::from_secs(120), || {
        for (jid, minion, name) in &jobs {
            if returned.contains_key(name) {
                continue;
            }
            let shown = fleet.json(&["jobs", "show", jid])["minions"][minion].clone();
            if matches!(shown["state"].as_str(), Some("done" | "failed")) {
                returned.insert(name.clone(), shown);
            }
        }
        returned.len() == jobs.len()
    });
    let ran = fs::read_to_string(&marks).unwrap();
    for (jid, minion, name) in &jobs {
        let times = ran.lines().filter(|line| line == name).count();
        let shown = &returned[name];
        if shown["state"] == "done" {
            assert_eq!((times, shown["return"].as_str()), (1, Some(name.as_str())), "{jid}");
        } else {
            let said = shown["return"].as_str().unwrap();
            assert!(times <= 1 && said.starts_with("the agent ended while"), "{times}: {shown}");
        }
        let returns = fleet.events(&format!("drover/job/{jid}/ret/{minion}"));
        assert_eq!(returns.len(), 1, "{jid} returned once");
    }
    let seqs: Vec<u64> =
        fleet.events("*").iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "the log has no gap");
}
