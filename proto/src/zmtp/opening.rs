//! The opening of a ZMTP connection: a greeting, then READY, read from whatever chunks arrive.

use super::{COMMAND, GREETING_LENGTH, LONG, MORE, READY_LIMIT, Ready, Violation};

/// Reads a peer's greeting and READY. Holds at most one READY's bytes, and those only until it is read.
#[derive(Debug)]
pub struct Opening {
    state: State,
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Greeting,
    Header,
    Body { length: usize },
}

impl Opening {
    /// An opening of which nothing has been read.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Greeting, held: Vec::new() }
    }

    /// Whether the greeting has been read in full.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        !matches!(self.state, State::Greeting)
    }

    /// Takes bytes from the front of `bytes` up to the end of the greeting, and no further.
    ///
    /// # Errors
    /// The first rule of ZMTP 3.0 that the bytes break.
    pub fn handle_greeting(&mut self, bytes: &mut &[u8]) -> Result<(), Violation> {
        if matches!(self.state, State::Greeting) {
            let complete = self.take(bytes, GREETING_LENGTH);
            check_greeting(&self.held)?;
            if complete {
                self.next(State::Header);
            }
        }
        Ok(())
    }

    /// Takes bytes from the front of `bytes`, leaves those after READY there, and returns READY once
    /// it is complete.
    ///
    /// # Errors
    /// The first rule of ZMTP 3.0 that the bytes break.
    pub fn handle_bytes(&mut self, bytes: &mut &[u8]) -> Result<Option<Ready>, Violation> {
        loop {
            match self.state {
                State::Greeting => {
                    self.handle_greeting(bytes)?;
                    if matches!(self.state, State::Greeting) {
                        return Ok(None);
                    }
                }
                State::Header => {
                    let wanted = match self.held.first() {
                        Some(flags) if flags & LONG != 0 => 9,
                        _ => 2,
                    };
                    let complete = self.take(bytes, wanted);
                    if let Some(&flags) = self.held.first() {
                        check_flags(flags)?;
                        if flags & LONG != 0 && wanted == 2 {
                            continue;
                        }
                    }
                    if !complete {
                        return Ok(None);
                    }
                    let length = body_length(&self.held[1..])?;
                    self.next(State::Body { length });
                }
                State::Body { length } => {
                    if !self.take(bytes, length) {
                        return Ok(None);
                    }
                    let ready = Ready::from_body(&self.held)?;
                    self.held = Vec::new();
                    return Ok(Some(ready));
                }
            }
        }
    }

    fn next(&mut self, state: State) {
        self.held.clear();
        self.state = state;
    }

    /// Moves bytes over until `wanted` are held; says whether they are.
    fn take(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(taken);
        *bytes = rest;
        self.held.len() >= wanted
    }
}

impl Default for Opening {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks as much of a greeting as there is, so that a peer of another protocol is cut at once.
fn check_greeting(held: &[u8]) -> Result<(), Violation> {
    let wrong = |at: usize, wanted: u8| held.get(at).is_some_and(|&byte| byte != wanted);
    if wrong(0, 0xff) || wrong(9, 0x7f) {
        return Err(Violation::Signature);
    }
    if let Some(&major) = held.get(10)
        && major < 3
    {
        return Err(Violation::Version(major));
    }
    let mechanism = super::greeting();
    if (12..32).any(|at| wrong(at, mechanism[at])) {
        return Err(Violation::Mechanism);
    }
    Ok(())
}

fn check_flags(flags: u8) -> Result<(), Violation> {
    if flags & !(MORE | LONG | COMMAND) != 0 || flags & (COMMAND | MORE) == COMMAND | MORE {
        return Err(Violation::Flags(flags));
    }
    if flags & COMMAND == 0 {
        return Err(Violation::Ready("a message before it"));
    }
    Ok(())
}

fn body_length(field: &[u8]) -> Result<usize, Violation> {
    let claimed = field.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    match usize::try_from(claimed) {
        Ok(length) if length <= READY_LIMIT => Ok(length),
        _ => Err(Violation::FrameTooLong { claimed, limit: READY_LIMIT as u64 }),
    }
}
