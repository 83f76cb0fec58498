//! Whatever is read as a message is written and read again as the same one.
#![no_main]

use drover_proto::{
    codec,
    message::{FromMaster, FromMinion},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    if let Ok(message) = codec::decode::<FromMinion>(frame) {
        let again = codec::encode(&message).expect("what was read can be written");
        assert_eq!(codec::decode::<FromMinion>(&again).expect("and read"), message);
    }
    if let Ok(message) = codec::decode::<FromMaster>(frame) {
        let again = codec::encode(&message).expect("what was read can be written");
        assert_eq!(codec::decode::<FromMaster>(&again).expect("and read"), message);
    }
});
