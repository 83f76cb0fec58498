//! The prompt loop, with a scanner that is a pipe.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use super::{Factory, names};

const STATION: &str = "station --station line-1 --out out";

/// What was said, without the large letters.
fn said(text: &str) -> String {
    let is_art = |line: &str| !line.trim().is_empty() && line.chars().all(|c| " #".contains(c));
    let sign = |line: &str| match line.trim() {
        "#######   ##    ##" => Some("[OK]"),
        "#######    #######   ##     ##  ########" => Some("[DONE]"),
        "#######  ########   #######   #######" => Some("[STOP]"),
        _ => None,
    };
    let mut lines = Vec::new();
    let mut in_art = false;
    for line in text.lines() {
        if is_art(line) {
            if !in_art {
                lines.extend(sign(line).map(str::to_owned));
            }
            in_art = true;
        } else {
            in_art = false;
            if !line.trim().is_empty() {
                lines.push(line.trim().to_owned());
            }
        }
    }
    lines.join("\n")
}

/// A digest in groups of four is another one each time.
fn without_digests(text: &str) -> String {
    let is_digest =
        |line: &&str| line.len() == 19 && line.chars().all(|c| c.is_ascii_hexdigit() || c == ' ');
    text.lines().filter(|line| !is_digest(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_device_is_scanned_issued_and_labelled() {
    let factory = Factory::new();
    let ended = factory.enrol_with(STATION, b"SN1\r\n\nquit\nSN2\n").ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `quit` ends
    [OK]
    rfid-SN1   serial number SN1
    written and read back: out/rfid-SN1
    rfid-SN1
    serial SN1
    SHA-256
    issued 1 device
    labels in line-1/labels
    next: drover-enrol manifest --station line-1 --out FILE
    ");
    assert!(!ended.out.contains('\x1b'), "a pipe gets no colours");
    assert_eq!(ended.err, "");
    // After `quit` nothing was issued, though more had been scanned.
    assert_eq!(names(&factory.path("out")), ["rfid-SN1"]);
    assert_eq!(
        names(&factory.path("line-1/labels")),
        ["rfid-SN1.png", "rfid-SN1.svg", "rfid-SN1.txt"]
    );
    factory.enrol("verify out/rfid-SN1/pki/idevid.crt").ok();
}

#[test]
fn a_double_scan_is_told_whether_its_device_is_good_and_changes_nothing() {
    let factory = Factory::new();
    factory.enrol_with(STATION, b"SN1\nSN2\n").ok();
    let (certificate, lines) = (factory.read("out/rfid-SN1/pki/idevid.crt"), factory.ledger());
    fs::remove_dir_all(factory.path("out/rfid-SN2")).unwrap();
    let ended = factory.enrol_with(STATION, b"SN1\nSN2\n").ok();
    assert_snapshot!(said(&ended.out), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `quit` ends
    [DONE]
    rfid-SN1   serial number SN1
    was done at TIME, and it is good: out/rfid-SN1
    nothing was changed
    [STOP]
    rfid-SN2   serial number SN2
    was issued at TIME, and is not in out/rfid-SN2
    it is good if its device has it
    else issue it again: drover-enrol issue --id rfid-SN2 --serial 'SN2' --reissue --reason …
    issued 0 devices, done before 1, refused 1
    ");
    assert_eq!(factory.read("out/rfid-SN1/pki/idevid.crt"), certificate);
    assert!(!factory.path("out/rfid-SN2").exists());
    // The refusal is in the ledger.
    assert_eq!(factory.ledger(), lines + 1);
}

#[test]
fn noise_from_a_scanner_is_told_and_the_loop_goes_on() {
    let factory = Factory::new();
    let long = [b'1'; 100_000];
    let input =
        [&b"\xff\xfe\nSN\x1b[2J1\n\0\n10/4\n"[..], &long, b"\n \tSN1\t\r\n", b"reprint"].concat();
    let ended = factory.enrol_with(STATION, &input).ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `quit` ends
    [STOP]
    the line is not UTF-8 text
    scan the serial number again
    [STOP]
    hardware serial number `SN\u{1b}[2J1` has the character `\u{1b}`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
    scan the serial number again
    [STOP]
    hardware serial number `\0` has the character `\0`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
    scan the serial number again
    [STOP]
    the template `rfid-{serial}` makes no id of the serial number `10/4`: minion id `rfid-10/4` has the character `/`, allowed are A-Z a-z 0-9 . _ -
    is this the right barcode?
    [STOP]
    the line is too long for a serial number, 64 characters are the most
    scan the serial number again
    [OK]
    rfid-SN1   serial number SN1
    written and read back: out/rfid-SN1
    rfid-SN1
    serial SN1
    SHA-256
    rfid-SN1
    serial SN1
    SHA-256
    again in line-1/labels
    issued 1 device, refused 5
    labels in line-1/labels
    next: drover-enrol manifest --station line-1 --out FILE
    ");
}

#[test]
fn a_station_without_a_template_says_how_to_get_one() {
    let factory = Factory::with("");
    assert_snapshot!(factory.enrol_with(STATION, b"SN1\n"), @r#"
    status 2

    error: the station in `line-1` has no template for ids
    hint: add `"id_template": "rfid-{serial}"` to its station.json, or give it with `init-station --id-template`
    "#);
}

#[test]
fn a_missing_card_is_told_before_anything_is_issued() {
    let factory = Factory::new();
    let lines = factory.ledger();
    let card = "station --station line-1 --out card/etc/drover --card";
    let ended = factory.enrol_with(card, b"SN1\n").ok();
    assert_snapshot!(said(&ended.out), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `quit` ends
    [STOP]
    `card/etc` is not there
    put in the card, or make the directory
    issued 0 devices, refused 1
    ");
    assert_eq!(factory.ledger(), lines);

    // It is put in, as it comes from its image, and then forgotten to be changed.
    fs::create_dir_all(factory.path("card/etc/drover")).unwrap();
    factory.write("card/etc/drover/minion.yml", "master: 10.9.9.9:4510\n");
    let ended = factory.enrol_with(card, b"SN1\nSN2\n").ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `quit` ends
    [OK]
    rfid-SN1   serial number SN1
    written and read back: card/etc/drover
    rfid-SN1
    serial SN1
    SHA-256
    [STOP]
    `card/etc/drover` holds another device: CN=rfid-SN1, serialNumber=SN1
    put in the next card, or look what that is
    issued 1 device, refused 1
    labels in line-1/labels
    next: drover-enrol manifest --station line-1 --out FILE
    ");
    assert_eq!(factory.read("card/etc/drover/minion.yml"), "master: 10.9.9.9:4510\n");
}

/// A small disk; the test runs as root, as everything in CI does.
struct Card(std::path::PathBuf);

impl Card {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let card = Self(path.to_owned());
        card.run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"]);
        card
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.0).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_card_that_is_full_or_read_only_is_told_and_its_device_is_finished_on_the_next_scan() {
    let factory = Factory::new();
    let card = Card::mount(&factory.path("card"));
    let station = "station --station line-1 --out card";
    // Room for the key, and not for everything.
    let filler = factory.path("card/filler");
    for free in [0, 8] {
        let mut size = 64 * 1024;
        while fs::write(&filler, vec![0; size]).is_err() {
            size -= 1024;
        }
        fs::File::options()
            .write(true)
            .open(&filler)
            .unwrap()
            .set_len((size - free * 1024) as u64)
            .unwrap();
        let ended = factory.enrol_with(station, b"SN1\n").ok();
        assert!(said(&ended.out).contains("[STOP]"), "{free} KiB free: {ended}");
        assert!(ended.out.contains("No space left on device (os error 28)"), "{ended}");
        assert!(ended.out.contains("is the card in, not full and not read-only?"), "{ended}");
    }
    fs::remove_file(&filler).unwrap();
    let ended = factory.enrol_with(station, b"SN1\n").ok();
    assert!(ended.out.contains("finished and read back: card/rfid-SN1"), "{ended}");
    factory.enrol("verify card/rfid-SN1/pki/idevid.crt").ok();

    card.run("mount", &["-o", "remount,ro"]);
    let lines = factory.ledger();
    let ended = factory.enrol_with(station, b"SN2\n").ok();
    assert!(ended.out.contains("Read-only file system (os error 30)"), "{ended}");
    assert_eq!(factory.ledger(), lines);
}
