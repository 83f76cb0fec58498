//! Shell globs as Salt matches them (Python's `fnmatch`): on minion ids, event tags and grain values.
//! `*` crosses `/`; there are no braces and no escapes but a bracket.

/// Whether `text` matches `pattern`: `*` any run, `?` one character, `[a-z]` and `[!a-z]` a set.
///
/// Never backtracks further than the last `*`, so its cost is bounded by the product of the lengths.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while seen < text.len() {
        match step(&pattern[at..], text[seen]) {
            Step::Star => {
                at += 1;
                retry = Some((at, seen));
            }
            Step::Takes(width) => {
                at += width;
                seen += 1;
            }
            Step::Fails => match &mut retry {
                Some((after_star, taken)) => {
                    *taken += 1;
                    (at, seen) = (*after_star, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

/// Whether `pattern` has any character that makes it more than a literal.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

enum Step {
    Star,
    Takes(usize),
    Fails,
}

fn step(pattern: &[char], c: char) -> Step {
    match pattern.first() {
        None => Step::Fails,
        Some('*') => Step::Star,
        Some('?') => Step::Takes(1),
        Some('[') => match set(pattern, c) {
            Some((width, true)) => Step::Takes(width),
            Some((_, false)) => Step::Fails,
            None if c == '[' => Step::Takes(1),
            None => Step::Fails,
        },
        Some(&literal) if literal == c => Step::Takes(1),
        Some(_) => Step::Fails,
    }
}

/// The width of the set at the front of `pattern` and whether it holds `c`; `None` where no `]` closes it.
fn set(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&'!');
    let start = if negated { 2 } else { 1 };
    // As in fnmatch, a `]` that stands first is a member.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|&c| c == ']')?;
    let members = &pattern[start..end];
    let mut holds = false;
    let mut at = 0;
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            holds |= (members[at]..=members[at + 2]).contains(&c);
            at += 3;
        } else {
            holds |= members[at] == c;
            at += 1;
        }
    }
    Some((end + 1, holds != negated))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("rfid-*", "rfid-0042", true),
            ("rfid-?", "rfid-10", false),
            ("rfid-[0-3]*", "rfid-2b", true),
            ("rfid-[!0-3]", "rfid-2", false),
            ("a[]]b", "a]b", true),
            ("a[b", "a[b", true),
            ("drover/minion/*/start", "drover/minion/rfid-1/start", true),
            ("drover/*", "drover/app/x/door/open", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("", "a", false),
            ("Ä?", "Äö", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_matched_in_bounded_time() {
        let pattern = "*a".repeat(60);
        assert!(!matches(&pattern, &"a".repeat(59)));
        assert!(!matches(&format!("{pattern}b"), &"a".repeat(5_000)));
    }
}
