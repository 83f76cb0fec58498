//! Ledgers that somebody was at, and what is said of them.

use super::*;

/// Ten lines that follow each other, as the diagnosis sees them.
fn genuine() -> Vec<Seen> {
    let mut previous = Head::empty().head;
    let lines = (1..=10).map(|n| {
        let digest = LineDigest::of(format!("{n} after {previous}").as_bytes());
        let seen = Seen { says: Some((n, previous)), digest };
        previous = digest;
        seen
    });
    lines.collect()
}

fn head(lines: &[Seen]) -> Head {
    Head { count: lines.len() as u64, head: lines.last().unwrap().digest }
}

fn other(text: &str) -> LineDigest {
    LineDigest::of(text.as_bytes())
}

/// What is found, as it is told.
fn told(lines: &[Seen], known: &[Head]) -> Vec<String> {
    let findings = diagnose(lines, head(&genuine()), known);
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_found_where_nothing_was_done() {
    assert_eq!(told(&genuine(), &[]), [] as [&str; 0]);
    assert_eq!(told(&genuine(), &[head(&genuine()[..4])]), [] as [&str; 0]);
    assert_eq!(diagnose(&[], Head::empty(), &[]), []);
}

#[test]
fn every_changed_line_is_named() {
    for n in 0..10 {
        let mut lines = genuine();
        lines[n].digest = other("changed");
        assert_eq!(told(&lines, &[]), [format!("line {} was changed", n + 1)]);
        // Also where it is no line any more.
        lines[n].says = None;
        assert_eq!(told(&lines, &[]), [format!("line {} was changed", n + 1)]);
    }
    let mut lines = genuine();
    lines[2].digest = other("changed");
    lines[6].digest = other("changed");
    lines[7].digest = other("changed too");
    assert_eq!(told(&lines, &[]), ["line 3 was changed", "lines 7 to 8 were changed"]);
}

#[test]
fn every_removed_line_is_named() {
    for n in 0..9 {
        let mut lines = genuine();
        lines.remove(n);
        assert_eq!(told(&lines, &[]), [format!("line {} was taken out", n + 1)]);
    }
    let mut lines = genuine();
    lines.drain(3..6);
    assert_eq!(told(&lines, &[]), ["lines 4 to 6 were taken out"]);
}

#[test]
fn a_cut_tail_is_named() {
    for n in 0..9 {
        let lines = &genuine()[..n];
        assert_eq!(told(lines, &[]), [format!("lines {} to 10 were cut off the end", n + 1)]);
    }
    assert_eq!(told(&genuine()[..9], &[]), ["line 10 was cut off the end"]);
}

#[test]
fn every_added_line_is_named() {
    for n in 0..=10_usize {
        let mut lines = genuine();
        let previous = n.checked_sub(1).map_or(Head::empty().head, |n| lines[n].digest);
        let says = Some((n as u64 + 1, previous));
        lines.insert(n, Seen { says, digest: other("added") });
        let said = format!("line {} was added: the station did not write that", n + 1);
        assert_eq!(told(&lines, &[]), [said.as_str()]);
        lines[n].says = None;
        assert_eq!(told(&lines, &[]), [said.as_str()]);
    }
    let mut lines = genuine();
    lines.insert(4, lines[3]);
    assert_eq!(told(&lines, &[]), ["line 5 was added: the station did not write that"]);
}

#[test]
fn a_moved_line_is_named() {
    let mut lines = genuine();
    lines.swap(3, 4);
    assert_eq!(told(&lines, &[]), ["line 4 was moved: it stands as 5"]);
    let mut lines = genuine();
    let first = lines.remove(0);
    lines.push(first);
    assert_eq!(told(&lines, &[]), ["line 1 was moved: it stands as 10"]);
}

#[test]
fn what_was_rewritten_to_the_end_is_found_by_the_manifests() {
    let genuine_lines = genuine();
    let mut lines = genuine();
    let mut previous = lines[2].digest;
    for line in &mut lines[3..] {
        let (n, _) = line.says.unwrap();
        line.says = Some((n, previous));
        line.digest = other(&format!("{n} rewritten after {previous}"));
        previous = line.digest;
    }
    assert_eq!(told(&lines, &[]), ["line 10 was changed"], "and nothing shows where it begins");
    let known = [head(&genuine_lines[..2]), head(&genuine_lines[..5])];
    assert_eq!(told(&lines, &known), ["line 5 was changed", "line 10 was changed"]);
}

#[test]
fn an_older_head_with_its_lines_is_found_by_the_manifests() {
    let older = &genuine()[..6];
    let findings = diagnose(older, head(older), &[head(&genuine()[..8])]);
    assert_eq!(findings, [Finding::Cut(Lines { first: 7, last: 8 })]);
}
