//! Whatever a broker sends: it is refused, or read as packets that take what they say, whole or cut.
#![no_main]

use bytes::BytesMut;
use drover_master::bridge::{MqttVersion, read_mqtt_packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let mut whole = BytesMut::from(bytes);
        let mut packets = Vec::new();
        while let Ok(Some(packet)) = read_mqtt_packet(&mut whole, version, 1 << 20) {
            packets.push(packet);
        }
        let (mut cut, mut again) = (BytesMut::new(), Vec::new());
        'bytes: for byte in bytes {
            cut.extend_from_slice(&[*byte]);
            loop {
                match read_mqtt_packet(&mut cut, version, 1 << 20) {
                    Ok(Some(packet)) => again.push(packet),
                    Ok(None) => break,
                    Err(_) => break 'bytes,
                }
            }
        }
        assert_eq!(packets, again);
    }
});
