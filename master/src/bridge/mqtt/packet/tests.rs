use super::*;

fn read_all(bytes: &[u8], version: Version) -> Result<Option<Packet>, MalformedError> {
    read(&mut BytesMut::from(bytes), version, 1 << 20)
}

#[test]
fn what_we_publish_ourselves_is_not_subscribed_to() {
    let options = |version, filter| {
        let mut out = Vec::new();
        write_subscribe(version, 1, [(filter, Qos::AtLeastOnce)].into_iter(), &mut out);
        out.last().copied()
    };
    assert_eq!(options(Version::V5, "site/#"), Some(0b101));
    assert_eq!(options(Version::V5, "$share/a/site/#"), Some(1), "there it is an error");
    assert_eq!(options(Version::V3, "site/#"), Some(1));
}

#[test]
fn packets_of_a_broker_are_read() {
    let v3 = |bytes: &[u8]| read_all(bytes, Version::V3).unwrap().unwrap();
    let v5 = |bytes: &[u8]| read_all(bytes, Version::V5).unwrap().unwrap();
    let none = Properties::default;
    assert_eq!(v3(&[0x20, 2, 0, 5]), Packet::Connack { code: 5, properties: none() });
    // Mosquitto's: topic alias maximum 10, receive maximum 20.
    let properties = Properties { receive_maximum: Some(20), ..none() };
    assert_eq!(
        v5(&[0x20, 9, 0, 0, 6, 34, 0, 10, 33, 0, 20]),
        Packet::Connack { code: 0, properties }
    );
    assert_eq!(v3(&[0x40, 2, 1, 2]), Packet::Puback { id: 258, code: 0, reason: None });
    assert_eq!(v5(&[0x40, 3, 0, 2, 0x10]), Packet::Puback { id: 2, code: 16, reason: None });
    assert_eq!(
        v5(&[0x40, 8, 0, 2, 0x97, 4, 31, 0, 1, b'q']),
        Packet::Puback { id: 2, code: 0x97, reason: Some("q".into()) }
    );
    assert_eq!(v3(&[0x90, 4, 0, 1, 1, 0x80]), Packet::Suback { codes: vec![1, 0x80] });
    assert_eq!(v5(&[0xe0, 1, 0x8b]), Packet::Disconnect { code: 0x8b, reason: None });
    assert_eq!(
        v5(&[0x33, 9, 0, 3, b'a', b'/', b'b', 0, 7, 0, b'x']),
        Packet::Publish {
            id: Some(7),
            topic: "a/b".into(),
            payload: b"x".to_vec(),
            is_retained: true
        }
    );
}

#[test]
fn a_packet_is_read_once_it_is_whole() {
    let mut bytes = BytesMut::from(&[0x40_u8, 2, 1][..]);
    assert_eq!(read(&mut bytes, Version::V3, 100), Ok(None));
    bytes.extend_from_slice(&[2, 0xd0]);
    assert!(matches!(read(&mut bytes, Version::V3, 100), Ok(Some(Packet::Puback { .. }))));
    assert_eq!(read(&mut bytes, Version::V3, 100), Ok(None));
    bytes.extend_from_slice(&[0]);
    assert_eq!(read(&mut bytes, Version::V3, 100), Ok(Some(Packet::Pingresp)));
}

#[test]
fn what_is_no_packet_is_refused() {
    for (bytes, wrong) in [
        (&[0x30, 0x80, 0x80, 0x80, 0x80, 1][..], MalformedError::Length),
        (&[0x40, 0xff, 0xff, 0x7f], MalformedError::TooLarge(2_097_155)),
        (&[0x10, 0], MalformedError::Unexpected(1)),
        (&[0x40, 1, 0], MalformedError::Content(4)),
        (&[0x40, 2, 0, 0], MalformedError::Content(4)),
        (&[0x20, 3, 0, 0, 0], MalformedError::Content(2)),
        (&[0x36, 5, 0, 1, b'a', 0, 1], MalformedError::Content(3)),
        (&[0x30, 4, 0, 9, b'a', b'b'], MalformedError::Content(3)),
    ] {
        assert_eq!(read_all(bytes, Version::V3), Err(wrong), "{bytes:?}");
    }
    assert_eq!(read_all(&[0xe0, 1, 0], Version::V3), Err(MalformedError::Unexpected(14)));
}

#[test]
fn of_a_message_that_is_too_large_the_beginning_is_read() {
    let beginning = [0x32, 0xff, 0xff, 0x7f, 0, 3, b'a', b'/', b'b', 0, 7, b'x', b'x'];
    for cut in 1..11 {
        assert_eq!(read_all(&beginning[..cut], Version::V3), Ok(None), "{cut}");
    }
    let mut bytes = BytesMut::from(&beginning[..]);
    let size = 2_097_151 + 4;
    assert_eq!(
        read(&mut bytes, Version::V3, 100),
        Ok(Some(Packet::TooLarge {
            id: Some(7),
            topic: "a/b".into(),
            size,
            rest: size - beginning.len()
        }))
    );
    assert!(bytes.is_empty());
    let longer_than_itself = [0x30, 0xff, 0x01, 0xff, 0xff];
    let read = read(&mut BytesMut::from(&longer_than_itself[..]), Version::V3, 100);
    assert_eq!(read, Err(MalformedError::Content(3)));
}

#[test]
fn a_message_is_as_long_as_it_says() {
    for (topic, length) in [("a", 0), ("a/b", 125), ("a", 20_000), ("a", 3_000_000)] {
        for version in [Version::V3, Version::V5] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
                let payload = vec![b'x'; length];
                let topic = topic.to_owned();
                let message = Message { topic, payload, qos, is_retained: true, is_again: false };
                let mut out = Vec::new();
                message.write(version, 9, &mut out);
                assert_eq!(out.len(), message.size(version));
                let mut bytes = BytesMut::from(&out[..]);
                let Ok(Some(Packet::Publish { payload, .. })) = read(&mut bytes, version, 1 << 28)
                else {
                    panic!("a message")
                };
                assert_eq!(payload.len(), length);
            }
        }
    }
}
