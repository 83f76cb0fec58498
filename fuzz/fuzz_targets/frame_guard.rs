//! Whatever a peer sends as ZMTP: the verdict does not depend on how the bytes are cut, and what
//! passes the guard is what a plain reading of RFC 23 allows.
#![no_main]

use drover_proto::zmtp::{FrameGuard, FrameLimits, Opening, Ready, Violation};
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits { frame: 64, message: 96, frames: 3 };

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let cut = usize::from(cut).max(1);

    let whole = FrameGuard::new(LIMITS).check(data);
    let mut guard = FrameGuard::new(LIMITS);
    let pieces = data.chunks(cut).try_fold(0, |sum, chunk| Ok(sum + guard.check(chunk)?));
    assert_eq!(whole, pieces);
    match &whole {
        Ok(messages) => assert_eq!(plain_reading(data), Some(*messages)),
        Err(Violation::Flags(_) | Violation::Command) => {}
        Err(_) => assert_eq!(plain_reading(data), None),
    }

    let mut rest = data;
    let whole = Opening::new().handle_bytes(&mut rest);
    let mut opening = Opening::new();
    let mut read = Ok(None);
    for mut chunk in data.chunks(cut) {
        if matches!(read, Ok(None)) {
            read = opening.handle_bytes(&mut chunk);
        }
    }
    assert_eq!(whole, read);
    if let Ok(ready) = Ready::from_body(data) {
        let frame = ready.to_frame();
        let header = if frame[0] & 0b010 == 0 { 2 } else { 9 };
        assert_eq!(Ready::from_body(&frame[header..]), Ok(ready));
    }
});

/// The messages in `data`, read with no thought of chunks; `None` where a limit or a rule is broken.
fn plain_reading(mut data: &[u8]) -> Option<usize> {
    let (mut messages, mut frames, mut bytes) = (0, 0, 0);
    while let Some((&flags, rest)) = data.split_first() {
        if flags > 0b011 {
            return None;
        }
        let length = if flags & 0b010 == 0 { 1 } else { 8 };
        let Some((length, rest)) = rest.split_at_checked(length) else { break };
        let length = length.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        frames += 1;
        bytes += length.min(LIMITS.message + 1);
        if length > LIMITS.frame || bytes > LIMITS.message || frames > LIMITS.frames {
            return None;
        }
        let Some((_, rest)) = rest.split_at_checked(length as usize) else { break };
        if flags & 0b001 == 0 {
            (messages, frames, bytes) = (messages + 1, 0, 0);
        }
        data = rest;
    }
    Some(messages)
}
