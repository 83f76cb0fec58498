//! Whatever a server answers to a bulk request: it is none, or says of each event what becomes of it, in one line.
#![no_main]

use drover_master::bridge::{Verdict, bulk_verdicts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The number of documents is ours; the server's is in what it says.
    let Some((sent, answer)) = data.split_first() else { return };
    let Ok(verdicts) = bulk_verdicts(answer, usize::from(*sent)) else { return };
    assert_eq!(verdicts.len(), usize::from(*sent));
    for verdict in verdicts {
        match verdict {
            Verdict::Done => {}
            Verdict::Later(reason) | Verdict::Refused(reason) => {
                assert!(!reason.contains(char::is_control), "{reason:?}");
            }
        }
    }
});
