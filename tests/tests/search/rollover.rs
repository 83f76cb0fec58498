//! An id is unique within one index only: yet an event whose answer was lost is there once, also when the next index has
//! begun meanwhile.

use std::collections::BTreeSet;

use drover_tests::{
    parts::{
        proxy::{Line, Proxy},
        search::{Server, on_each},
    },
    wait,
};
use serde_json::{Value, json};

use super::pipeline::{ARRIVAL, Pipeline, is_long};

/// The indices behind a pipeline's name.
fn indices(server: &Server, pipeline: &Pipeline) -> BTreeSet<String> {
    let ids = server.documents(&pipeline.pattern(), &json!({"match_all": {}}));
    ids.iter().filter_map(|hit| hit["_index"].as_str().map(str::to_owned)).collect()
}

fn burst(pipeline: &Pipeline, tag: &str, count: usize) {
    let mut program = pipeline.program();
    for number in 0..count {
        let text: String = (0..20).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        program.send(tag, &json!({"n": number, "text": text}));
    }
    let _ = pipeline.fleet.wait_events(tag, count);
}

#[test]
fn the_bridge_rolls_over_amid_kills_and_lost_answers_and_stores_nothing_twice() {
    on_each(|server| {
        if !server.kind().has_data_streams() {
            return;
        }
        let proxy = Proxy::start(server.port());
        // Rolled over at a tenth of `max_bytes`, which is never reached.
        let keys = ", batch_delay: 50ms, batch_events: 50, timeout: 3s, \
                    retention: {max_bytes: 2MiB, every: 500ms, settle: 2s}";
        let mut pipeline = Pipeline::started(&[proxy.url()], "rollover", keys);
        let rounds = if is_long() { 12 } else { 3 };
        for round in 0..rounds {
            proxy.turn(Line::LosesAnswers);
            burst(&pipeline, &format!("roll/{round}"), 150);
            let lost = proxy.lost();
            wait::until("an answer is lost", ARRIVAL, || proxy.lost() > lost);
            if round % 2 == 0 {
                pipeline.fleet.kill_master();
                pipeline.fleet.start_master();
            }
            proxy.turn(Line::Good);
        }
        wait::until_some(
            "the bridge has rolled over",
            ARRIVAL,
            || (!pipeline.fleet.events("drover/bridge/elk/rolled").is_empty()).then_some(()),
            || format!("{}\n{}", pipeline.status(), pipeline.fleet.logs()),
        );
        burst(&pipeline, "roll/end", 50);
        let count = pipeline.every_event_is_there_once(server);
        let indices = indices(server, &pipeline);
        assert!(indices.len() > 1, "{indices:?}");
        eprintln!("{}: {count} events in {} indices", server.kind().name(), indices.len());
    });
}

#[test]
fn a_retry_after_anothers_rollover_asks_the_older_indices_first() {
    on_each(|server| {
        if !server.kind().has_data_streams() {
            return;
        }
        let proxy = Proxy::start(server.port());
        let keys = ", batch_delay: 50ms, timeout: 3s, retention: external";
        let pipeline = Pipeline::started(&[proxy.url()], "external", keys);
        pipeline.send("before/it", "n=1");
        wait::until("the first events arrive", ARRIVAL, || server.count(&pipeline.pattern()) > 0);
        proxy.turn(Line::LosesAnswers);
        burst(&pipeline, "external/one", 50);
        let stored = || {
            let tags = server.documents(&pipeline.pattern(), &json!({"match_all": {}}));
            tags.iter().filter(|hit| hit["_source"]["drover"]["tag"] == "external/one").count()
        };
        wait::until("the server has what it answered to nobody", ARRIVAL, || stored() > 0);
        let rolled =
            server.request("POST", &format!("/{}/_rollover", pipeline.index), &Value::Null);
        assert_eq!(rolled.ok()["rolled_over"], true);
        proxy.turn(Line::Good);
        let _ = pipeline.every_event_is_there_once(server);
    });
}

#[test]
fn a_daily_index_goes_by_the_time_of_append_also_over_midnight() {
    on_each(|server| {
        let proxy = Proxy::start(server.port());
        let keys = ", daily: true, batch_delay: 50ms, timeout: 3s";
        let mut pipeline = Pipeline::new(&[proxy.url()], "daily", keys);
        // Today, shortly before midnight: the certificates were made today.
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        for variable in [
            "LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
            "TZ=UTC",
            &format!("FAKETIME=@{today} 23:59:56"),
        ] {
            pipeline.fleet.set_master_environment(variable);
        }
        pipeline.fleet.start_master();
        burst(&pipeline, "before/midnight", 50);
        proxy.turn(Line::LosesAnswers);
        burst(&pipeline, "at/midnight", 50);
        let tomorrow = today.tomorrow().unwrap().to_string();
        wait::until("it is tomorrow for the master", ARRIVAL, || {
            pipeline.send("tick/tack", "n=1");
            let ticks = pipeline.fleet.events("tick/tack");
            ticks.iter().any(|event| event["ts"].as_str().unwrap().starts_with(&tomorrow))
        });
        proxy.turn(Line::Good);
        let _ = pipeline.every_event_is_there_once(server);
        // Each lies where its time says, also those that were sent again a day later.
        let kept = pipeline.fleet.events("*");
        for hit in server.documents(&pipeline.pattern(), &json!({"match_all": {}})) {
            let event = kept.iter().find(|event| event["id"] == hit["_id"]).unwrap();
            let day = event["ts"].as_str().unwrap()[..10].replace('-', ".");
            assert_eq!(hit["_index"], format!("{}-{day}", pipeline.index), "{event}");
        }
    });
}
