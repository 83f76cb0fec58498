use std::num::NonZeroU32;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::clock::Now;

pub(super) fn event(seq: u64) -> Arc<Event> {
    Arc::new(Event {
        id: Uuid::from_u128(seq.into()),
        seq,
        ts: Timestamp::UNIX_EPOCH,
        at: None,
        tag: if seq.is_multiple_of(2) { "even/x" } else { "odd/x" }.parse().unwrap(),
        minion: None,
        data: Value::Null,
    })
}

/// Batches of four that wait at most a second.
pub(super) const SETTINGS: Settings = Settings {
    limits: Limits { events: 4, bytes: 1 << 20, delay: Duration::from_secs(1) },
    in_flight: 1,
    rate: None,
    sent_before: 0,
    seed: 7,
};

fn all(_: &Event) -> Option<Arc<Map<String, Value>>> {
    Some(Arc::default())
}

fn feed_of(settings: Settings, events: std::ops::RangeInclusive<u64>) -> (Feed, Instant) {
    let (mut feed, now) = (Feed::new(settings, events.start() - 1), Now::read().instant);
    feed.handle_events(events.map(event).collect(), all, now);
    (feed, now)
}

fn feed(events: std::ops::RangeInclusive<u64>) -> (Feed, Instant) {
    feed_of(SETTINGS, events)
}

/// The batch that goes, by its id and its events.
fn batch(feed: &mut Feed, now: Instant) -> Option<(u64, Vec<u64>)> {
    let transmit = feed.poll_transmit(now)?;
    Some((transmit.id, transmit.items.iter().map(|item| item.event.seq).collect()))
}

fn seqs(feed: &mut Feed, now: Instant) -> Vec<u64> {
    batch(feed, now).map(|(_, seqs)| seqs).unwrap_or_default()
}

fn done(count: usize) -> Vec<Verdict> {
    vec![Verdict::Done; count]
}

fn later() -> Verdict {
    Verdict::Later("busy".into())
}

fn refused() -> Verdict {
    Verdict::Refused("no".into())
}

#[test]
fn a_full_batch_goes_at_once_and_a_small_one_after_its_delay() {
    let (mut feed, now) = feed(1..=6);
    assert_eq!(batch(&mut feed, now), Some((0, vec![1, 2, 3, 4])));
    assert_eq!(feed.settled(), 0, "nothing is done with before the sink says so");
    feed.handle_verdicts(0, done(4), now);
    assert_eq!(feed.settled(), 4);
    assert_eq!(batch(&mut feed, now), None);
    assert_eq!(feed.poll_timeout(), Some(now + Duration::from_secs(1)));
    assert_eq!(seqs(&mut feed, now + Duration::from_secs(1)), [5, 6]);
}

#[test]
fn batches_go_side_by_side_and_the_cursor_waits_for_the_slowest() {
    let (mut feed, now) = feed_of(Settings { in_flight: 3, ..SETTINGS }, 1..=16);
    for expected in [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]] {
        assert_eq!(seqs(&mut feed, now), expected);
    }
    assert_eq!(batch(&mut feed, now), None, "no more than three");
    assert_eq!(feed.poll_timeout(), None, "time alone changes nothing");
    feed.handle_verdicts(2, done(4), now);
    feed.handle_verdicts(1, done(4), now);
    assert_eq!(feed.settled(), 0);
    feed.handle_verdicts(0, done(4), now);
    assert_eq!(feed.settled(), 12);
}

#[test]
fn what_is_held_is_bounded_in_events_and_bytes() {
    let limits = Limits { events: 4, bytes: 700, delay: Duration::from_secs(1) };
    let (mut feed, now) =
        feed_of(Settings { limits: Limits { bytes: 1 << 20, ..limits }, ..SETTINGS }, 1..=100);
    assert_eq!((feed.read(), feed.room()), (8, 0), "one batch on its way, and the next");
    assert_eq!(feed.handle_events(vec![event(9)], all, now), 0);
    let (mut feed, now) = feed_of(Settings { limits, ..SETTINGS }, 1..=100);
    assert_eq!(feed.read(), 5, "by bytes");
    assert_eq!(seqs(&mut feed, now), [1, 2, 3]);
}

#[test]
fn only_what_is_late_is_tried_again_and_the_rest_goes_on() {
    let (mut feed, now) = feed_of(Settings { in_flight: 2, ..SETTINGS }, 1..=8);
    assert_eq!(seqs(&mut feed, now), [1, 2, 3, 4]);
    feed.handle_verdicts(0, vec![Verdict::Done, later(), Verdict::Done, later()], now);
    assert_eq!(feed.settled(), 1, "the cursor stays before the first that is not done");
    assert_eq!(batch(&mut feed, now), Some((1, vec![5, 6, 7, 8])));
    let now = feed.poll_timeout().unwrap();
    let again = feed.poll_transmit(now).unwrap();
    assert!(again.items.iter().all(|item| item.is_retry));
    assert_eq!(again.items.iter().map(|item| item.event.seq).collect::<Vec<_>>(), [2, 4]);
    feed.handle_verdicts(2, done(2), now);
    feed.handle_verdicts(1, done(4), now);
    assert_eq!((feed.settled(), feed.retries(), feed.poll_timeout()), (8, 2, None));
}

#[test]
fn where_the_order_counts_nothing_passes_what_is_late() {
    let (mut feed, now) = feed(1..=8);
    assert_eq!(seqs(&mut feed, now), [1, 2, 3, 4]);
    feed.handle_verdicts(0, vec![Verdict::Done, later(), later(), later()], now);
    assert_eq!(batch(&mut feed, now), None);
    let now = feed.poll_timeout().unwrap();
    assert_eq!(seqs(&mut feed, now), [2, 3, 4, 5]);
}

#[test]
fn pauses_grow_while_the_sink_is_away_and_one_batch_tries() {
    let (mut feed, mut now) = feed_of(Settings { in_flight: 3, ..SETTINGS }, 1..=16);
    for _ in 0..3 {
        assert!(feed.poll_transmit(now).is_some());
    }
    for id in 0..3 {
        feed.handle_failure(id, Failure::Away, "", now);
    }
    let mut longest = Duration::ZERO;
    for id in 3..12 {
        let until = feed.poll_timeout().unwrap();
        longest = longest.max(until - now);
        now = until;
        assert!(batch(&mut feed, now).is_some());
        assert_eq!(batch(&mut feed, now), None, "one batch tries whether it is back");
        feed.handle_failure(id, Failure::Away, "", now);
    }
    assert!((7_500..=10_000).contains(&longest.as_millis()), "{longest:?}");
    let now = feed.poll_timeout().unwrap();
    let (id, _) = batch(&mut feed, now).unwrap();
    feed.handle_verdicts(id, done(4), now);
    assert!(batch(&mut feed, now).is_some());
    assert!(batch(&mut feed, now).is_some(), "all that are allowed again");
}

#[test]
fn a_bridge_that_is_turned_away_tries_slowly_and_at_once_when_it_is_told() {
    let (mut feed, now) = feed(1..=4);
    assert!(batch(&mut feed, now).is_some());
    feed.handle_failure(0, Failure::Denied, "", now);
    assert!(feed.is_denied());
    assert_eq!(feed.poll_timeout(), Some(now + DENIED_PAUSE));
    feed.hurry(now);
    assert_eq!(seqs(&mut feed, now), [1, 2, 3, 4]);
    feed.handle_verdicts(1, done(4), now);
    assert!(!feed.is_denied());
}

#[test]
fn a_refused_event_goes_as_text_and_then_is_dead() {
    let (mut feed, now) = feed(1..=4);
    batch(&mut feed, now);
    feed.handle_verdicts(0, vec![Verdict::Done, refused(), refused(), Verdict::Done], now);
    let again = feed.poll_transmit(now).unwrap();
    assert!(again.items.iter().all(|item| item.form == Form::Text), "at once, in the other form");
    feed.handle_verdicts(again.id, vec![Verdict::Done, refused()], now);
    let dead = Settled::Dead { event: event(3), reason: "no".into() };
    assert_eq!(feed.poll_settled(), Some(dead));
    assert_eq!(feed.settled(), 4, "a dead one holds up nothing");
}

#[test]
fn a_dead_letter_that_is_tried_again_moves_no_cursor() {
    let (mut feed, now) = feed(10..=12);
    feed.handle_letter(event(3), Arc::default(), now);
    let sent = feed.poll_transmit(now).unwrap();
    assert_eq!(feed.settled(), 9);
    let mut verdicts = done(4);
    feed.handle_verdicts(sent.id, verdicts.clone(), now);
    assert_eq!(feed.poll_settled(), Some(Settled::Revived { seq: 3 }));
    assert_eq!(feed.settled(), 12);
    // Refused again, it is a dead letter again.
    feed.handle_letter(event(3), Arc::default(), now);
    verdicts = vec![refused()];
    for _ in 0..2 {
        let sent = feed.poll_transmit(now).unwrap();
        feed.handle_verdicts(sent.id, verdicts.clone(), now);
    }
    assert!(matches!(feed.poll_settled(), Some(Settled::StillDead { .. })));
}

#[test]
fn a_cursor_that_is_set_back_has_all_sent_again_as_a_retry() {
    let (mut feed, now) = feed_of(Settings { in_flight: 2, ..SETTINGS }, 1..=8);
    batch(&mut feed, now);
    feed.handle_verdicts(0, done(4), now);
    batch(&mut feed, now);
    feed.handle_rewind(2);
    assert_eq!((feed.settled(), feed.read()), (2, 2));
    feed.handle_events((3..=8).map(event).collect(), all, now);
    // The answer to what was on its way settles nothing of what comes now.
    feed.handle_verdicts(1, done(4), now);
    assert_eq!(feed.settled(), 2);
    let sent = feed.poll_transmit(now).unwrap();
    assert!(sent.items.iter().all(|item| item.is_retry));
    assert_eq!(sent.items[0].event.seq, 3);
}

#[test]
fn what_is_not_meant_is_done_with() {
    let (mut feed, now) = (Feed::new(SETTINGS, 0), Now::read().instant);
    let even = |event: &Event| event.tag.matches("even/*").then(Arc::default);
    feed.handle_events((1..=9).map(event).collect(), even, now);
    assert_eq!(feed.settled(), 1);
    assert_eq!(seqs(&mut feed, now), [2, 4, 6, 8]);
    feed.handle_verdicts(0, done(4), now);
    assert_eq!(feed.settled(), 9);
}

#[test]
fn a_batch_that_is_too_large_is_halved_down_to_one_event() {
    let (mut feed, now) = feed(1..=4);
    assert_eq!(batch(&mut feed, now), Some((0, vec![1, 2, 3, 4])));
    feed.handle_failure(0, Failure::TooLarge, "413", now);
    assert_eq!(batch(&mut feed, now), Some((1, vec![1, 2])));
    feed.handle_failure(1, Failure::TooLarge, "413", now);
    assert_eq!(batch(&mut feed, now), Some((2, vec![1])));
    feed.handle_failure(2, Failure::TooLarge, "413", now);
    let again = feed.poll_transmit(now).unwrap();
    assert_eq!(again.items[0].form, Form::Text);
    feed.handle_failure(again.id, Failure::TooLarge, "413", now);
    let dead = Settled::Dead { event: event(1), reason: "413".into() };
    assert_eq!(feed.poll_settled(), Some(dead));
    assert_eq!(seqs(&mut feed, now), [2], "the others are not lost with it");
}

#[test]
fn a_rate_holds_events_back_and_drops_none() {
    let rate = NonZeroU32::new(8);
    let limits = Limits { delay: Duration::from_millis(1), ..SETTINGS.limits };
    let (mut feed, start) = feed_of(Settings { limits, rate, ..SETTINGS }, 1..=8);
    let (mut now, mut sent) = (start, Vec::new());
    while sent.len() < 8 {
        now = feed.poll_timeout().unwrap().max(now);
        let (id, seqs) = batch(&mut feed, now).unwrap();
        feed.handle_verdicts(id, done(seqs.len()), now);
        sent.extend(seqs);
    }
    assert_eq!(sent, (1..=8).collect::<Vec<_>>());
    assert!((700..=1_000).contains(&(now - start).as_millis()), "{:?}", now - start);
}

#[test]
fn nothing_goes_while_it_drains_or_is_stopped() {
    let (mut feed, now) = feed_of(Settings { in_flight: 2, ..SETTINGS }, 1..=8);
    batch(&mut feed, now);
    feed.drain(true);
    assert_eq!((batch(&mut feed, now), feed.poll_timeout()), (None, None));
    feed.handle_verdicts(0, done(4), now);
    assert!(feed.is_quiet());
    feed.drain(false);
    feed.stop(true);
    assert_eq!((batch(&mut feed, now), feed.room()), (None, 0));
    feed.stop(false);
    assert_eq!(seqs(&mut feed, now), [5, 6, 7, 8]);
}
