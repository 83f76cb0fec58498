//! Local buses with real ZeroMQ programs, and with such that misbehave.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use drover_proto::tunnel::bus::{BusError, BusLimits, Intake, Publisher};
use drover_proto::zmtp::{Ready, SocketType, greeting};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeromq::{PushSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use crate::fixture::soon;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/events.ipc");
    (directory, path)
}

fn endpoint(path: &Path) -> String {
    format!("ipc://{}", path.display())
}

async fn subscriber(path: &Path, prefix: &str) -> SubSocket {
    let mut subscriber = SubSocket::new();
    soon(subscriber.connect(&endpoint(path))).await.unwrap();
    subscriber.subscribe(prefix).await.unwrap();
    subscriber
}

async fn push(program: &mut PushSocket, tag: &'static str, data: &'static [u8]) {
    let mut message = ZmqMessage::from(tag);
    message.push_back(Bytes::from_static(data));
    soon(program.send(message)).await.unwrap();
}

/// A program that has opened ZMTP and writes what it likes from then on.
async fn raw(path: &Path, socket_type: SocketType) -> UnixStream {
    let mut program = UnixStream::connect(path).await.unwrap();
    let opening = [greeting().as_slice(), &Ready::new(socket_type).to_frame()].concat();
    program.write_all(&opening).await.unwrap();
    let mut theirs = [0; 64 + 2];
    soon(program.read_exact(&mut theirs)).await.unwrap();
    let mut body = vec![0; usize::from(theirs[65])];
    soon(program.read_exact(&mut body)).await.unwrap();
    program
}

async fn is_closed(program: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    let _ = soon(program.read_to_end(&mut rest)).await;
    true
}

/// Publishes until the subscriber has heard of it: nobody tells when a subscription has arrived.
async fn first_event(publisher: &mut Publisher, subscriber: &mut SubSocket) -> ZmqMessage {
    soon(async {
        loop {
            publisher.publish("drover/minion/m/start", Bytes::from_static(b"event")).await.unwrap();
            let heard = timeout(Duration::from_millis(20), subscriber.recv()).await;
            if let Ok(message) = heard {
                return message.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn subscribers_get_tag_and_event() {
    let (_directory, path) = place();
    let mut publisher = Publisher::bind(&path, BusLimits::default()).await.unwrap();
    let mut subscriber = subscriber(&path, "drover/minion/").await;
    let message = first_event(&mut publisher, &mut subscriber).await;
    let frames = message.into_vec();
    assert_eq!(frames, ["drover/minion/m/start", "event"]);
}

#[tokio::test]
async fn a_slow_subscriber_loses_whole_events_and_holds_nobody_up() {
    let (_directory, path) = place();
    let limits = BusLimits { backlog: 1 << 16, ..BusLimits::default() };
    let mut publisher = Publisher::bind(&path, limits).await.unwrap();
    let mut slow = subscriber(&path, "").await;
    let mut quick = subscriber(&path, "").await;
    first_event(&mut publisher, &mut quick).await;
    first_event(&mut publisher, &mut slow).await;

    let sent = 2_000u32;
    let reading = tokio::spawn(async move {
        let mut last = 0;
        while last + 1 < sent {
            let frames = quick.recv().await.unwrap().into_vec();
            if &frames[0][..] == b"numbered" {
                last = u32::from_be_bytes(frames[1][..4].try_into().unwrap());
            }
        }
    });
    for number in 0..sent {
        let event = [number.to_be_bytes().as_slice(), &[0; 4092]].concat();
        publisher.publish("numbered", event.into()).await.unwrap();
        tokio::time::sleep(Duration::ZERO).await;
    }
    soon(reading).await.unwrap();

    let mut got = 0;
    while let Ok(message) = timeout(Duration::from_millis(300), slow.recv()).await {
        let frames = message.unwrap().into_vec();
        assert_eq!(frames.len(), 2);
        got += u32::from(&frames[0][..] == b"numbered" && frames[1].len() == 4096);
    }
    assert!(got > 0 && got < sent, "{got} of {sent}");
}

#[tokio::test]
async fn programs_hand_events_in() {
    let (_directory, path) = place();
    let mut intake = Intake::bind(&path, BusLimits::default()).await.unwrap();
    let mut program = PushSocket::new();
    soon(program.connect(&endpoint(&path))).await.unwrap();
    push(&mut program, "door/open", b"\x80").await;
    let (tag, data) = soon(intake.recv()).await;
    assert_eq!((&tag[..], &data[..]), (b"door/open".as_slice(), b"\x80".as_slice()));
}

#[tokio::test]
async fn a_program_that_sends_too_much_is_refused_with_a_count() {
    let (_directory, path) = place();
    let limits = BusLimits { messages_per_second: Some(100), ..BusLimits::default() };
    let mut intake = Intake::bind(&path, limits).await.unwrap();
    let mut program = raw(&path, SocketType::Push).await;
    program.write_all(&b"\x01\x01t\x00\x01d".repeat(150)).await.unwrap();
    for _ in 0..100 {
        soon(intake.recv()).await;
    }
    assert_eq!(intake.refused(), 50);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_counted_and_told_at_once() {
    let (_directory, path) = place();
    let mut intake = Intake::bind(&path, BusLimits::default()).await.unwrap();
    let mut refused = intake.watch_refused();
    let mut program = raw(&path, SocketType::Push).await;
    let two_megabytes = [&[2], (2u64 << 20).to_be_bytes().as_slice()].concat();
    let sent = [b"\x01\x01a\x00\x01b\x01\x01t".as_slice(), &two_megabytes].concat();
    program.write_all(&sent).await.unwrap();
    soon(refused.changed()).await.unwrap();
    assert_eq!(intake.refused(), 1);
    assert_eq!(&soon(intake.recv()).await.0[..], b"a");
    assert!(is_closed(&mut program).await);
}

#[tokio::test]
async fn a_program_that_breaks_the_protocol_loses_its_connection_alone() {
    let (_directory, path) = place();
    let mut intake = Intake::bind(&path, BusLimits::default()).await.unwrap();
    let mut good = PushSocket::new();
    soon(good.connect(&endpoint(&path))).await.unwrap();
    let huge = [&[2], (1u64 << 62).to_be_bytes().as_slice()].concat();
    for bytes in [huge.as_slice(), b"\x04\x05\x04PING", b"\xff\xff", b"\x01\x01a\x01\x01b\x00\x01c"]
    {
        let mut bad = raw(&path, SocketType::Push).await;
        bad.write_all(bytes).await.unwrap();
        assert!(is_closed(&mut bad).await);
    }
    let mut half = raw(&path, SocketType::Push).await;
    half.write_all(b"\x01\x05ha").await.unwrap();
    drop(half);
    push(&mut good, "still", b"here").await;
    assert_eq!(&soon(intake.recv()).await.0[..], b"still");
}

#[tokio::test]
async fn a_program_with_the_wrong_socket_is_turned_away() {
    let (_directory, path) = place();
    let _publisher = Publisher::bind(&path, BusLimits::default()).await.unwrap();
    let mut program = UnixStream::connect(&path).await.unwrap();
    let ready = Ready::new(SocketType::Dealer).to_frame();
    program.write_all(&[greeting().as_slice(), &ready].concat()).await.unwrap();
    assert!(is_closed(&mut program).await);
}

#[tokio::test]
async fn subscriptions_without_end_are_cut_off() {
    let (_directory, path) = place();
    let limits = BusLimits { subscriptions: 100, ..BusLimits::default() };
    let _publisher = Publisher::bind(&path, limits).await.unwrap();
    let mut program = raw(&path, SocketType::Sub).await;
    program.write_all(&b"\x00\x02\x01a".repeat(101)).await.unwrap();
    assert!(is_closed(&mut program).await);
}

#[tokio::test]
async fn more_programs_than_allowed_are_turned_away() {
    let (_directory, path) = place();
    let limits = BusLimits { programs: 1, ..BusLimits::default() };
    let _intake = Intake::bind(&path, limits).await.unwrap();
    let _first = raw(&path, SocketType::Push).await;
    let mut second = UnixStream::connect(&path).await.unwrap();
    let mut rest = Vec::new();
    soon(second.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_bus_replaces_what_a_killed_process_left_and_a_long_path_is_refused() {
    let (directory, path) = place();
    drop(Intake::bind(&path, BusLimits::default()).await.unwrap());
    std::os::unix::net::UnixListener::bind(&path).map(drop).unwrap();
    // A process that another test starts at this moment holds the listener until it runs.
    soon(async {
        while let Err(error) = Intake::bind(&path, BusLimits::default()).await {
            assert!(error.source().unwrap().to_string().contains("another process"), "{error}");
            tokio::task::yield_now().await;
        }
    })
    .await;

    let long = directory.path().join("x".repeat(120)).join("events.ipc");
    let error = Intake::bind(&long, BusLimits::default()).await.err().unwrap();
    let BusError::Socket { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("107 are the most"), "{source}");
}

/// A program as a device's author or a consumer of events writes it, with libzmq beneath.
fn pyzmq(program: &str, path: &Path) -> tokio::process::Child {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parts/python");
    tokio::process::Command::new(python)
        .args(["-c", program, &endpoint(path)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_libzmq_subscriber_gets_what_it_subscribed_to_and_no_more() {
    let (_directory, path) = place();
    let mut publisher = Publisher::bind(&path, BusLimits::default()).await.unwrap();
    let mut program = pyzmq(
        "import sys, zmq\n\
         bus = zmq.Context().socket(zmq.SUB)\n\
         bus.connect(sys.argv[1])\n\
         bus.subscribe('unwanted')\n\
         bus.unsubscribe('unwanted')\n\
         bus.subscribe('wanted/')\n\
         print(b' '.join(bus.recv_multipart()).decode())\n",
        &path,
    );
    let mut output = String::new();
    let mut stdout = program.stdout.take().unwrap();
    let publishing = async {
        loop {
            publisher.publish("unwanted/a", Bytes::from_static(b"no")).await.unwrap();
            publisher.publish("wanted/a", Bytes::from_static(b"yes")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // The first run of all makes Python's environment.
    let reading = timeout(Duration::from_secs(120), stdout.read_to_string(&mut output));
    tokio::select! {
        () = publishing => {}
        read = reading => { read.unwrap().unwrap(); }
    }
    assert_eq!(output, "wanted/a yes\n");
}

#[tokio::test]
async fn a_libzmq_program_hands_an_event_in_and_ends_at_once() {
    let (_directory, path) = place();
    let mut intake = Intake::bind(&path, BusLimits::default()).await.unwrap();
    let mut program = pyzmq(
        "import sys, zmq\n\
         bus = zmq.Context().socket(zmq.PUSH)\n\
         bus.connect(sys.argv[1])\n\
         bus.send_multipart([b'door/open', b'x' * 1000])\n",
        &path,
    );
    let taken = timeout(Duration::from_secs(120), intake.recv()).await.unwrap();
    assert_eq!((&taken.0[..], taken.1.len()), (b"door/open".as_slice(), 1000));
    assert!(soon(program.wait()).await.unwrap().success());
}
