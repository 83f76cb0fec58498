//! What a program writes to its standard error, in the master's log: with the bridge's name, line by line, and never more
//! than a person could read.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt, process::ChildStderr};
use tracing::warn;

use crate::clock::Now;

/// Lines that are logged in a period; what is beyond is counted.
const MOST_LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);
/// What is logged of a line, in bytes.
const LONGEST_LINE: usize = 1024;

/// Which lines are logged. A machine.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    period: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl Lines {
    /// Takes bytes, and returns what is to be logged.
    fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < LONGEST_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            told.extend(self.handle_line(&line, now));
        }
        told
    }

    fn handle_line(&mut self, line: &[u8], now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        if self.period.is_none_or(|began| now >= began + PERIOD) {
            self.period = Some(now);
            self.logged = 0;
            if self.left_out > 0 {
                told.push(format!("{} lines were left out", self.left_out));
                self.left_out = 0;
            }
        }
        let text = String::from_utf8_lossy(line.trim_ascii());
        if self.logged < MOST_LINES {
            self.logged += 1;
            told.push(text.chars().flat_map(char::escape_debug).collect());
        } else {
            self.left_out += 1;
        }
        told
    }

    /// What is left at the end.
    fn handle_end(&mut self, now: Instant) -> Vec<String> {
        let line = std::mem::take(&mut self.line);
        let mut told = if line.is_empty() { Vec::new() } else { self.handle_line(&line, now) };
        if self.left_out > 0 {
            told.push(format!("{} lines were left out", self.left_out));
        }
        told
    }
}

/// Logs until the program closes it.
pub(super) async fn log(bridge: String, mut stderr: ChildStderr) {
    let mut lines = Lines::default();
    let mut bytes = [0; 4096];
    loop {
        let (told, is_over) = match stderr.read(&mut bytes).await {
            Ok(count @ 1..) => (lines.handle_bytes(&bytes[..count], Now::read().instant), false),
            Ok(0) | Err(_) => (lines.handle_end(Now::read().instant), true),
        };
        for line in told {
            warn!(bridge, "the program says: {line}");
        }
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let (mut lines, start) = (Lines::default(), Now::read().instant);
        let told = lines.handle_bytes(&b"one\n".repeat(100), start);
        assert_eq!(told.len(), 20);
        assert_eq!(lines.handle_bytes(b"tw", start + PERIOD), Vec::<String>::new());
        let told = lines.handle_bytes(b"o\n", start + PERIOD);
        assert_eq!(told, ["80 lines were left out", "two"]);
    }

    #[test]
    fn a_line_cannot_move_the_cursor_nor_go_on_for_ever() {
        let (mut lines, start) = (Lines::default(), Now::read().instant);
        assert_eq!(lines.handle_bytes(b"\x1b[2Jred\xff\r\n", start), ["\\u{1b}[2Jred\u{fffd}"]);
        lines.handle_bytes(&b"x".repeat(1 << 20), start);
        let told = lines.handle_end(start);
        assert_eq!(told[0].len(), LONGEST_LINE);
    }
}
