//! Whatever a broker sends: it is refused, or read as packets that take what they say, whole or cut.
#![no_main]

use bytes::BytesMut;
use drover_master::bridge::{MqttPacket, MqttVersion, read_mqtt_packet};
use libfuzzer_sys::fuzz_target;

/// How much of what is too large is still to come depends on how much was there; what follows is part of it.
fn end(packet: &mut MqttPacket) -> bool {
    match packet {
        MqttPacket::TooLarge { rest, .. } => {
            *rest = 0;
            true
        }
        _ => false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let mut whole = BytesMut::from(bytes);
        let mut packets = Vec::new();
        while let Ok(Some(mut packet)) = read_mqtt_packet(&mut whole, version, 1 << 20) {
            let is_end = end(&mut packet);
            packets.push(packet);
            if is_end {
                break;
            }
        }
        let (mut cut, mut again) = (BytesMut::new(), Vec::new());
        'bytes: for byte in bytes {
            cut.extend_from_slice(&[*byte]);
            loop {
                match read_mqtt_packet(&mut cut, version, 1 << 20) {
                    Ok(Some(mut packet)) => {
                        let is_end = end(&mut packet);
                        again.push(packet);
                        if is_end {
                            break 'bytes;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => break 'bytes,
                }
            }
        }
        assert_eq!(packets, again);
    }
});
