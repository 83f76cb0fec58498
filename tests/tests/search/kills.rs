//! SIGKILL under load, of the master, of the server, of both: afterwards every event is there, once. `DROVER_STORM` says
//! how many times, once each without it.

use drover_tests::{
    local_bus::Program,
    parts::search::{Server, on_each},
};
use serde_json::json;

use super::pipeline::Pipeline;

/// Events that are sent before each kill.
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
        burst(&mut program, round);
        // The kill falls into the burst: some of it is stored, some of that is on its way to the server.
        let _ = pipeline.fleet.wait_events(&format!("storm/{round}"), 1);
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

fn burst(program: &mut Program, round: usize) {
    for number in 0..BURST {
        program.send(&format!("storm/{round}"), &json!({"n": number}));
    }
}
