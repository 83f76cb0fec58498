#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one kind that it looks for")]

use proptest::prelude::*;

use std::{sync::LazyLock, time::Duration};

use super::*;
use crate::{
    codec::decode,
    message::{FromMinion, OutboxEntry, Progress},
};

fn wall() -> Timestamp {
    "2026-11-23T02:37:05Z".parse().unwrap()
}

/// When everything happens that does not say otherwise.
fn at() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START
}

fn event(size: usize) -> OutboxItem {
    OutboxItem::App(OutboxEvent { path: "x".to_owned(), data: "x".repeat(size).into() })
}

fn given(value: Value, retcode: i32) -> OutboxItem {
    let jid = "20261123023705000123".parse().unwrap();
    OutboxItem::Return(Return { jid, fun: "test.ping".to_owned(), value, retcode })
}

fn entry(frame: &[u8]) -> OutboxEntry {
    match decode(frame).unwrap() {
        FromMinion::Outbox(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn drain(outbox: &mut Outbox) -> Vec<OutboxEntry> {
    let mut after = 0;
    let mut entries = Vec::new();
    while let Some((number, frame)) = outbox.next_after(after, wall(), at()) {
        let entry = entry(&frame);
        assert_eq!(entry.number, number);
        entries.push(entry);
        after = number;
    }
    entries
}

#[test]
fn entries_are_numbered_from_one_and_sent_again_until_acknowledged() {
    let mut outbox = Outbox::default();
    for number in 1..=3 {
        let item = if number == 2 { given(true.into(), 0) } else { event(1) };
        assert_eq!(outbox.push(item, at()), Some(number));
    }
    let numbers = |outbox: &mut Outbox| -> Vec<u64> {
        drain(outbox).iter().map(|entry| entry.number).collect()
    };
    assert_eq!(numbers(&mut outbox), [1, 2, 3]);
    outbox.acknowledge(2).unwrap();
    assert_eq!(numbers(&mut outbox), [3]);
    outbox.acknowledge(1).unwrap();
    outbox.acknowledge(3).unwrap();
    assert!(outbox.is_empty());
    assert_eq!(outbox.size(), 0);
    assert_eq!(outbox.acknowledge(4), Err(NeverSent { acknowledged: 4, last: 3 }));
}

#[test]
fn oldest_events_go_first_returns_last_and_the_gap_is_told() {
    let mut outbox = Outbox::new(1_000);
    outbox.push(given("kept".into(), 0), at());
    for _ in 0..20 {
        outbox.push(event(100), at());
    }
    assert!(outbox.size() <= 1_000);
    let entries = drain(&mut outbox);
    assert!(matches!(entries[0].item, OutboxItem::Return(_)));
    let OutboxItem::Agent(gap) = &entries.last().unwrap().item else { panic!("no gap") };
    assert_eq!(gap.path, DROPPED);
    let kept = entries.len() as u64 - 2;
    assert_eq!(gap.data, json!({ "count": 20 - kept, "returns": 0 }));
}

#[test]
fn returns_go_when_nothing_else_is_left_and_the_gap_says_so() {
    let mut outbox = Outbox::new(1_000);
    for _ in 0..20 {
        outbox.push(given("x".repeat(100).into(), 0), at());
    }
    let entries = drain(&mut outbox);
    let OutboxItem::Agent(gap) = &entries.last().unwrap().item else { panic!("no gap") };
    let dropped = 21 - entries.len() as u64;
    assert_eq!(gap.data, json!({ "count": dropped, "returns": dropped }));
}

#[test]
fn a_return_that_no_frame_can_carry_says_so_instead() {
    let mut outbox = Outbox::default();
    assert!(outbox.push(given("x".repeat(MAX_FRAME).into(), 0), at()).is_some());
    let mut deep = Value::Null;
    for _ in 0..codec::MAX_DEPTH {
        deep = Value::Array(vec![deep]);
    }
    assert!(outbox.push(given(deep.clone(), 3), at()).is_some());
    let progress = Progress { jid: "20261123023705000123".parse().unwrap(), data: deep };
    assert_eq!(outbox.push(OutboxItem::Progress(progress), at()), None);
    let shown: Vec<_> = drain(&mut outbox)
        .into_iter()
        .map(|entry| match entry.item {
            OutboxItem::Return(given) => format!("{} {}", given.retcode, given.value),
            other => format!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    1 "the return cannot be sent: its 1048709 bytes are more than the 1048576 of one message"
    3 "the return cannot be sent: its data is nested deeper than 56 levels"
    Agent(OutboxEvent { path: "outbox/dropped", data: Object {"count": Number(1), "returns": Number(0)} })
    "#);
}

#[test]
fn the_deepest_value_that_is_taken_can_be_read() {
    let mut deep = Value::Null;
    for _ in 0..codec::MAX_VALUE_DEPTH {
        deep = Value::Array(vec![deep]);
    }
    let mut outbox = Outbox::default();
    outbox.push(given(deep.clone(), 0), at());
    let entries = drain(&mut outbox);
    assert!(matches!(&entries[0].item, OutboxItem::Return(given) if given.value == deep));
}

#[test]
fn what_happened_before_the_clock_was_right_is_told_with_the_right_time() {
    let mut outbox = Outbox::default();
    outbox.push(event(1), at());
    let minutes = |count: u64| Duration::from_secs(60 * count);
    outbox.push(given(true.into(), 0), at() + minutes(4));
    let connected = at() + minutes(10);
    let (_, frame) = outbox.next_after(0, wall(), connected).unwrap();
    assert_eq!(entry(&frame).at.to_string(), "2026-11-23T02:27:05Z");
    let (_, frame) = outbox.next_after(1, wall(), connected).unwrap();
    assert_eq!(entry(&frame).at.to_string(), "2026-11-23T02:31:05Z");
}

#[test]
fn a_frame_put_together_is_the_frame_of_its_message() {
    let mut outbox = Outbox { last: u64::MAX - 1, ..Outbox::default() };
    outbox.push(event(3), at());
    let wall: Timestamp = "2026-11-23T02:37:05.123456789Z".parse().unwrap();
    let (number, frame) = outbox.next_after(0, wall, at()).unwrap();
    let whole = OutboxEntry { number, at: wall, item: event(3) };
    assert_eq!(frame, codec::encode(&FromMinion::Outbox(whole)).unwrap());
    assert!(frame.len() <= outbox.size(), "the bound counts the longest head");
}

proptest! {
    /// What was pushed is in the outbox, acknowledged, or counted in a gap; and the bound holds.
    #[test]
    fn nothing_vanishes_uncounted(
        steps in prop::collection::vec((0_u8..3, 0_usize..400), 1..200),
        limit in 600_usize..3_000,
    ) {
        let mut outbox = Outbox::new(limit);
        let (mut pushed, mut acknowledged, mut told) = (0_u64, 0_u64, 0_u64);
        for (what, size) in steps {
            match what {
                0 => {
                    outbox.push(event(size), at());
                    pushed += 1;
                }
                1 => {
                    outbox.push(given("x".repeat(size).into(), 0), at());
                    pushed += 1;
                }
                _ => {
                    for entry in drain(&mut outbox).into_iter().take(size / 20) {
                        match &entry.item {
                            OutboxItem::Agent(gap) => told += gap.data["count"].as_u64().unwrap(),
                            _ => acknowledged += 1,
                        }
                        outbox.acknowledge(entry.number).unwrap();
                    }
                }
            }
            prop_assert!(outbox.size() <= limit + 200, "{} of {limit}", outbox.size());
        }
        let mut held = 0;
        loop {
            for entry in drain(&mut outbox) {
                match &entry.item {
                    OutboxItem::Agent(gap) => told += gap.data["count"].as_u64().unwrap(),
                    _ => held += 1,
                }
                outbox.acknowledge(entry.number).unwrap();
            }
            if outbox.is_empty() {
                break;
            }
        }
        prop_assert_eq!(pushed, acknowledged + told + held);
        prop_assert_eq!(outbox.size(), 0);
    }
}
