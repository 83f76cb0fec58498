//! SIGKILL under load, of the master, of the server, of both: afterwards every event is there, once. `DROVER_STORM` says
//! how many times, once each without it.

use drover_tests::{
    local_bus::Program,
    parts::search::{Server, on_each},
    wait,
};
use serde_json::json;

use super::pipeline::{ARRIVAL, Pipeline};

/// Events of a burst, of which there are two before each kill.
const BURST: u64 = 300;

#[test]
fn a_storm_of_kills_loses_no_event_and_stores_none_twice() {
    on_each(storm);
}

fn storm(server: &Server) {
    let rounds = std::env::var("DROVER_STORM").map_or(3, |rounds| rounds.parse().unwrap());
    let mut pipeline = Pipeline::started(&[server.url()], "storm", ", batch_events: 50");
    for round in 0..rounds {
        let mut program = pipeline.program();
        // Only a bridge that has found the server again can be hit while it delivers.
        let stored = server.count(&pipeline.pattern());
        burst(&mut program, &format!("storm/{round}"));
        wait::until_some(
            "the bridge delivers",
            ARRIVAL,
            || (server.count(&pipeline.pattern()) > stored).then_some(()),
            || format!("{}\n{}", pipeline.status(), pipeline.fleet.logs()),
        );
        // The kill falls into the burst: some of it is stored, some of that is on its way to the server.
        burst(&mut program, &format!("hit/{round}"));
        let _ = pipeline.fleet.wait_events(&format!("hit/{round}"), 1);
        // Each round at another moment of what follows a burst.
        let (master, node) = (round % 3 != 1, round % 3 != 0);
        if node {
            server.kill();
        }
        if master {
            pipeline.fleet.kill_master();
        }
        if node {
            server.start_again(&[]);
        }
        if master {
            pipeline.fleet.start_master();
        }
        eprintln!("{}: {} of {rounds} kills", server.kind().name(), round + 1);
    }
    let count = pipeline.every_event_is_there_once(server);
    assert!(count > rounds, "the kills fell into bursts");
    eprintln!("{}: {rounds} kills, {count} events, each once", server.kind().name());
}

fn burst(program: &mut Program, tag: &str) {
    for number in 0..BURST {
        program.send(tag, &json!({"n": number}));
    }
}
