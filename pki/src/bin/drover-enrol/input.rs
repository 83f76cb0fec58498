//! Signals, and lines from standard input in one queue with them: a person is waited for, and Ctrl-C is heard
//! meanwhile.

use std::ffi::c_int;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// No scan is longer; what is more of a line is left out, and then it is too long to be one.
const LONGEST: usize = 4096;

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A line, perhaps cut.
    Line(Vec<u8>),
    /// The end of the input, or Ctrl-C.
    End,
    /// The input cannot be read.
    Failed(io::Error),
}

/// What asks the program to end.
const STOPS: [c_int; 2] = [SIGINT, SIGTERM];

/// Set by Ctrl-C and by SIGTERM. A second one ends at once, which is as harmless as a power cut: a card
/// may never answer.
pub(crate) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in STOPS {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Starts to listen.
pub(crate) fn listen() -> io::Result<Receiver<Input>> {
    let (sender, receiver) = sync_channel(1);
    let _ = stop_flag()?;
    let mut signals = Signals::new(STOPS)?;
    let on_signal = sender.clone();
    thread::spawn(move || {
        // One is enough: the device at hand is finished, and no other begun.
        if signals.forever().next().is_some() {
            let _ = on_signal.send(Input::End);
        }
    });
    thread::spawn(move || read(&mut io::stdin().lock(), &sender));
    Ok(receiver)
}

fn read(input: &mut impl BufRead, sender: &SyncSender<Input>) {
    loop {
        let next = match read_line(input) {
            Ok(Some(line)) => Input::Line(line),
            Ok(None) => Input::End,
            Err(error) => Input::Failed(error),
        };
        let is_last = matches!(next, Input::End | Input::Failed(_));
        // Nobody listens any more: the program ends.
        if sender.send(next).is_err() || is_last {
            return;
        }
    }
}

/// A line of bytes without its end; none at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut is_end = true;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok((!is_end).then_some(line));
        }
        is_end = false;
        let (length, whole) = match available.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (available.len(), false),
        };
        let room = LONGEST.saturating_sub(line.len()).min(length);
        line.extend_from_slice(&available[..room]);
        input.consume(length);
        if whole {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut text: &[u8]) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| read_line(&mut text).unwrap()).collect()
    }

    #[test]
    fn lines_are_read_to_the_last_also_without_an_end() {
        assert_eq!(lines(b"a\n\nb\r\n\xffc"), [&b"a\n"[..], b"\n", b"b\r\n", b"\xffc"]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_without_bound_takes_no_memory_without_bound() {
        let text = [vec![b'x'; 10 * LONGEST], b"\nSN1\n".to_vec()].concat();
        let read = lines(&text);
        assert_eq!((read.len(), read[0].len(), &read[1][..]), (2, LONGEST, &b"SN1\n"[..]));
    }
}
