//! Whatever lies where a station's ledger should: it leads to its signed head, or something is found.
#![no_main]

use drover_pki::fingerprint::LineDigest;
use drover_pki::ledger::{Head, Line, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines: Vec<&[u8]> =
        data.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    let head = |count: usize| match lines[..count].last() {
        Some(line) => Head { count: count as u64, head: LineDigest::of(line) },
        None => Head::empty(),
    };
    // Signed for as it is: it is whole if its lines are lines that follow each other.
    let (whole, half) = (head(lines.len()), head(lines.len() / 2));
    let findings = check(data, whole, &[half]);
    if findings.is_empty() {
        assert!(lines.iter().all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()));
    }
    // Signed for as something else: that is always found.
    let other = Head { count: whole.count, head: LineDigest::of(b"another line") };
    assert!(whole.count == 0 || !check(data, other, &[]).is_empty());
    let longer = Head { count: whole.count + 1, head: whole.head };
    assert!(!check(data, longer, &[]).is_empty());
    assert!(half.count == whole.count || !check(data, half, &[]).is_empty());

    if let Ok(line) = serde_json::from_slice::<Line>(data) {
        let again = serde_json::to_vec(&line).expect("a line has a JSON form");
        assert_eq!(serde_json::from_slice::<Line>(&again).expect("a line"), line);
    }
});
