//! What a program says on its standard output of the events that it was given: `123`, everything up to and including
//! that one, or `{"seq": 123, "refused": "reason"}`. A machine; [`super::child`] is its shell.

use serde::Deserialize;
use thiserror::Error;

use crate::bridge::sink::Verdict;

/// The longest line of an answer.
pub(super) const LONGEST_LINE: usize = 64 << 10;
/// As much of a line is shown.
const SHOWN: usize = 80;

/// What a program may not do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ViolationError {
    /// A line that is no answer.
    #[error("the program printed `{0}`, which acknowledges nothing")]
    Garbage(String),
    /// A line that does not end.
    #[error("the program printed a line of more than {LONGEST_LINE} bytes")]
    Endless,
    /// It has what nobody gave it.
    #[error("the program acknowledged event {0}, which it was not sent")]
    NotSent(u64),
}

/// `{"seq": 123}` is as good as `123`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    seq: u64,
    refused: Option<String>,
}

#[derive(Debug)]
struct Sent {
    seq: u64,
    /// Where its line ends in what is written.
    end: usize,
    verdict: Option<Verdict>,
}

/// The events that a program was given, and what it said of each.
#[derive(Debug, Default)]
pub struct Acks {
    /// By number.
    sent: Vec<Sent>,
    /// So many from the first are answered.
    answered: usize,
    written: usize,
    /// The last event that it acknowledged of those before.
    before: u64,
    line: Vec<u8>,
}

impl Acks {
    /// Begins a batch, by number: each event's number, and where its line ends in the bytes that will be written.
    pub fn begin(&mut self, lines: impl IntoIterator<Item = (u64, usize)>) {
        debug_assert!(self.is_complete(), "the batch before is answered");
        let last = self.sent.last().map_or(0, |sent| sent.seq);
        self.before = self.before.max(last);
        self.written = 0;
        self.answered = 0;
        self.sent = lines.into_iter().map(|(seq, end)| Sent { seq, end, verdict: None }).collect();
        debug_assert!(self.sent.is_sorted_by_key(|sent| sent.seq), "by number");
    }

    /// So many bytes more have gone.
    pub const fn handle_written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Takes what the program printed; whether it answered anything.
    ///
    /// # Errors
    /// When it printed something else, or of events that it cannot have. It is of no more use.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, ViolationError> {
        let mut is_answered = false;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            is_answered |= self.handle_line()?;
            self.line.clear();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LONGEST_LINE {
            return Err(ViolationError::Endless);
        }
        Ok(is_answered)
    }

    fn handle_line(&mut self) -> Result<bool, ViolationError> {
        if self.line.len() > LONGEST_LINE {
            return Err(ViolationError::Endless);
        }
        let line = self.line.trim_ascii();
        if line.is_empty() {
            return Ok(false);
        }
        let garbage = || {
            let line = String::from_utf8_lossy(line);
            let shown: String = line.chars().take(SHOWN).collect();
            ViolationError::Garbage(shown.escape_debug().to_string())
        };
        let answer: Answer = match serde_json::from_slice::<u64>(line) {
            Ok(seq) => Answer { seq, refused: None },
            Err(_) => serde_json::from_slice(line).map_err(|_| garbage())?,
        };
        match answer.refused {
            Some(reason) => self.handle_refusal(answer.seq, reason),
            None => self.handle_ack(answer.seq),
        }
    }

    fn handle_ack(&mut self, seq: u64) -> Result<bool, ViolationError> {
        let Some(place) = self.place(seq)? else { return Ok(false) };
        let mut is_answered = false;
        while self.answered <= place {
            let verdict = &mut self.sent[self.answered].verdict;
            is_answered |= verdict.is_none();
            verdict.get_or_insert(Verdict::Done);
            self.answered += 1;
        }
        Ok(is_answered)
    }

    fn handle_refusal(&mut self, seq: u64, reason: String) -> Result<bool, ViolationError> {
        let Some(place) = self.place(seq)? else { return Ok(false) };
        let verdict = &mut self.sent[place].verdict;
        let is_answered = verdict.is_none();
        verdict.get_or_insert(Verdict::Refused(reason));
        Ok(is_answered)
    }

    /// Where an event stands in the batch; none for one of an earlier batch, said once more.
    fn place(&self, seq: u64) -> Result<Option<usize>, ViolationError> {
        match self.sent.binary_search_by_key(&seq, |sent| sent.seq) {
            Ok(place) if self.sent[place].end <= self.written => Ok(Some(place)),
            Err(_) if seq <= self.before => Ok(None),
            Ok(_) | Err(_) => Err(ViolationError::NotSent(seq)),
        }
    }

    /// Whether each event is answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent.iter().all(|sent| sent.verdict.is_some())
    }

    /// Whether any is.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.sent.iter().any(|sent| sent.verdict.is_some())
    }

    /// How many are not.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.sent.iter().filter(|sent| sent.verdict.is_none()).count()
    }

    /// What it said of an event of this batch; none where it said nothing yet.
    #[must_use]
    pub fn verdict(&self, seq: u64) -> Option<&Verdict> {
        let place = self.sent.binary_search_by_key(&seq, |sent| sent.seq).ok()?;
        self.sent[place].verdict.as_ref()
    }

    /// Whether these events are all that is not answered, among others.
    #[must_use]
    pub fn awaits_only(&self, seqs: &[u64]) -> bool {
        let mut open = self.sent.iter().filter(|sent| sent.verdict.is_none());
        open.all(|sent| seqs.contains(&sent.seq))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A batch whose lines have ten bytes each, all written.
    fn given(seqs: &[u64]) -> Acks {
        let mut acks = Acks::default();
        acks.begin((1..).zip(seqs).map(|(line, seq)| (*seq, line * 10)));
        acks.handle_written(seqs.len() * 10);
        acks
    }

    fn refused(reason: &str) -> Verdict {
        Verdict::Refused(reason.into())
    }

    #[test]
    fn a_number_acknowledges_all_up_to_it_but_what_was_refused() {
        let mut acks = given(&[5, 9, 10, 12]);
        assert_eq!(acks.handle_bytes(b"{\"seq\":9,\"refused\":\"no\"}\n"), Ok(true));
        assert_eq!(acks.outstanding(), 3);
        assert_eq!(acks.handle_bytes(b"1"), Ok(false));
        assert_eq!(acks.handle_bytes(b"0\n\n"), Ok(true));
        assert_eq!(acks.verdict(5), Some(&Verdict::Done));
        assert_eq!(acks.verdict(9), Some(&refused("no")));
        assert!(!acks.is_complete() && acks.awaits_only(&[12, 13]) && !acks.awaits_only(&[13]));
        assert_eq!(acks.handle_bytes(b"10\r\n{\"seq\": 12}\n"), Ok(true));
        assert!(acks.is_complete());
    }

    #[test]
    fn what_was_not_sent_cannot_be_acknowledged() {
        assert_eq!(given(&[5, 9]).handle_bytes(b"7\n"), Err(ViolationError::NotSent(7)));
        assert_eq!(given(&[5, 9]).handle_bytes(b"10\n"), Err(ViolationError::NotSent(10)));
        let mut acks = Acks::default();
        acks.begin([(5, 10), (9, 20)]);
        acks.handle_written(19);
        assert_eq!(acks.handle_bytes(b"5\n"), Ok(true));
        // The last byte of its line has not gone.
        assert_eq!(acks.handle_bytes(b"9\n"), Err(ViolationError::NotSent(9)));
    }

    #[test]
    fn an_earlier_batch_may_be_acknowledged_once_more() {
        let mut acks = given(&[5]);
        assert_eq!(acks.handle_bytes(b"5\n"), Ok(true));
        acks.begin([(6, 10)]);
        acks.handle_written(10);
        assert_eq!(acks.handle_bytes(b"5\n"), Ok(false));
        assert_eq!(acks.handle_bytes(b"6\n"), Ok(true));
    }

    #[test]
    fn garbage_is_shown_and_a_flood_is_bounded() {
        for (line, shown) in
            [("done\n", "done"), ("-1\n", "-1"), ("{\"ack\":5}\n", "{\\\"ack\\\":5}")]
        {
            let error = given(&[5]).handle_bytes(line.as_bytes());
            assert_eq!(error, Err(ViolationError::Garbage(shown.into())));
        }
        let flood = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(given(&[5]).handle_bytes(&flood), Err(ViolationError::Endless));
        let garbage = given(&[5]).handle_bytes(b"\xff\x1b[31mred\n").unwrap_err();
        assert_eq!(
            garbage.to_string(),
            "the program printed `\u{fffd}\\u{1b}[31mred`, which acknowledges nothing"
        );
    }

    proptest! {
        #[test]
        fn no_output_acknowledges_what_was_not_written(
            output in "[0-9\\n{}\":a-z,]{0,40}", written in 0usize..40,
        ) {
            let mut acks = Acks::default();
            acks.begin((1..=4).map(|seq| (seq, seq as usize * 10)));
            acks.handle_written(written);
            let _ = acks.handle_bytes(output.as_bytes());
            for seq in 1..=4u64 {
                prop_assert!(acks.verdict(seq).is_none() || seq as usize * 10 <= written);
            }
        }
    }
}
