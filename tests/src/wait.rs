//! Waiting for a condition, with a bound: the harness's only way to let time pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `bound`: with `what` and what `state` then says.
#[expect(clippy::disallowed_methods, reason = "the harness watches real processes in real time")]
pub fn until_some<T>(
    what: &str,
    bound: Duration,
    mut answer: impl FnMut() -> Option<T>,
    state: impl Fn() -> String,
) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {bound:?}\n{}", state());
        thread::sleep(Duration::from_millis(25));
    }
}

/// Asks until it is so.
///
/// # Panics
/// When it is not so within `bound`.
pub fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
    until_some(what, bound, || holds().then_some(()), String::new);
}
