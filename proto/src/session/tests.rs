//! Both ends in virtual time: single rules first, then random schedules of loss and crashes (`tests/schedule.rs`).

mod pair;
mod schedule;

use std::time::Duration;

use pair::{Pair, hello_of, job, message_for_minion, message_of_minion};
use serde_json::json;

use super::{
    HELLO_DEADLINE, OUTBOX_WINDOW, REQUEST_WINDOW,
    master::{self, Close, JOB_WINDOW, JobFrame, Killed, Unfinished},
    minion::{self, DialFailure, End},
};
use crate::{
    codec,
    message::{
        Acknowledged, CertificateRequest, FromMaster, FromMinion, GrainSets, Heartbeat,
        JobAccepted, Pillar, Renew, RequestFailed, Retirement, RetryAfter, RootList, Roots, Scope,
        TreeRequest, Welcome,
    },
    outbox::Outbox,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_welcome_brings_enrolled_grains_and_what_the_store_has() {
    let mut pair = Pair::new(1);
    pair.push("one");
    pair.push("two");
    pair.settle();
    assert_eq!(pair.stored(), ["one", "two"]);
    assert!(pair.outbox.is_empty(), "everything was acknowledged");
    assert_eq!(pair.welcome.as_ref().unwrap().grains["role"], "rfid");
}

#[test]
fn an_entry_that_is_not_flushed_is_not_acknowledged() {
    let mut pair = Pair::new(2);
    pair.connect();
    pair.push("one");
    pair.deliver_all();
    assert_eq!(pair.outbox.len(), 1);
    pair.flush();
    pair.deliver_all();
    assert!(pair.outbox.is_empty());
}

#[test]
fn a_silent_master_is_noticed_after_three_heartbeats() {
    let mut pair = Pair::new(3);
    pair.connect();
    pair.master_is_deaf = true;
    let begin = pair.now;
    let end = pair.run_until_disconnected();
    assert!(matches!(end, End::Silent(_)), "{end}");
    assert_eq!(pair.now - begin, 3 * pair::HEARTBEAT);
}

#[test]
fn a_silent_minion_turns_stale_once_and_is_back_when_heard() {
    let now = pair::start();
    let (mut session, _) = established(now);
    assert_eq!(session.poll_timeout(), Some(now + 3 * pair::HEARTBEAT));
    session.handle_timeout(now + 3 * pair::HEARTBEAT - SECOND);
    assert_eq!(session.poll_event(), None);
    session.handle_timeout(now + 3 * pair::HEARTBEAT);
    session.handle_timeout(now + 4 * pair::HEARTBEAT);
    assert_eq!(session.poll_event(), Some(master::Event::Stale));
    assert_eq!(session.poll_event(), None);
    assert_eq!(session.poll_timeout(), None);
    let heartbeat = message_of_minion(&FromMinion::Heartbeat(Heartbeat { at: pair::wall() }));
    session.handle_frame(&heartbeat, now + 5 * pair::HEARTBEAT).unwrap();
    assert_eq!(session.poll_event(), Some(master::Event::Back));
    let answer = session.poll_transmit(pair::wall()).unwrap();
    assert!(matches!(codec::decode(&answer), Ok(FromMaster::Heartbeat(_))));
}

#[test]
fn heartbeats_keep_both_ends_content_for_a_day() {
    let mut pair = Pair::new(4);
    pair.connect();
    let end = pair.now + Duration::from_secs(86_400);
    while pair.now < end {
        pair.tick();
        pair.deliver_all();
        assert!(pair.is_established());
    }
    assert_eq!(pair.staleness, 0);
    let rate = pair.heartbeats as f64 / (86_400.0 / pair::HEARTBEAT.as_secs_f64());
    assert!((1.0..1.25).contains(&rate), "{rate} heartbeats an interval");
}

#[test]
fn a_minion_that_says_nothing_is_closed_at_the_deadline() {
    let now = pair::start();
    let waiting = master::AwaitHello::new(now);
    assert_eq!(waiting.poll_timeout(), Some(now + HELLO_DEADLINE));
    let waiting = waiting.handle_timeout(now + SECOND).unwrap();
    assert!(matches!(waiting.handle_timeout(now + HELLO_DEADLINE), Err(Close::NoHello)));
}

#[test]
fn a_protocol_that_the_master_does_not_speak_is_told_so() {
    let mut hello = hello_of(1);
    hello.protocols = vec![7, 8];
    let frame = message_of_minion(&FromMinion::Hello(hello));
    let close = master::AwaitHello::new(pair::start()).handle_frame(&frame).unwrap_err();
    let farewell: FromMaster = codec::decode(&close.farewell().unwrap()).unwrap();
    let FromMaster::RetryAfter(retry) = farewell else { panic!("{farewell:?}") };
    assert_eq!(retry.reason, "the minion speaks protocols [7, 8], this master 1");
}

#[test]
fn messages_out_of_turn_close_the_connection() {
    let now = pair::start();
    let heartbeat = message_of_minion(&FromMinion::Heartbeat(Heartbeat { at: pair::wall() }));
    let early = master::AwaitHello::new(now).handle_frame(&heartbeat);
    assert!(matches!(early, Err(Close::OutOfTurn(_))));

    let (mut session, _) = established(now);
    let hello = message_of_minion(&FromMinion::Hello(hello_of(1)));
    assert!(matches!(session.handle_frame(&hello, now), Err(Close::OutOfTurn(_))));
    assert!(matches!(session.handle_frame(b"\xc1", now), Err(Close::Malformed(_))));
    let zero = message_of_minion(&pair::entry(0, "x"));
    assert!(matches!(session.handle_frame(&zero, now), Err(Close::OutOfTurn(_))));
}

#[test]
fn a_flood_of_entries_or_requests_closes_the_connection() {
    let now = pair::start();
    let (mut session, _) = established(now);
    for number in 1..=OUTBOX_WINDOW as u64 {
        session.handle_frame(&message_of_minion(&pair::entry(number, "x")), now).unwrap();
    }
    let more = message_of_minion(&pair::entry(OUTBOX_WINDOW as u64 + 1, "x"));
    assert!(matches!(session.handle_frame(&more, now), Err(Close::OutboxWindow)));

    let (mut session, _) = established(now);
    let request = message_of_minion(&FromMinion::TreeRequest(TreeRequest {
        request: 1,
        saltenv: "base".to_owned(),
    }));
    for _ in 0..REQUEST_WINDOW {
        session.handle_frame(&request, now).unwrap();
    }
    assert!(matches!(session.handle_frame(&request, now), Err(Close::RequestWindow)));
}

#[test]
fn a_pillar_that_no_message_carries_is_refused_and_does_not_end_the_connection() {
    let now = pair::start();
    let (mut session, _) = established(now);
    let deep = (0..codec::MAX_DEPTH).fold(json!(1), |value, _| json!([value]));
    for (request, value) in [(1, json!("x".repeat(codec::MAX_FRAME))), (2, deep)] {
        let pillar = serde_json::Map::from_iter([("key".to_owned(), value)]);
        session.reply(master::Reply::Pillar(Pillar { request, pillar }));
        let frame = session.poll_transmit(pair::wall()).unwrap();
        assert!(frame.len() <= codec::MAX_FRAME);
        let FromMaster::RequestFailed(failed) = codec::decode(&frame).unwrap() else { panic!() };
        assert_eq!(failed.request, request);
        assert!(failed.reason.starts_with("the pillar "), "{}", failed.reason);
    }
}

#[test]
fn jobs_beyond_the_window_wait_in_order_and_come_back_when_the_connection_ends() {
    let now = pair::start();
    let (mut session, _) = established(now);
    let jobs: Vec<_> = (0..JOB_WINDOW as u32 + 3).map(job).collect();
    for job in &jobs {
        session.queue_job(JobFrame::new(job.clone()).unwrap()).unwrap();
    }
    let mut sent = 0;
    while session.poll_transmit(pair::wall()).is_some() {
        sent += 1;
    }
    assert_eq!(sent, JOB_WINDOW);
    let accepted = JobAccepted { jid: jobs[0].jid.clone(), behind: 0 };
    session.handle_frame(&message_of_minion(&FromMinion::JobAccepted(accepted)), now).unwrap();
    assert!(session.poll_transmit(pair::wall()).is_some());
    assert!(session.poll_transmit(pair::wall()).is_none());

    assert_eq!(session.kill_job(&jobs[JOB_WINDOW + 2].jid), Killed::Unsent);
    assert_eq!(session.kill_job(&jobs[5].jid), Killed::Sent);
    let kill: FromMaster = codec::decode(&session.poll_transmit(pair::wall()).unwrap()).unwrap();
    assert!(matches!(kill, FromMaster::KillJob(_)));

    let Unfinished { unacknowledged, unsent } = session.disconnect();
    let jid = |at: usize| jobs[at].jid.clone();
    assert_eq!(unacknowledged, (1..=JOB_WINDOW).map(jid).collect::<Vec<_>>());
    assert_eq!(unsent, [jid(JOB_WINDOW + 1)]);
}

#[test]
fn a_session_keeps_a_bounded_number_of_jobs() {
    let (mut session, _) = established(pair::start());
    let frame = JobFrame::new(job(1)).unwrap();
    for _ in 0..master::JOB_QUEUE {
        session.queue_job(frame.clone()).unwrap();
    }
    assert_eq!(session.queue_job(frame.clone()), Err(frame));
}

#[test]
fn a_job_that_no_minion_would_take_is_refused_on_the_master() {
    let mut long = job(1);
    long.arg = vec!["x".repeat(codec::MAX_FRAME).into()];
    assert!(matches!(JobFrame::new(long), Err(master::JobFrameError::TooLong(_))));
    let mut deep = job(1);
    deep.arg = vec![json!(null)];
    for _ in 0..codec::MAX_DEPTH {
        deep.arg = vec![deep.arg.into()];
    }
    assert_eq!(JobFrame::new(deep), Err(master::JobFrameError::TooDeep));
}

#[test]
fn an_idle_session_on_the_master_is_small() {
    let (session, _) = established(pair::start());
    assert!(size_of_val(&session) <= 512, "{} bytes", size_of_val(&session));
}

#[test]
fn a_session_for_renewal_closes_a_minion_that_wants_more() {
    let now = pair::start();
    let tree = TreeRequest { request: 1, saltenv: "base".to_owned() };
    for more in [
        pair::entry(1, "x"),
        FromMinion::Grains(GrainSets::default()),
        FromMinion::TreeRequest(tree),
        FromMinion::Roots(Roots::default()),
        FromMinion::JobAccepted(JobAccepted { jid: job(1).jid, behind: 0 }),
        FromMinion::Hello(hello_of(1)),
    ] {
        let (mut session, _) = established_for(Scope::Renewal, now);
        let closed = session.handle_frame(&message_of_minion(&more), now);
        assert!(matches!(closed, Err(Close::OutOfTurn(_))), "{more:?}");
        assert_eq!(session.poll_event(), None, "{more:?}");
    }
    let (mut session, _) = established_for(Scope::Renewal, now);
    let asked = CertificateRequest { request: 1, csr: bytes::Bytes::from_static(b"csr") };
    let frame = message_of_minion(&FromMinion::CertificateRequest(asked.clone()));
    session.handle_frame(&frame, now).unwrap();
    let request = master::Event::Request(master::Request::Certificate(asked));
    assert_eq!(session.poll_event(), Some(request));
    let frame = JobFrame::new(job(1)).unwrap();
    assert_eq!(session.queue_job(frame.clone()), Err(frame), "it runs no jobs");
}

#[test]
fn a_minion_in_a_session_for_renewal_asks_for_a_certificate_and_keeps_the_rest() {
    let now = pair::start();
    let (mut master, welcome) = established_for(Scope::Renewal, now);
    let mut outbox = Outbox::default();
    outbox.push(pair::event("kept"), now);
    let (mut session, welcome) = greeting(now).handle_frame(&mut outbox, &welcome, now).unwrap();
    assert_eq!((welcome.scope, session.scope()), (Scope::Renewal, Scope::Renewal));
    session.accept_job(JobAccepted { jid: job(1).jid, behind: 0 });
    session.send_grains(GrainSets::default());
    session.send_roots(Roots::default());
    let tree = TreeRequest { request: 1, saltenv: "base".to_owned() };
    session.request(minion::Request::Tree(tree));
    let csr = bytes::Bytes::from_static(b"csr");
    let asked = CertificateRequest { request: 2, csr };
    session.request(minion::Request::Certificate(asked.clone()));
    let later = now + pair::HEARTBEAT;
    let mut sent = Vec::new();
    while let Some(frame) = session.poll_transmit(&mut outbox, pair::wall(), later) {
        master.handle_frame(&frame, later).unwrap();
        sent.push(codec::decode::<FromMinion>(&frame).unwrap());
    }
    let [FromMinion::Heartbeat(_), FromMinion::CertificateRequest(request)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(*request, asked);
    assert_eq!(outbox.len(), 1, "it waits for a session that takes it");

    let frame = message_for_minion(&FromMaster::Job(job(1)));
    assert!(matches!(session.handle_frame(&mut outbox, &frame, later), Err(End::OutOfTurn(_))));
    assert_eq!(session.reconnect(later).poll_timeout(), Some(later), "it comes back at once");
}

#[test]
fn what_the_master_says_unasked_arrives() {
    let now = pair::start();
    let (mut master, welcome) = established(now);
    let mut outbox = Outbox::default();
    let (mut session, _) = greeting(now).handle_frame(&mut outbox, &welcome, now).unwrap();
    let list = bytes::Bytes::from_static(b"signed");
    master.notify(master::Notice::RootList(RootList { list: list.clone() }));
    master.notify(master::Notice::Renew(Renew { within: 60_000 }));
    master.notify(master::Notice::Retirement(Retirement { at: Some(pair::wall()) }));
    while let Some(frame) = master.poll_transmit(pair::wall()) {
        session.handle_frame(&mut outbox, &frame, now).unwrap();
    }
    assert_eq!(session.poll_event(), Some(minion::Event::RootList(list)));
    assert_eq!(session.poll_event(), Some(minion::Event::Renew(60 * SECOND)));
    assert_eq!(session.poll_event(), Some(minion::Event::Retirement(Some(pair::wall()))));

    session.send_roots(Roots { root_list: 3, roots: Vec::new() });
    let frame = session.poll_transmit(&mut outbox, pair::wall(), now).unwrap();
    master.handle_frame(&frame, now).unwrap();
    let trusted = Roots { root_list: 3, roots: Vec::new() };
    assert_eq!(master.poll_event(), Some(master::Event::Roots(trusted)));
    let failed = RequestFailed { request: 1, reason: "no".to_owned() };
    master.reply(master::Reply::Failed(failed));
    assert!(master.poll_transmit(pair::wall()).is_some());
}

#[test]
fn requests_beyond_the_window_wait_for_answers() {
    let mut pair = Pair::new(5);
    pair.connect();
    for request in 0..40 {
        pair.request(request);
    }
    pair.deliver_all();
    assert_eq!(pair.answers, (0..40).collect::<Vec<_>>());
    assert!(pair.is_established());
}

#[test]
fn what_a_master_must_not_say_ends_the_session() {
    let now = pair::start();
    let mut outbox = Outbox::default();
    let cause = |message: &FromMaster| {
        let frame = message_for_minion(message);
        greeting(now).handle_frame(&mut Outbox::default(), &frame, now).unwrap_err().cause
    };
    let welcome = |protocol, acknowledged| {
        FromMaster::Welcome(Welcome {
            protocol,
            time: pair::wall(),
            grains: serde_json::Map::new(),
            acknowledged,
            scope: Scope::Full,
            retires: None,
        })
    };
    assert!(matches!(cause(&welcome(2, 0)), End::Incompatible(2)));
    assert!(matches!(cause(&welcome(1, 9)), End::Acknowledgement(_)));
    let early = FromMaster::Acknowledged(Acknowledged { through: 0 });
    assert!(matches!(cause(&early), End::OutOfTurn(_)));

    let frame = message_for_minion(&welcome(1, 0));
    let (mut session, _) = greeting(now).handle_frame(&mut outbox, &frame, now).unwrap();
    let again = session.handle_frame(&mut outbox, &frame, now);
    assert!(matches!(again, Err(End::OutOfTurn(_))));
    let never = message_for_minion(&FromMaster::Acknowledged(Acknowledged { through: 1 }));
    assert!(matches!(session.handle_frame(&mut outbox, &never, now), Err(End::Acknowledgement(_))));
}

#[test]
fn a_retry_after_is_a_floor_for_the_next_attempt() {
    let now = pair::start();
    let retry = RetryAfter { after: 120_000, reason: "busy".to_owned() };
    let frame = message_for_minion(&FromMaster::RetryAfter(retry));
    let ended = greeting(now).handle_frame(&mut Outbox::default(), &frame, now).unwrap_err();
    assert_eq!(ended.cause.to_string(), "the master asks to come back in 120 s: busy");
    let wait = ended.next.poll_timeout().unwrap() - now;
    assert!(wait >= 120 * SECOND && wait <= 121 * SECOND, "{wait:?}");
}

#[test]
fn a_master_that_asks_to_be_left_alone_for_ever_is_left_alone_for_an_hour() {
    let now = pair::start();
    for after in [365 * 86_400_000, u64::MAX] {
        let retry = RetryAfter { after, reason: "gone fishing".to_owned() };
        let frame = message_for_minion(&FromMaster::RetryAfter(retry));
        let ended = greeting(now).handle_frame(&mut Outbox::default(), &frame, now).unwrap_err();
        let wait = ended.next.poll_timeout().unwrap() - now;
        assert!(wait >= 3_600 * SECOND && wait <= 3_601 * SECOND, "{wait:?}");
    }
}

#[test]
fn an_answer_that_does_not_come_is_given_up_on() {
    let now = pair::start();
    let greeting = greeting(now).handle_timeout(now + SECOND).unwrap();
    let ended = greeting.handle_timeout(now + HELLO_DEADLINE).unwrap_err();
    assert!(matches!(ended.cause, End::NoWelcome));
}

#[test]
fn a_minion_that_is_not_accepted_tries_again_within_ten_seconds() {
    let mut now = pair::start();
    let mut phase = minion::Disconnected::new(pair::settings(1, 1), now);
    for _ in 0..50 {
        phase = phase.connect().failed(DialFailure::NotAccepted, now);
        let next = phase.poll_timeout().unwrap();
        assert!(next - now <= 10 * SECOND);
        now = next;
    }
}

fn established(now: std::time::Instant) -> (master::Established, bytes::Bytes) {
    established_for(Scope::Full, now)
}

fn established_for(scope: Scope, now: std::time::Instant) -> (master::Established, bytes::Bytes) {
    let hello = message_of_minion(&FromMinion::Hello(hello_of(1)));
    let offered = master::AwaitHello::new(now).handle_frame(&hello).unwrap();
    let terms = master::Terms { scope, ..master::Terms::default() };
    let (session, welcome, _) = offered.welcome(terms, pair::wall(), now);
    (session, welcome)
}

fn greeting(now: std::time::Instant) -> minion::Greeting {
    let dial = minion::Disconnected::new(pair::settings(1, 1), now).connect();
    dial.connected(GrainSets::default(), Roots::default(), pair::wall(), now).0
}
