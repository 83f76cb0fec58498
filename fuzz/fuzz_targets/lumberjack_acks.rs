//! Whatever a server answers to a window: it is refused, or acknowledges no more than was sent, however it is cut.
#![no_main]

use drover_master::bridge::LumberjackAcks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (sent, bytes) = input;
    let (mut whole, mut cut) = (LumberjackAcks::default(), LumberjackAcks::default());
    whole.begin(sent.into());
    cut.begin(sent.into());
    let taken = whole.handle_bytes(bytes);
    assert!(whole.acked() <= usize::from(sent));
    let pieces = bytes.iter().try_for_each(|byte| cut.handle_bytes(&[*byte]));
    assert_eq!((taken, whole.acked()), (pieces, cut.acked()));
});
