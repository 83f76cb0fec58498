//! The server refuses, is slow, lies behind a bad line: the bridge says so, the events wait, and all are there once when
//! it is right again.

use std::time::Duration;

use drover_tests::{
    parts::{
        proxy::{Line, Proxy},
        search::{Kind, Server, on_any, on_each},
    },
    wait,
};
use serde_json::{Value, json};

use super::pipeline::{ARRIVAL, Pipeline};

/// A pipeline that has delivered something, with a client that gives up early enough for a test.
fn delivering(hosts: &[String], server: &Server, name: &str) -> Pipeline {
    let pipeline = Pipeline::started(hosts, name, ", batch_delay: 50ms, timeout: 3s");
    pipeline.send("before/it", "n=1");
    wait::until("the first events arrive", ARRIVAL, || server.count(&pipeline.pattern()) > 0);
    pipeline
}

/// Waits until the status names a trouble that a new event runs into, with one of these words.
fn troubled(pipeline: &Pipeline, words: &[&str]) {
    pipeline.send("during/it", "n=1");
    let _ = pipeline.wait_status(&format!("the status says one of {words:?}"), |status| {
        let said = status["last_error"].as_str().unwrap_or_default();
        words.iter().any(|word| said.contains(word)) && status["lag"]["events"] != 0
    });
}

/// It is right again: all arrives, and the bridge is up.
fn recovered(pipeline: &Pipeline, server: &Server) {
    let _ = pipeline.fleet.drover(&["bridge", "resume", "elk"]).ok();
    let _ = pipeline.every_event_is_there_once(server);
    let _ = pipeline.wait_status("the bridge is up", |status| status["state"] == "up");
}

#[test]
fn a_read_only_index_holds_events_until_it_is_writable() {
    on_each(|server| {
        let pipeline = delivering(&[server.url()], server, "readonly");
        let block = |block: Value| {
            let settings = json!({"index.blocks.write": block});
            let path = format!("/{}/_settings", pipeline.pattern());
            let _ = server.request("PUT", &path, &settings).ok();
        };
        block(json!(true));
        troubled(&pipeline, &["block"]);
        block(Value::Null);
        recovered(&pipeline, server);
    });
}

#[test]
fn a_cluster_whose_disk_is_full_holds_events_until_there_is_room() {
    on_each(|server| {
        let pipeline = delivering(&[server.url()], server, "flooded");
        // What the disk watermark sets; `the_disk_watermark_…` waits for the server to set it by itself.
        let setting = "cluster.blocks.read_only_allow_delete";
        server.set(setting, &json!(true));
        troubled(&pipeline, &["block"]);
        server.set(setting, &Value::Null);
        recovered(&pipeline, server);
    });
}

#[test]
fn the_disk_watermark_holds_events_until_the_server_lifts_its_block() {
    if !super::pipeline::is_long() {
        return;
    }
    on_each(|server| {
        let pipeline = delivering(&[server.url()], server, "watermark");
        let disk = |low: &str, high: &str, flood: &str| {
            let settings = json!({"transient": {
                "cluster.routing.allocation.disk": {
                    "threshold_enabled": true,
                    "reroute_interval": "1s",
                    "watermark": {"low": low, "high": high, "flood_stage": flood},
                },
                "cluster.info.update.interval": "10s",
            }});
            let _ = server.request("PUT", "/_cluster/settings", &settings).ok();
        };
        disk("300tb", "200tb", "100tb");
        wait::until("the server blocks its indices", Duration::from_secs(60), || {
            let path = format!("/{}/_settings", pipeline.pattern());
            server.get(&path).to_string().contains("read_only_allow_delete")
        });
        troubled(&pipeline, &["block", "flood"]);
        disk("3b", "2b", "1b");
        wait::until("the server lifts its block", Duration::from_secs(120), || {
            let path = format!("/{}/_settings", pipeline.pattern());
            !server.get(&path).to_string().contains("read_only_allow_delete")
        });
        recovered(&pipeline, server);
    });
}

#[test]
fn a_red_index_holds_events_until_it_has_a_shard() {
    on_each(|server| {
        // Nothing new finds a place in the cluster: so what the bridge makes is red.
        server.set("cluster.routing.allocation.enable", &json!("none"));
        let pipeline =
            Pipeline::started(&[server.url()], "red", ", batch_delay: 50ms, timeout: 3s");
        troubled(&pipeline, &["shard", "does not answer", "503"]);
        server.set("cluster.routing.allocation.enable", &Value::Null);
        recovered(&pipeline, server);
    });
}

#[test]
fn a_server_that_is_too_busy_gets_the_events_later() {
    on_each(|server| {
        let pipeline = delivering(&[server.url()], server, "busy");
        // From 9 on a bulk body streams past the breaker; what answers 429 there is a setting of the start.
        let by_start = server.kind() == Kind::Elasticsearch9;
        let breaker = "network.breaker.inflight_requests.limit";
        if by_start {
            server.stop();
            server.start_again(&["indexing_pressure.memory.limit=1kb"]);
        } else {
            server.set(breaker, &json!("2kb"));
        }
        let text = "x".repeat(5000);
        pipeline.send("large/one", &format!("text={text}"));
        let _ = pipeline.wait_status("the status says that the server is too busy", |status| {
            let said = status["last_error"].as_str().unwrap_or_default();
            ["429", "rejected", "circuit_breaking"].iter().any(|word| said.contains(word))
        });
        if by_start {
            server.stop();
            server.start_again(&[]);
        } else {
            server.set(breaker, &Value::Null);
        }
        recovered(&pipeline, server);
    });
}

#[test]
fn answers_that_are_lost_store_nothing_twice() {
    on_each(|server| {
        let proxy = Proxy::start(server.port());
        let pipeline = delivering(&[proxy.url()], server, "lost");
        proxy.turn(Line::LosesAnswers);
        troubled(&pipeline, &[""]);
        wait::until("answers are lost", ARRIVAL, || proxy.lost() >= 3);
        proxy.turn(Line::Good);
        recovered(&pipeline, server);
    });
}

#[test]
fn connections_that_are_closed_are_made_anew() {
    on_any(|server| {
        let proxy = Proxy::start(server.port());
        let pipeline = delivering(&[proxy.url()], server, "closed");
        proxy.turn(Line::Closes);
        troubled(&pipeline, &[""]);
        proxy.turn(Line::Good);
        recovered(&pipeline, server);
    });
}

#[test]
fn a_page_for_people_is_no_answer() {
    on_any(|server| {
        let proxy = Proxy::start(server.port());
        let pipeline = delivering(&[proxy.url()], server, "html");
        proxy.turn(Line::Html);
        troubled(&pipeline, &["HTML", "html"]);
        proxy.turn(Line::Good);
        recovered(&pipeline, server);
    });
}

#[test]
fn a_slow_server_gets_everything_and_holds_up_nobody() {
    on_any(|server| {
        let proxy = Proxy::start(server.port());
        let pipeline = delivering(&[proxy.url()], server, "slow");
        proxy.turn(Line::Slow(Duration::from_secs(1)));
        let mut program = pipeline.program();
        for number in 0..500 {
            program.send("slow/one", &json!({"n": number}));
        }
        let _ = pipeline.fleet.wait_events("slow/one", 500);
        recovered(&pipeline, server);
    });
}

#[test]
fn a_server_that_hangs_longer_than_the_bridge_waits_stores_nothing_twice() {
    on_each(|server| {
        let pipeline = delivering(&[server.url()], server, "hangs");
        let mut program = pipeline.program();
        for round in 0..2 {
            // It hangs amid a burst: what it has read it does when it goes on, long after the bridge gave up.
            for number in 0..200 {
                program.send("hang/one", &json!({"round": round, "n": number}));
            }
            let _ = pipeline.fleet.wait_events("hang/one", 1);
            server.suspend();
            troubled(&pipeline, &["does not answer"]);
            server.resume();
        }
        recovered(&pipeline, server);
    });
}
