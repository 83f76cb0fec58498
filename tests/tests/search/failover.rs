//! Two ways to one server: when one goes, the other is taken, and every event is there once.

use drover_tests::parts::{
    nginx::{Front, Nginx},
    search::on_any,
};
use serde_json::json;

use super::pipeline::Pipeline;

#[test]
fn events_go_to_the_other_host_when_one_stops_hangs_or_loses_its_server() {
    on_any(|server| {
        let mut pipeline = Pipeline::new(&[], "failover", "");
        let start = |name| Nginx::start(pipeline.fleet.path(name), server.port(), Front::default());
        let mut first = start("first");
        let second = start("second");
        let keys = ", batch_delay: 50ms, batch_events: 50, timeout: 3s";
        pipeline.configure(&[first.url(), second.url()], keys);
        pipeline.fleet.start_master();
        let mut program = pipeline.program();
        let mut burst = |tag: &str| {
            for number in 0..200 {
                program.send(tag, &json!({"n": number}));
            }
            let _ = pipeline.fleet.wait_events(tag, 200);
        };
        burst("both/are-there");
        first.stop();
        burst("first/stopped");
        let _ = pipeline.every_event_is_there_once(server);
        first.start_again();
        second.suspend();
        burst("second/hangs");
        let _ = pipeline.every_event_is_there_once(server);
        second.resume();
        // Now the proxies are there and the server is not: they answer 502, in HTML.
        server.kill();
        burst("server/away");
        let _ = pipeline.wait_status("the status says it", |status| {
            status["last_error"].as_str().is_some_and(|said| said.contains("502"))
        });
        server.start_again(&[]);
        let _ = pipeline.every_event_is_there_once(server);
    });
}
