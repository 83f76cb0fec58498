//! The frame guard: checks the headers of ZMTP traffic after READY, and holds nothing but a header.
//!
//! The `zeromq` crate reserves whatever a header claims, so no header reaches it before the guard
//! has passed all of it.

use super::{COMMAND, LONG, MORE, Violation};

/// What one message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// The longest frame, in bytes.
    pub frame: u64,
    /// The longest message, all its frames together, in bytes.
    pub message: u64,
    /// The most frames in one message.
    pub frames: u32,
}

/// 1 MiB.
const FRAME: u64 = 1 << 20;

impl FrameLimits {
    /// Between a minion and its master: each message is one frame of at most 1 MiB.
    #[must_use]
    pub const fn tunnel() -> Self {
        Self { frame: FRAME, message: FRAME, frames: 1 }
    }

    /// On a local bus: a tag, then an event.
    #[must_use]
    pub const fn bus() -> Self {
        Self { frame: FRAME, message: FRAME + 4096, frames: 2 }
    }

    /// What a subscriber sends: one byte and a prefix of tags.
    #[must_use]
    pub const fn subscription() -> Self {
        Self { frame: 1024, message: 1024, frames: 1 }
    }
}

/// What [`FrameGuard::check_part`] passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How many bytes from the front were checked; they may be forwarded.
    pub length: usize,
    /// Whether a message ends with them.
    pub ends_message: bool,
}

/// Checks a stream of frames as it passes by.
#[derive(Debug)]
pub struct FrameGuard {
    limits: FrameLimits,
    state: State,
    /// Bytes that the frames of the present message have claimed so far.
    message: u64,
    frames: u32,
}

#[derive(Debug)]
enum State {
    Header { held: [u8; 9], length: u8 },
    Body { left: u64, more: bool },
}

const START: State = State::Header { held: [0; 9], length: 0 };

impl FrameGuard {
    /// A guard before the first frame after READY.
    #[must_use]
    pub const fn new(limits: FrameLimits) -> Self {
        Self { limits, state: START, message: 0, frames: 0 }
    }

    /// Whether the bytes so far end with a whole message.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.frames == 0 && matches!(self.state, State::Header { length: 0, .. })
    }

    /// Checks all of `bytes` and returns how many messages ended in them.
    ///
    /// # Errors
    /// The first rule that the bytes break; the guard is of no use afterwards.
    pub fn check(&mut self, mut bytes: &[u8]) -> Result<usize, Violation> {
        let mut messages = 0;
        while !bytes.is_empty() {
            let part = self.check_part(bytes)?;
            bytes = &bytes[part.length..];
            messages += usize::from(part.ends_message);
        }
        Ok(messages)
    }

    /// Checks up to the end of the present message, or of `bytes`.
    ///
    /// # Errors
    /// The first rule that the bytes break; the guard is of no use afterwards.
    pub fn check_part(&mut self, bytes: &[u8]) -> Result<Part, Violation> {
        let mut position = 0;
        while position < bytes.len() {
            let ended = match &mut self.state {
                State::Header { held, length } => {
                    held[usize::from(*length)] = bytes[position];
                    *length += 1;
                    position += 1;
                    let (held, length) = (*held, usize::from(*length));
                    self.handle_header(&held[..length])?
                }
                State::Body { left, more } => {
                    let here = (bytes.len() - position) as u64;
                    let taken = here.min(*left);
                    *left -= taken;
                    position += taken as usize;
                    let (left, more) = (*left, *more);
                    left == 0 && self.end_frame(more)
                }
            };
            if ended {
                return Ok(Part { length: position, ends_message: true });
            }
        }
        Ok(Part { length: position, ends_message: false })
    }

    /// Looks at the header as far as it is there; says whether a message ended with it.
    fn handle_header(&mut self, held: &[u8]) -> Result<bool, Violation> {
        let flags = held[0];
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(Violation::Flags(flags));
        }
        if flags & COMMAND != 0 {
            return Err(Violation::Command);
        }
        let wanted = if flags & LONG == 0 { 2 } else { 9 };
        if held.len() < wanted {
            return Ok(false);
        }
        let claimed = held[1..].iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        self.begin_frame(claimed)?;
        let more = flags & MORE != 0;
        if claimed == 0 {
            return Ok(self.end_frame(more));
        }
        self.state = State::Body { left: claimed, more };
        Ok(false)
    }

    fn begin_frame(&mut self, claimed: u64) -> Result<(), Violation> {
        if claimed > self.limits.frame {
            return Err(Violation::FrameTooLong { claimed, limit: self.limits.frame });
        }
        self.message = self.message.saturating_add(claimed);
        if self.message > self.limits.message {
            let (claimed, limit) = (self.message, self.limits.message);
            return Err(Violation::MessageTooLong { claimed, limit });
        }
        self.frames += 1;
        if self.frames > self.limits.frames {
            return Err(Violation::TooManyFrames(self.limits.frames));
        }
        Ok(())
    }

    fn end_frame(&mut self, more: bool) -> bool {
        self.state = START;
        if !more {
            self.message = 0;
            self.frames = 0;
        }
        !more
    }
}
