//! The storage budget on real servers: the oldest index goes, what is written to is rolled over first, somebody else's is
//! left alone, and an event stays there once whatever is rolled over.

use std::time::Duration;

use drover_tests::{
    parts::search::{Server, on_each},
    wait,
};
use serde_json::{Value, json};

use super::{
    pipeline::ARRIVAL,
    sink::{Lone, item, now},
};

fn batch(lone: &Lone<'_>, from: u64) {
    // What no codec makes small.
    let text = || (0..40).map(|_| uuid::Uuid::new_v4().to_string()).collect::<String>();
    let items: Vec<_> = (from..from + 100)
        .map(|seq| item(seq, "drover/app/rfid-1/x", json!({"text": text()})))
        .collect();
    lone.deliver(&items);
    lone.settle();
}

fn told(lone: &Lone<'_>) -> Vec<(&'static str, Value)> {
    lone.keep().into_iter().map(|news| (news.what, news.data)).collect()
}

fn backing(server: &Server, index: &str) -> Vec<String> {
    let resolved = server.get(&format!("/_resolve/index/{index}"));
    let names =
        resolved["data_streams"][0]["backing_indices"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn on_data_streams(scenario: impl Fn(&Server)) {
    on_each(|server| {
        if server.kind().has_data_streams() {
            scenario(server);
        }
    });
}

#[test]
fn the_oldest_indices_go_when_the_budget_is_full() {
    on_data_streams(|server| {
        // A server looks at sizes every 10 s.
        let settings = "retention: {max_bytes: 1MiB, max_age: 30d, every: 1ms, settle: 1s}\n\
                        index_settings: {index.store.stats_refresh_interval: 0ms}\n";
        let lone = Lone::new(server, "budget", settings);
        let other = format!("{}-2020.01.01", lone.index);
        let mut rolled = 0;
        let mut removed = Vec::new();
        let mut keep = || {
            let news = told(&lone);
            let is_quiet = news.is_empty();
            for (what, data) in news {
                match what {
                    "rolled" => rolled += 1,
                    "index_removed" => removed.push(data),
                    other => panic!("{other}: {data}"),
                }
            }
            is_quiet
        };
        for round in 0..12 {
            batch(&lone, round * 100);
            if round == 0 {
                // It looks like one of ours, and has not our mark.
                let _ = server.request("PUT", &format!("/{other}"), &Value::Null).ok();
            }
            keep();
        }
        // A busy server rearranges what it has after it was asked for the size.
        wait::until("nothing is left to do", ARRIVAL, keep);
        assert!(rolled >= 5, "rolled over {rolled} times");
        assert!(removed.len() >= 2, "{removed:?}");
        let names: Vec<_> = removed.iter().map(|data| data["index"].as_str().unwrap()).collect();
        let mut oldest_first = names.clone();
        oldest_first.sort_unstable();
        assert_eq!(names, oldest_first);
        let docs: u64 = removed.iter().map(|data| data["docs"].as_u64().unwrap()).sum();
        assert!(removed.iter().all(|data| data["reason"] == "max_bytes"), "{removed:?}");
        assert_eq!(docs + lone.count(), 1200, "what is not there was removed: {removed:?}");
        let left = backing(server, &lone.index);
        assert!(left.iter().all(|name| !names.contains(&name.as_str())));
        let sizes = server
            .get(&format!("/_cat/indices/{}?format=json&bytes=b&h=pri.store.size", left.join(",")));
        // A shard that only just begins has no size.
        let size = |line: &Value| line["pri.store.size"].as_str().map_or(0, |s| s.parse().unwrap());
        let total: u64 = sizes.as_array().unwrap().iter().map(size).sum();
        assert!(total <= 1 << 20, "{total} bytes are left");
        assert_eq!(server.request("GET", &format!("/{other}"), &Value::Null).status, 200);
    });
}

#[test]
fn an_index_that_may_still_be_written_to_is_not_rolled_over() {
    on_data_streams(|server| {
        let lone = Lone::new(
            server,
            "quiet",
            "retention: {max_bytes: 1MiB, every: 1ms}\n\
             index_settings: {index.store.stats_refresh_interval: 0ms}\n",
        );
        batch(&lone, 0);
        assert!(lone.keep_after(Duration::from_secs(299)).is_empty());
        assert_eq!(backing(server, &lone.index).len(), 1);
        let news = lone.keep_after(Duration::from_secs(300));
        assert_eq!(news.len(), 1, "{news:?}");
        assert_eq!(backing(server, &lone.index).len(), 2);
    });
}

#[test]
fn an_event_that_is_sent_again_after_a_rollover_is_there_once() {
    on_data_streams(|server| {
        for settings in ["retention: external\n", "retention: {max_bytes: 20GiB}\n"] {
            let lone = Lone::new(server, "again", settings);
            let mut items: Vec<_> = (0..50).map(|seq| item(seq, "a", json!({"n": seq}))).collect();
            lone.deliver(&items);
            let _ =
                server.request("POST", &format!("/{}/_rollover", lone.index), &Value::Null).ok();
            // The master was started again, and does not know what of these was sent.
            let after = Lone::on(server, lone.index.clone(), settings);
            items.extend((50..60).map(|seq| item(seq, "a", json!({"n": seq}))));
            for item in &mut items {
                item.is_retry = true;
            }
            after.deliver(&items);
            assert_eq!(after.count(), 60, "{settings}");
            assert!(!after.keep().iter().any(|news| news.what == "index_removed"));
        }
    });
}

#[test]
fn whoever_keeps_indices_by_other_means_is_not_disturbed() {
    on_data_streams(|server| {
        let lone = Lone::new(server, "external", "retention: external\n");
        batch(&lone, 0);
        assert!(lone.keep().is_empty());
        assert_eq!(backing(server, &lone.index).len(), 1);
    });
}

#[test]
fn daily_indices_go_by_their_day() {
    on_each(|server| {
        let lone = Lone::new(server, "days", "daily: true\nretention: {max_age: 3d, every: 1ms}\n");
        let days_ago = |days: i64| {
            let mut item = item(0, "a", Value::Null);
            let event = std::sync::Arc::get_mut(&mut item.event).unwrap();
            event.ts = now() - jiff::SignedDuration::from_hours(24 * days);
            item
        };
        let items: Vec<_> = (0..8).map(days_ago).collect();
        lone.deliver(&items);
        assert_eq!(lone.count(), 8);
        // Their days are written to, as far as anybody knows: only a master that was started since removes them.
        assert!(lone.keep().iter().all(|news| news.what != "index_removed"));
        let later = Lone::on(
            server,
            lone.index.clone(),
            "daily: true\nretention: {max_age: 3d, every: 1ms}\n",
        );
        later.deliver(&[days_ago(0)]);
        let removed: Vec<_> =
            later.keep().into_iter().filter(|news| news.what == "index_removed").collect();
        assert_eq!(removed.len(), 4, "{removed:?}");
        assert!(removed.iter().all(|news| news.data["reason"] == "max_age"));
        later.settle();
        assert_eq!(later.count(), 5);
    });
}
