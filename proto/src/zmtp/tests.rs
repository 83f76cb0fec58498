use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn frame(body: &[u8], more: bool, long: bool) -> Vec<u8> {
    let mut bytes = vec![(u8::from(more) * MORE) | (u8::from(long) * LONG)];
    if long {
        bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    } else {
        bytes.push(u8::try_from(body.len()).unwrap());
    }
    bytes.extend_from_slice(body);
    bytes
}

fn guard() -> FrameGuard {
    FrameGuard::new(FrameLimits { frame: 1000, message: 1500, frames: 4 })
}

fn open(bytes: &[u8]) -> Result<Option<Ready>, Violation> {
    Opening::new().handle_bytes(&mut &*bytes)
}

fn opening_with(at: usize, byte: u8) -> Result<Option<Ready>, Violation> {
    let mut bytes = greeting().to_vec();
    bytes[at] = byte;
    open(&bytes)
}

#[test]
fn a_header_that_claims_2_to_the_62_bytes_is_refused() {
    let mut bytes = vec![LONG];
    bytes.extend_from_slice(&(1u64 << 62).to_be_bytes());
    assert_eq!(
        guard().check(&bytes),
        Err(Violation::FrameTooLong { claimed: 1 << 62, limit: 1000 })
    );
}

#[test]
fn frames_that_add_up_to_too_much_are_refused() {
    let bytes = [frame(&[0; 1000], true, true), frame(&[0; 501], false, true)].concat();
    let refused = Violation::MessageTooLong { claimed: 1501, limit: 1500 };
    assert_eq!(guard().check(&bytes), Err(refused));
}

#[test]
fn empty_frames_without_end_are_refused() {
    let bytes = [MORE, 0].repeat(5);
    assert_eq!(guard().check(&bytes), Err(Violation::TooManyFrames(4)));
}

#[test]
fn commands_and_reserved_flags_are_refused() {
    assert_eq!(guard().check(b"\x04\x05\x04PING"), Err(Violation::Command));
    assert_eq!(guard().check(&[0x08]), Err(Violation::Flags(0x08)));
    assert_eq!(guard().check(&[0x80]), Err(Violation::Flags(0x80)));
}

#[test]
fn another_protocol_is_refused_at_its_first_byte() {
    assert_eq!(open(b"GET / HTTP/1.1"), Err(Violation::Signature));
    assert_eq!(opening_with(9, 0), Err(Violation::Signature));
}

#[test]
fn an_older_version_is_refused_and_a_newer_one_accepted() {
    assert_eq!(opening_with(10, 2), Err(Violation::Version(2)));
    assert_eq!(opening_with(11, 1), Ok(None));
}

#[test]
fn another_mechanism_is_refused() {
    assert_eq!(opening_with(12, b'C'), Err(Violation::Mechanism));
    assert_eq!(opening_with(31, b'x'), Err(Violation::Mechanism));
}

#[test]
fn a_message_before_ready_is_refused() {
    let bytes = [greeting().as_slice(), &[0, 0]].concat();
    assert_eq!(open(&bytes), Err(Violation::Ready("a message before it")));
}

#[test]
fn a_ready_over_the_limit_is_refused_by_its_header() {
    let bytes = [greeting().as_slice(), &[COMMAND | LONG, 0x40, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(open(&bytes), Err(Violation::FrameTooLong { claimed: 1 << 62, limit: 512 }));
}

#[test]
fn malformed_ready_bodies_are_refused() {
    let cases: [(&[u8], Violation); 6] = [
        (b"\x05ERROR", Violation::Ready("not READY")),
        (b"\x05READY", Violation::Ready("no `Socket-Type`")),
        (b"\x05READY\xffSocket", Violation::Ready("cut short")),
        (b"\x05READY\x0bSocket-Type\xff\xff\xff\xffDEALER", Violation::Ready("cut short")),
        (b"\x05READY\x0bSocket-Type\0\0\0\x03REQ", Violation::SocketType),
        (
            b"\x05READY\x0bSocket-Type\0\0\0\x03SUB\x0bSocket-Type\0\0\0\x03SUB",
            Violation::Ready("`Socket-Type` twice"),
        ),
    ];
    for (body, violation) in cases {
        assert_eq!(Ready::from_body(body), Err(violation), "{body:?}");
    }
}

#[test]
fn what_libzmq_sends_is_read() {
    let body = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
    assert_eq!(Ready::from_body(body), Ok(Ready::new(SocketType::Dealer)));
}

#[test]
fn the_opening_is_the_one_in_the_protocols_text() {
    let text = include_str!("../../../docs/protocol.md");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ready = Ready::new(SocketType::Dealer).to_frame();
    assert!(text.contains(&hex(&ready).join(" ")));
    let greeting = greeting();
    let (start, zeros) = greeting.split_at(16);
    assert!(text.contains(&hex(start).join(" ")));
    assert!(zeros.len() == 48 && zeros.iter().all(|&byte| byte == 0));
}

proptest! {
    #[test]
    fn good_traffic_passes_however_it_is_cut(
        messages in vec(vec((vec(any::<u8>(), 0..256), any::<bool>()), 1..5), 0..8),
        cut in 1usize..64,
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            for (index, (body, long)) in message.iter().enumerate() {
                let body = &body[..body.len().min(255)];
                bytes.extend(frame(body, index + 1 < message.len(), *long));
            }
        }
        let mut guard = guard();
        let mut ended = 0;
        for chunk in bytes.chunks(cut) {
            ended += guard.check(chunk).unwrap();
        }
        prop_assert_eq!(ended, messages.len());
        prop_assert!(guard.is_between_messages());
    }

    #[test]
    fn the_verdict_does_not_depend_on_how_bytes_are_cut(
        bytes in vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 0..200),
        cut in 1usize..16,
    ) {
        let mut pieces = guard();
        let mut by_piece = Ok(0);
        for chunk in bytes.chunks(cut) {
            by_piece = by_piece.and_then(|sum| Ok(sum + pieces.check(chunk)?));
        }
        prop_assert_eq!(guard().check(&bytes), by_piece);
    }

    #[test]
    fn a_ready_is_read_as_it_was_written_and_leaves_what_follows(
        identity in vec(any::<u8>(), 0..=255),
        rest in vec(any::<u8>(), 0..32),
        cut in 1usize..400,
    ) {
        let ready = Ready { socket_type: SocketType::Dealer, identity };
        let bytes = [greeting().as_slice(), &ready.to_frame(), &rest].concat();
        let mut opening = Opening::new();
        let mut left = Vec::new();
        let mut read = None;
        for chunk in bytes.chunks(cut) {
            let mut chunk = chunk;
            if read.is_none() {
                read = opening.handle_bytes(&mut chunk).unwrap();
            }
            left.extend_from_slice(chunk);
        }
        prop_assert_eq!(read, Some(ready));
        prop_assert_eq!(left, rest);
    }

    #[test]
    fn random_bytes_never_panic_the_opening(bytes in vec(any::<u8>(), 0..400)) {
        let _ = open(&bytes);
        let _ = open(&[greeting().as_slice(), &bytes].concat());
        let _ = Ready::from_body(&[READY_NAME, &bytes].concat());
    }
}
