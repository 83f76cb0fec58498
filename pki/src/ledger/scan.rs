//! Reads a ledger from its first line to its last, and compares where it leads with its signed head.
//! Pure but for the reader that it is given.

use std::io::{self, BufRead};

use super::check::{Finding, HeadFault, Seen, diagnose};
use super::index::{Index, Skim, Span};
use super::line::Head;
use crate::fingerprint::LineDigest;

/// What a ledger holds, and whether it is as the station left it.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) index: Index,
    /// How far the good lines go.
    pub(super) head: Head,
    /// How many bytes they have.
    pub(super) length: u64,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// It verifies, but for what a power cut may have left.
    Whole(Leftover),
    /// It does not.
    Broken(Vec<Finding>),
}

/// What a power cut left of a line that was being appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftover {
    Nothing,
    /// Its signed head, and nothing of the line.
    Head,
    /// Its signed head, and a part of the line.
    HalfLine,
    /// Its signed head and all of it; the head did not take its place yet.
    Line,
}

/// What is wrong with a ledger's text that should lead to `signed`, and should have had each of the
/// `known` heads on the way: nothing, if and only if it is whole.
pub fn check(text: &[u8], signed: Head, known: &[Head]) -> Vec<Finding> {
    let scan = scan(&mut &text[..], Ok(signed), None, known);
    match scan.expect("invariant: text in memory can be read").state {
        State::Whole(_) => Vec::new(),
        State::Broken(findings) => findings,
    }
}

/// Reads it. `next` is the signed head of a line that was about to be appended, if there is one.
pub(super) fn scan(
    reader: &mut impl BufRead,
    signed: Result<Head, HeadFault>,
    next: Option<Head>,
    known: &[Head],
) -> io::Result<Scan> {
    let mut index = Index::default();
    let (mut head, mut length) = (Head::empty(), 0);
    let mut line = Vec::new();
    // From the first line on that does not follow, they are kept for the diagnosis.
    let mut good: Vec<Seen> = Vec::new();
    let mut rest: Vec<Seen> = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let half = line.pop_if(|byte| *byte == b'\n').is_none();
        if half {
            // Without its end it is no line, and has no line's digest.
            line.push(0);
        }
        let digest = LineDigest::of(&line);
        // As text: what is skipped in bytes need not be UTF-8, and other programs would not read it.
        let text = str::from_utf8(&line).ok();
        let skim = text.and_then(|text| serde_json::from_str::<Skim>(text).ok());
        let says = skim.as_ref().map(|skim| (skim.n, skim.previous));
        let seen = Seen { says, digest };
        match skim {
            Some(skim) if rest.is_empty() && says == Some((head.count + 1, head.head)) => {
                index.take(skim, Span { offset: length, length: line.len() });
                head = Head { count: head.count + 1, head: digest };
                length += read as u64;
                good.push(seen);
            }
            Some(_) | None => rest.push(seen),
        }
    }
    let state = match signed {
        Ok(signed) => judge(signed, next, head, &good, &rest, known),
        Err(fault) => State::Broken(vec![Finding::Head(fault)]),
    };
    Ok(Scan { index, head, length, state })
}

fn judge(
    signed: Head,
    next: Option<Head>,
    reached: Head,
    good: &[Seen],
    rest: &[Seen],
    known: &[Head],
) -> State {
    // A head for the line after the signed one is there only while that line is being appended.
    let next = next.filter(|next| next.count == signed.count + 1);
    let leftover = if next == Some(reached) && rest.is_empty() {
        Some(Leftover::Line)
    } else if reached != signed {
        None
    } else {
        match (next, rest) {
            (None, []) => Some(Leftover::Nothing),
            (Some(_), []) => Some(Leftover::Head),
            // Whatever is no line of a ledger is a part of the one that was signed for.
            (Some(_), [Seen { says: None, .. }]) => Some(Leftover::HalfLine),
            (Some(_) | None, _) => None,
        }
    };
    let has = |known: &Head| match usize::try_from(known.count) {
        Ok(0) => true,
        Ok(count) => good.get(count - 1).is_some_and(|line| line.digest == known.head),
        Err(_) => false,
    };
    match leftover {
        Some(leftover) if known.iter().all(has) => State::Whole(leftover),
        Some(_) | None => {
            let signed = if next == Some(reached) { reached } else { signed };
            State::Broken(diagnose(&[good, rest].concat(), signed, known))
        }
    }
}
