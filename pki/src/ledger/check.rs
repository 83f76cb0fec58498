//! What was done to a ledger that does not lead to its signed head: pure, from the lines that are
//! there and the heads that are known.

use std::collections::HashMap;
use std::fmt;

use super::line::Head;
use crate::fingerprint::LineDigest;

/// Something about a ledger that is not as the station left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Lines that are there, and are not the ones that were written.
    Changed(Lines),
    /// Lines that are not there, with later ones that are.
    Removed(Lines),
    /// Lines that are not there, with none after them.
    Cut(Lines),
    /// Lines of the file that the station did not write.
    Added(Lines),
    /// A line that stands in another line's place.
    Moved {
        /// Which line it is.
        line: u64,
        /// Where in the file it stands.
        place: u64,
    },
    /// The station made manifests that the ledger does not know: an older copy stands in its place.
    SetBack {
        /// The last of them.
        manifest: u64,
    },
    /// The station's copy of a manifest is not as it was signed.
    Manifest {
        /// The manifest's number.
        number: u64,
    },
    /// Its signed head cannot be used.
    Head(HeadFault),
}

/// One line, or several in a row; the first and the last are among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Why a ledger's signed head cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// There is none.
    Missing,
    /// It is not a head.
    Unreadable,
    /// The station's authority did not sign it.
    Forged,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(lines) => write!(f, "{lines} changed"),
            Self::Removed(lines) => write!(f, "{lines} taken out"),
            Self::Cut(lines) => write!(f, "{lines} cut off the end"),
            Self::Added(lines) => write!(f, "{lines} added: the station did not write that"),
            Self::Moved { line, place } => write!(f, "line {line} was moved: it stands as {place}"),
            Self::SetBack { manifest } => {
                write!(f, "it was set back: it does not know of manifest {manifest}")
            }
            Self::Manifest { number } => {
                write!(f, "the station's copy of manifest {number} was changed")
            }
            Self::Head(HeadFault::Missing) => f.write_str("its signed head is missing"),
            Self::Head(HeadFault::Unreadable) => f.write_str("its signed head cannot be read"),
            Self::Head(HeadFault::Forged) => {
                f.write_str("its head is not signed by the station's authority")
            }
        }
    }
}

/// `line 3 was`, `lines 3 to 5 were`.
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "line {} was", self.first)
        } else {
            write!(f, "lines {} to {} were", self.first, self.last)
        }
    }
}

/// A whole line of the file, as far as it can be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Which line it says to be, and what it says of the line before it.
    pub(super) says: Option<(u64, LineDigest)>,
    /// Its own digest.
    pub(super) digest: LineDigest,
}

/// Finds what is wrong. `signed` is how far the ledger should go; `known` are earlier heads that
/// the station signed, in its manifests. Nothing is found if and only if the lines are the ones
/// that lead to `signed`, in their order, and each known head is on the way.
///
/// From the signed head backward each line vouches for the one before it, so what is found by its
/// digest is genuine, wherever it stands.
pub(super) fn diagnose(seen: &[Seen], signed: Head, known: &[Head]) -> Vec<Finding> {
    let mut by_digest = HashMap::new();
    let mut by_number: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, line) in seen.iter().enumerate().rev() {
        by_digest.insert(line.digest, place);
        if let Some((n, _)) = line.says {
            by_number.entry(n).or_default().push(place);
        }
    }
    let known: HashMap<u64, LineDigest> =
        known.iter().map(|head| (head.count, head.head)).collect();

    let mut used = vec![false; seen.len()];
    let mut places = Vec::new();
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let mut expected = Some(signed.head);
    let mut after = seen.len();
    for n in (1..=signed.count).rev() {
        expected = known.get(&n).copied().or(expected);
        let says = |place: &usize| seen[*place].says.is_some_and(|(says, _)| says == n);
        let free = |place: &usize| !used[*place];
        let genuine = expected.and_then(|digest| by_digest.get(&digest).copied());
        let genuine = genuine.filter(|place| free(place) && says(place));
        // Else the line that says to be this one, best with the right line before it.
        let follows = |place: &usize| {
            let before = seen[*place].says.and_then(|(_, previous)| by_digest.get(&previous));
            before.is_some_and(|&before| seen[before].says.is_some_and(|(says, _)| says + 1 == n))
        };
        let claims = || {
            let claims = by_number.get(&n).into_iter().flatten().copied();
            claims.filter(free).max_by_key(follows)
        };
        // Else the line that stands where this one should, if it is no other one: it says nothing, or
        // to be a later line, which would be used already, or one that is there twice.
        let stands = || {
            let place = after.checked_sub(1).filter(free)?;
            let says = seen[place].says.map(|(says, _)| says);
            let twice = |says| by_number.get(&says).is_some_and(|places| places.len() > 1);
            says.is_none_or(|says| says == 0 || says > n || twice(says)).then_some(place)
        };
        let Some(place) = genuine.or_else(claims).or_else(stands) else {
            removed.push(n);
            expected = None;
            continue;
        };
        if genuine.is_none() && (expected.is_some() || !says(&place)) {
            changed.push(n);
        }
        used[place] = true;
        places.push((n, place));
        after = place;
        expected = seen[place].says.map(|(_, previous)| previous);
    }

    let mut findings = Vec::new();
    findings.extend(runs(&changed).into_iter().map(Finding::Changed));
    // A manifest that knows of more lines than the head: an older head stands in its place.
    let longest = known.keys().copied().max().unwrap_or(0);
    removed.extend(signed.count + 1..=longest);
    let end = longest.max(signed.count);
    findings.extend(runs(&removed).into_iter().map(|lines| {
        if lines.last == end { Finding::Cut(lines) } else { Finding::Removed(lines) }
    }));
    let added: Vec<u64> =
        (0..seen.len()).filter(|&place| !used[place]).map(|place| place as u64 + 1).collect();
    findings.extend(runs(&added).into_iter().map(Finding::Added));
    findings.extend(moved(places));
    findings
}

/// Lines that stand before one that they should follow.
fn moved(mut places: Vec<(u64, usize)>) -> Vec<Finding> {
    places.sort_unstable_by_key(|&(_, place)| place);
    let mut highest = 0;
    let mut findings = Vec::new();
    for (line, place) in places {
        if line < highest {
            findings.push(Finding::Moved { line, place: place as u64 + 1 });
        }
        highest = highest.max(line);
    }
    findings
}

/// Numbers that follow each other, together.
fn runs(numbers: &[u64]) -> Vec<Lines> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let mut runs: Vec<Lines> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some(run) if run.last + 1 == n => run.last = n,
            Some(_) | None => runs.push(Lines { first: n, last: n }),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
