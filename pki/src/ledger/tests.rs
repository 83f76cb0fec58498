//! A ledger in a temporary directory: what it remembers, what a power cut leaves, and what somebody
//! who has the file can do to it.

use std::fs;

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::*;
use crate::fingerprint::{Fingerprint, LineDigest};
use crate::manifest::{ManifestEntry, Reissue};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct Fixture {
    directory: TempDir,
    authority: Authority,
}

fn fixture() -> Fixture {
    let root = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
    let authority = root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    let directory = tempfile::tempdir().unwrap();
    Ledger::create(directory.path(), &authority, [], &ann(), NOW).unwrap();
    Fixture { directory, authority }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(self.directory.path(), self.authority.der(), &[])
    }

    fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut ledger = self.open().unwrap();
        for event in events {
            ledger.append(&self.authority, &ann(), NOW, event).unwrap();
        }
    }

    /// What is wrong with it, as it is told; the same for who opens it as for who only looks.
    fn findings(&self) -> String {
        let inspection = Ledger::inspect(self.directory.path(), self.authority.der(), &[]).unwrap();
        match self.open() {
            Ok(_) => assert_eq!(inspection.findings, []),
            Err(LedgerError::Broken { findings, .. }) => assert_eq!(inspection.findings, findings),
            Err(error) => panic!("{error}"),
        }
        sentence(&inspection.findings)
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path(LINES)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.path(LINES), lines.join("\n") + "\n").unwrap();
    }
}

fn ann() -> Actor {
    "ann".parse().unwrap()
}

fn entry(id: &str) -> ManifestEntry {
    ManifestEntry {
        id: id.parse().unwrap(),
        serial: format!("SN {id}").parse().unwrap(),
        key: KeyDigest::of(id.as_bytes()),
        certificate: Fingerprint::of(b"certificate"),
        grains: Map::from_iter([("site".to_owned(), Value::from("bne"))]),
        issued: NOW,
        reissue: None,
    }
}

fn issued(id: &str) -> Event {
    Event::Issued(IssuedLine { entry: entry(id), revokes: None, der: vec![1, 2, 3].into() })
}

fn manifest(number: u64) -> Event {
    Event::Manifest(ManifestLine { number, all: false, minions: 1 })
}

fn ids<'a>(devices: impl Iterator<Item = &'a Device>) -> Vec<String> {
    devices.map(|device| device.id.to_string()).collect()
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let fixture = fixture();
    fixture.append([issued("a"), manifest(1), issued("b")]);
    let ledger = fixture.open().unwrap();
    assert_eq!(ids(ledger.to_export(true)), ["a", "b"]);
    assert_eq!(ids(ledger.to_export(false)), ["b"]);
    assert_eq!((ledger.next_number(), ledger.head().count), (2, 3));
    assert_eq!(ledger.last_manifest().count, 1);
    let found = ledger.find_serial(&"SN b".parse().unwrap()).unwrap();
    assert_eq!(found.id.as_str(), "b");
    let line = ledger.read(found).unwrap();
    assert_eq!((line.n, line.by.as_str(), line.event), (3, "ann", issued("b")));
    assert!(ledger.find(&"c".parse().unwrap()).is_none());
    assert!(ledger.find_key(&KeyDigest::of(b"a")).is_some());
}

#[test]
fn lines_are_chained_and_say_who_and_when() {
    let fixture = fixture();
    fixture.append([issued("a"), manifest(1)]);
    let lines = fixture.lines();
    let value = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let (first, second) = (value(&lines[0]), value(&lines[1]));
    assert_eq!(
        (&first["n"], &first["event"], &first["by"]),
        (&1.into(), &"issued".into(), &"ann".into())
    );
    assert_eq!(first["previous"], LineDigest::of(b"").to_string());
    assert_eq!(second["previous"], LineDigest::of(lines[0].as_bytes()).to_string());
    assert_eq!((&second["at"], &second["number"]), (&"2027-01-15T08:00:00Z".into(), &1.into()));
}

#[test]
fn a_reissue_and_a_revocation_take_the_certificate_back() {
    let fixture = fixture();
    let serial = |text: &str| text.parse::<crate::certificate::SerialNumber>().unwrap();
    let again = ManifestEntry {
        key: KeyDigest::of(b"a again"),
        reissue: Some(Reissue {
            reason: "card lost".parse().unwrap(),
            replaces: KeyDigest::of(b"a"),
        }),
        ..entry("a")
    };
    let again = IssuedLine { entry: again, revokes: Some(serial("0a")), der: vec![4].into() };
    let revoked = RevokedLine {
        id: "b".parse().unwrap(),
        serial: "SN b".parse().unwrap(),
        key: KeyDigest::of(b"b"),
        certificate: Fingerprint::of(b"certificate"),
        revokes: serial("0b"),
        reason: "key compromise".parse().unwrap(),
    };
    fixture.append([issued("a"), issued("b"), Event::Reissued(again), Event::Revoked(revoked)]);
    let ledger = fixture.open().unwrap();
    assert_eq!(ids(ledger.to_export(false)), ["b", "a"], "each with its latest certificate");
    assert_eq!(ledger.find(&"a".parse().unwrap()).unwrap().key, KeyDigest::of(b"a again"));
    assert_eq!(ledger.find(&"b".parse().unwrap()).unwrap().standing, Standing::Revoked);
    let codes: Vec<_> = ledger
        .revoked()
        .iter()
        .map(|revoked| (revoked.serial.to_string(), revoked.reason.as_str()))
        .collect();
    assert_eq!(codes, [("0a".to_owned(), "superseded"), ("0b".to_owned(), "keyCompromise")]);
    let minions = ledger.revoked_minions();
    assert_eq!((minions.len(), minions[0].id.as_str()), (1, "b"));
}

#[test]
fn what_a_power_cut_leaves_is_repaired() {
    let fixture = fixture();
    fixture.append([issued("a")]);
    let before = [LINES, HEAD].map(|name| fs::read(fixture.path(name)).unwrap());
    fixture.append([issued("b")]);
    let after = [LINES, HEAD].map(|name| fs::read(fixture.path(name)).unwrap());

    // The new head was signed, and some of its line written, up to all of it.
    for length in before[0].len()..=after[0].len() {
        fs::write(fixture.path(LINES), &after[0][..length]).unwrap();
        fs::write(fixture.path(HEAD), &before[1]).unwrap();
        fs::write(fixture.path(NEXT_HEAD), &after[1]).unwrap();
        let inspection =
            Ledger::inspect(fixture.directory.path(), fixture.authority.der(), &[]).unwrap();
        assert_eq!(inspection.findings, [], "{length}");
        let is_half = (before[0].len() + 1..after[0].len()).contains(&length);
        assert_eq!(inspection.has_half_line, is_half, "{length}");

        let ledger = fixture.open().unwrap();
        let kept = if length == after[0].len() { vec!["a", "b"] } else { vec!["a"] };
        assert_eq!(ids(ledger.to_export(true)), kept, "{length}");
        drop(ledger);
        assert!(!fixture.path(NEXT_HEAD).exists());
        fixture.append([issued("c")]);
        assert_eq!(fixture.findings(), "");
    }
    // The head itself was only half written.
    fs::write(fixture.path(LINES), &before[0]).unwrap();
    fs::write(fixture.path(HEAD), &before[1]).unwrap();
    for length in 0..after[1].len() {
        fs::write(fixture.path(NEXT_HEAD), &after[1][..length]).unwrap();
        assert_eq!(fixture.findings(), "");
    }
    // Nulls, where the file had grown before its bytes were there.
    fs::write(fixture.path(NEXT_HEAD), &after[1]).unwrap();
    fs::write(fixture.path(LINES), [&before[0][..], &[0; 100]].concat()).unwrap();
    assert_eq!(ids(fixture.open().unwrap().to_export(true)), ["a"]);
}

#[test]
fn half_a_line_that_nobody_signed_for_is_no_power_cut() {
    let fixture = fixture();
    fixture.append([issued("a")]);
    let whole = fs::read(fixture.path(LINES)).unwrap();
    for cut in 1..whole.len() {
        fs::write(fixture.path(LINES), [&whole[..], &whole[..cut]].concat()).unwrap();
        assert_eq!(fixture.findings(), "line 2 was added: the station did not write that");
    }
    for cut in 1..whole.len() {
        fs::write(fixture.path(LINES), &whole[..cut]).unwrap();
        assert_eq!(fixture.findings(), "line 1 was changed");
    }
}

#[test]
fn every_byte_that_is_changed_is_found() {
    let fixture = fixture();
    fixture.append([issued("a"), issued("b"), issued("c")]);
    let whole = fs::read(fixture.path(LINES)).unwrap();
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(fixture.path(LINES), changed).unwrap();
        let line = whole[..place].iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        let Err(LedgerError::Broken { findings, .. }) = fixture.open() else { panic!("{place}") };
        // A line whose word about the one before was changed takes that one along.
        let names_it = |lines: &Lines| lines.last == line && lines.first + 1 >= line;
        let named = findings.iter().any(|it| matches!(it, Finding::Changed(it) if names_it(it)));
        // Without the line break two lines are one.
        assert!(named || whole[place] == b'\n', "{place}: {findings:?}");
    }
}

#[test]
fn lines_that_are_removed_added_moved_or_cut_are_named() {
    let fixture = fixture();
    fixture.append(["a", "b", "c", "d"].map(issued));
    let lines = fixture.lines();
    let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat();
    fixture.write(&without(1));
    assert_eq!(fixture.findings(), "line 2 was taken out");
    fixture.write(&without(3));
    assert_eq!(fixture.findings(), "line 4 was cut off the end");
    fixture.write(&[&lines[..], &lines[3..]].concat());
    assert_eq!(fixture.findings(), "line 5 was added: the station did not write that");
    fixture.write(&[0, 2, 1, 3].map(|n| lines[n].clone()));
    assert_eq!(fixture.findings(), "line 2 was moved: it stands as 3");
    fs::write(fixture.path(LINES), "").unwrap();
    assert_eq!(fixture.findings(), "lines 1 to 4 were cut off the end");
    // A line more that follows all the others: nobody signed for it.
    let previous = LineDigest::of(lines[3].as_bytes());
    let more = Line { n: 5, previous, at: NOW, by: ann(), event: issued("e") };
    let more = String::from_utf8(more.encode()).unwrap();
    fixture.write(&[&lines[..], &[more]].concat());
    assert_eq!(fixture.findings(), "line 5 was added: the station did not write that");
}

/// What the fuzz target demands of any bytes, for bytes that are nearly a ledger's.
#[test]
fn whatever_lies_there_leads_to_its_head_or_something_is_found() {
    let fixture = fixture();
    fixture.append(["a", "b", "c"].map(issued));
    let text = fs::read(fixture.path(LINES)).unwrap();
    let lines = fixture.lines();
    let head = |n: usize| Head { count: n as u64, head: LineDigest::of(lines[n - 1].as_bytes()) };
    assert_eq!(check(&text, head(3), &[head(1), head(2)]), []);
    assert_eq!(check(b"", Head::empty(), &[]), []);
    for wrong in [
        head(1),
        head(2),
        Head::empty(),
        Head { count: 4, ..head(3) },
        Head { count: 3, ..head(2) },
    ] {
        assert!(!check(&text, wrong, &[]).is_empty(), "{wrong:?}");
    }
    assert!(!check(&text, head(3), &[Head { count: 2, ..head(1) }]).is_empty());
    for cut in 0..text.len() {
        assert!(!check(&text[..cut], head(3), &[]).is_empty(), "{cut}");
        assert!(!check(&text[cut..], head(3), &[]).is_empty() || cut == 0, "{cut}");
        let twice = [&text[..cut], &text[..]].concat();
        assert!(!check(&twice, head(3), &[]).is_empty() || cut == 0, "{cut}");
    }
}

#[test]
fn what_is_not_text_is_no_line_even_where_it_is_signed_for() {
    let fixture = fixture();
    fixture.append([issued("a")]);
    let text = fs::read_to_string(fixture.path(LINES)).unwrap();
    let mut line = text.trim_end().as_bytes().to_vec();
    let by = text.find(r#""by":""#).unwrap() + r#""by":""#.len();
    let head = |line: &[u8]| Head { count: 1, head: LineDigest::of(line) };
    assert_eq!(check(&[&line[..], b"\n"].concat(), head(&line), &[]), []);
    line[by] = 0xdc;
    assert!(!check(&[&line[..], b"\n"].concat(), head(&line), &[]).is_empty());
}

#[test]
fn a_head_that_is_not_the_stations_own_is_refused() {
    let (ours, theirs) = (fixture(), fixture());
    ours.append([issued("a")]);
    theirs.append([issued("a")]);
    for name in [LINES, HEAD] {
        fs::copy(theirs.path(name), ours.path(name)).unwrap();
    }
    assert_eq!(ours.findings(), "its head is not signed by the station's authority");
    fs::write(ours.path(HEAD), "{}").unwrap();
    assert_eq!(ours.findings(), "its signed head cannot be read");
    fs::remove_file(ours.path(HEAD)).unwrap();
    assert_eq!(ours.findings(), "its signed head is missing");
    fs::remove_file(ours.path(LINES)).unwrap();
    assert!(matches!(ours.open(), Err(LedgerError::Missing { .. })));
    let looked = Ledger::inspect(ours.directory.path(), ours.authority.der(), &[]);
    assert!(matches!(looked, Err(LedgerError::Missing { .. })));
}

#[test]
fn a_ledger_is_read_while_another_program_appends_to_it() {
    let fixture = fixture();
    let directory = fixture.directory.path().to_owned();
    let der = fixture.authority.der().clone();
    let reader = std::thread::spawn(move || {
        let mut last = 0;
        while last < 60 {
            let inspection = Ledger::inspect(&directory, &der, &[]).unwrap();
            assert_eq!(inspection.findings, []);
            assert!(inspection.head.count >= last);
            last = inspection.head.count;
        }
    });
    fixture.append((0..60).map(|n| issued(&n.to_string())));
    reader.join().unwrap();
}

#[test]
fn a_ledger_that_could_not_be_written_is_as_it_was() {
    let fixture = fixture();
    fixture.append([issued("a")]);
    let mut ledger = fixture.open().unwrap();
    fs::create_dir(fixture.path(NEXT_HEAD)).unwrap();
    let refused = ledger.append(&fixture.authority, &ann(), NOW, issued("b"));
    assert!(matches!(refused, Err(LedgerError::File(_))));
    fs::remove_dir(fixture.path(NEXT_HEAD)).unwrap();
    ledger.append(&fixture.authority, &ann(), NOW, issued("c")).unwrap();
    drop(ledger);
    assert_eq!(ids(fixture.open().unwrap().to_export(true)), ["a", "c"]);
}

#[test]
fn a_link_where_the_next_head_goes_leads_nowhere() {
    let it = fixture();
    let elsewhere = it.path("elsewhere");
    for link in
        [std::os::unix::fs::symlink, fs::hard_link] as [fn(PathBuf, PathBuf) -> io::Result<()>; 2]
    {
        fs::write(&elsewhere, "precious").unwrap();
        link(elsewhere.clone(), it.path(NEXT_HEAD)).unwrap();
        it.append([issued("a")]);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert!(!it.path(HEAD).is_symlink());
        assert_eq!(it.findings(), "");
    }
}
