//! Whatever a bridge's program prints: it is refused, or answers for events that it was given whole.
#![no_main]

use drover_master::bridge::ExecAcks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (written, bytes) = input;
    let mut acks = ExecAcks::default();
    acks.begin((1..=9).map(|seq| (seq, seq as usize * 20)));
    acks.handle_written(written.into());
    if let Err(error) = acks.handle_bytes(bytes) {
        assert!(!error.to_string().contains(char::is_control));
    }
    for seq in 1..=9u64 {
        assert!(acks.verdict(seq).is_none() || seq as usize * 20 <= usize::from(written));
    }
});
