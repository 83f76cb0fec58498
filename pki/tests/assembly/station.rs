//! The prompt loop, with a scanner that is a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

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
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
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
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    [DONE]
    rfid-SN1   serial number SN1
    was done at TIME, and it is good: out/rfid-SN1
    nothing was changed
    [STOP]
    rfid-SN2   serial number SN2
    was issued at TIME, and is not in out/rfid-SN2
    it is good if its device has it
    else scan or type `reissue REASON`, and scan it again
    issued 0 devices, done before 1, refused 1
    ");
    assert_eq!(factory.read("out/rfid-SN1/pki/idevid.crt"), certificate);
    assert!(!factory.path("out/rfid-SN2").exists());
    // The refusal is in the ledger.
    assert_eq!(factory.ledger(), lines + 1);
}

#[test]
fn a_device_whose_card_was_lost_is_issued_again_with_a_reason() {
    let factory = Factory::new();
    factory.enrol_with(STATION, b"SN1\n").ok();
    let first = factory.read("out/rfid-SN1/pki/idevid.crt");
    let ended = factory.enrol_with(STATION, b"REISSUE\nREISSUE lost card\nSN1\nSN1\n").ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    [STOP]
    `reissue` needs a reason, such as `reissue lost card`: a reason is empty
    scan again
    the device that is scanned next is issued again, and its certificate revoked
    [OK]
    rfid-SN1   serial number SN1
    issued again and read back: out/rfid-SN1
    rfid-SN1
    serial SN1
    SHA-256
    [DONE]
    rfid-SN1   serial number SN1
    was done at TIME, and it is good: out/rfid-SN1
    nothing was changed
    issued 0 devices, issued again 1, done before 1, refused 1
    labels in line-1/labels
    next: drover-enrol manifest --station line-1 --out FILE
    ");
    assert_ne!(factory.read("out/rfid-SN1/pki/idevid.crt"), first);
    assert!(factory.read("line-1/ledger.ndjson").contains(r#""reason":"lost card""#));
}

#[test]
fn a_program_that_waits_for_the_station_says_so() {
    let factory = Factory::new();
    let ledger = fs::File::open(factory.path("line-1/ledger.ndjson")).unwrap();
    ledger.lock().unwrap();
    let mut manifest = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
    manifest.args(["manifest", "--station", "line-1", "--out", "m"]).current_dir(factory.0.path());
    let mut manifest = manifest.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(manifest.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "waiting: another drover-enrol, perhaps `station`, works with `line-1`\n");
    drop(ledger);
    assert!(manifest.wait().unwrap().success());
}

/// Answers each prompt of a program on a terminal, which is Python's pseudo-terminal.
const TYPIST: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], sys.argv[1:])
shown, seen = b"", 0
def read():
    global shown
    try:
        more = os.read(terminal, 4096)
    except OSError:
        more = b""
    shown += more
    return bool(more)
for typed in [b"SN1\n", b"S_2\n", b"\x03"]:
    while b"serial number> " not in shown[seen:]:
        if not read():
            sys.exit("no prompt in %r" % shown)
    seen = len(shown)
    os.write(terminal, typed)
while read():
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_terminal_shows_green_and_red_and_ctrl_c_ends_the_shift() {
    let factory = Factory::new();
    let mut typist = Command::new("python3");
    typist.args(["-c", TYPIST, env!("CARGO_BIN_EXE_drover-enrol")]).args(STATION.split(' '));
    let output = typist.env_remove("NO_COLOR").current_dir(factory.0.path()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let (ok, rest) = shown.split_once("serial number> S_2").unwrap();
    assert!(ok.contains("\x1b[32;42m##") && !ok.contains("\x1b[31;41m"), "{ok}");
    assert!(rest.contains("\x1b[31;41m##") && rest.contains('\x07'), "{rest}");
    assert!(rest.contains("issued 1 device, refused 1\r\n"), "{rest}");
}

#[test]
fn noise_from_a_scanner_is_told_and_the_loop_goes_on() {
    let factory = Factory::new();
    let long = [b'1'; 100_000];
    let input =
        [&b"\xff\xfe\nSN\x1b[2J1\n\0\n10/4\n"[..], &long, b"\n \tSN1\t\r\n", b"reprint"].concat();
    let ended = factory.enrol_with(STATION, &input).ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    [STOP]
    the line is not UTF-8 text
    scan again
    [STOP]
    hardware serial number `SN\u{1b}[2J1` has the character `\u{1b}`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
    scan again
    [STOP]
    hardware serial number `\0` has the character `\0`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
    scan again
    [STOP]
    the template `rfid-{serial}` makes no id of the serial number `10/4`: minion id `rfid-10/4` has the character `/`, allowed are A-Z a-z 0-9 . _ -
    is this the right barcode?
    [STOP]
    the line is too long for a serial number, 64 characters are the most
    scan again
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
fn a_wrong_barcode_or_a_word_is_a_stop_and_no_device() {
    let factory =
        Factory::with("--id-template rfid-{serial} --serial-pattern SN[0-9]{4} --master m:1");
    let lines = factory.ledger();
    let ended = factory.enrol_with(STATION, b"4006381333931\nhelp\n?\nEXIT\nquit\n").ok();
    assert_snapshot!(said(&ended.out), @"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    [STOP]
    the serial number `4006381333931` does not fit the station's pattern `SN[0-9]{4}`
    is this the right barcode?
    [STOP]
    `help` is no serial number; the commands are: `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    scan again
    [STOP]
    `?` is no serial number; the commands are: `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    scan again
    [STOP]
    `EXIT` is no serial number; the commands are: `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    scan again
    issued 0 devices, refused 4
    ");
    factory.write("devices.csv", "serial\nSN0001\nSN00012\n");
    let list = factory.enrol("batch --station line-1 --csv devices.csv --out out");
    assert!(
        list.err.contains("line 3, column 1 (`serial`): the serial number `SN00012`"),
        "{list}"
    );
    assert_snapshot!(factory.enrol("issue --station line-1 --serial help --id a --out a"), @"
    status 2

    error: the serial number `help` does not fit the station's pattern `SN[0-9]{4}`
    hint: is it the right barcode? if it is, change `serial_pattern` in the station's station.json
    ");
    assert_eq!((factory.ledger(), factory.path("out").exists()), (lines, false));
    let ended = factory.enrol_with(STATION, b"SN0001\n").ok();
    assert!(said(&ended.out).contains("[OK]"), "{ended}");
}

#[test]
fn a_pattern_that_is_no_regular_expression_is_refused_before_the_station_is_made() {
    let factory = Factory::with("");
    let again = "init-station --fleet fleet --name line-2 --dir line-2 --serial-pattern SN[0-9";
    assert_snapshot!(factory.enrol(again), @"
    status 2

    error: invalid value 'SN[0-9' for '--serial-pattern <REGEX>': `SN[0-9` is no regular expression: unclosed character class

    For more information, try '--help'.
    ");
    assert!(!factory.path("line-2").exists());
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
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
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
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
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

#[test]
fn a_revoked_device_that_is_scanned_is_not_said_to_be_good() {
    let factory = Factory::new();
    factory.enrol_with(STATION, b"SN1\n").ok();
    factory.enrol("revoke --station line-1 --serial SN1 --reason stolen").ok();
    let ended = factory.enrol_with(STATION, b"SN1\nreissue came back\nSN1\n").ok();
    assert_snapshot!(without_digests(&said(&ended.out)), @r"
    station `line-1`: scan a serial number; `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends
    [STOP]
    the certificate of `rfid-SN1` was revoked at TIME: stolen
    put the device aside
    if it is to work again, scan or type `reissue REASON`, and scan it again
    the device that is scanned next is issued again, and its certificate revoked
    [OK]
    rfid-SN1   serial number SN1
    issued again and read back: out/rfid-SN1
    rfid-SN1
    serial SN1
    SHA-256
    issued 0 devices, issued again 1, refused 1
    labels in line-1/labels
    next: drover-enrol manifest --station line-1 --out FILE
    ");
}

#[test]
fn a_station_that_waits_for_a_card_forever_ends_at_the_second_ctrl_c() {
    let factory = Factory::new();
    let pki = factory.path("out/rfid-SN1/pki");
    fs::create_dir_all(&pki).unwrap();
    let card = pki.join("idevid.crt");
    assert!(Command::new("mkfifo").arg(&card).status().unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
    command.args(STATION.split(' ')).current_dir(factory.path("."));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut scanner = child.stdin.take().unwrap();
    scanner.write_all(b"SN1\n").unwrap();
    // It has begun to read, and nobody writes.
    let _held = fs::OpenOptions::new().write(true).open(&card).unwrap();
    let pid = child.id().to_string();
    let ended = (0..1000).find_map(|_| {
        let killed = Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
        killed.unwrap();
        child.try_wait().unwrap()
    });
    assert_eq!(ended.unwrap().signal(), Some(2));
}

#[test]
fn a_station_whose_own_disk_is_full_does_not_blame_the_card() {
    let factory = Factory::new();
    // There is no room for its notes.
    std::os::unix::fs::symlink("nowhere", factory.path("line-1/unfinished")).unwrap();
    let ended = factory.enrol_with(STATION, b"SN1\n").ok();
    let said = said(&ended.out);
    assert!(said.contains("the station's ledger cannot be used"), "{said}");
    assert!(!said.contains("is the card in"), "{said}");
}
