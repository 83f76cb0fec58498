//! Passphrases typed on a terminal, which is Python's pseudo-terminal: a prompt is awaited, then
//! answered, and nothing is echoed.

use super::{Ended, Workshop, enrol, tokens};

/// Answers each prompt in turn and prints what the terminal showed.
const TYPIST: &str = r#"
import json, os, pty, select, sys, termios
command, dialogue = json.loads(sys.argv[1]), json.loads(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
shown = b""
def read():
    global shown
    try:
        more = os.read(terminal, 4096)
    except OSError:
        more = b""
    shown += more
    return bool(more)
seen = 0
for prompt, answer in dialogue:
    while prompt.encode() not in shown[seen:]:
        if not read():
            sys.exit("no prompt `%s` in %r" % (prompt, shown))
    seen = len(shown)
    # Nobody types faster than the prompt turns the echo off, but for a program.
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        select.select([], [], [], 0.001)
    os.write(terminal, answer.encode() + b"\n")
while read():
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn typed(workshop: &Workshop, line: &str, dialogue: &[(&str, &str)]) -> Ended {
    typed_to(workshop, &[enrol()], line, dialogue)
}

fn typed_to(workshop: &Workshop, program: &[&str], line: &str, dialogue: &[(&str, &str)]) -> Ended {
    let command: Vec<_> = program.iter().copied().chain(line.split_whitespace()).collect();
    let (command, dialogue) =
        (serde_json::to_string(&command).unwrap(), serde_json::to_string(dialogue).unwrap());
    workshop.run("python3", &["-c", TYPIST, &command, &dialogue])
}

const REQUEST: &str = "init-station --request --name line-1 --dir line-1";
const ISSUE: &str = "issue --station line-1 --id a --serial 1 --out a";

#[test]
fn new_passphrases_are_asked_twice_and_old_ones_once() {
    let workshop = Workshop::new();
    let again = "The same again: ";
    let fleet = [
        ("passphrase of `root.key`", "horse"),
        (again, "horse"),
        ("passphrase of `fleet-ca.key`", ""),
    ];
    let shown = typed(&workshop, "init-fleet --name acme --dir fleet", &fleet).ok().stdout;
    assert!(!shown.contains("horse"), "{shown}");
    assert!(shown.contains("warning: `fleet/master/fleet-ca.key` is not encrypted"), "{shown}");
    let station = [
        ("Passphrase of `fleet/root/root.key`: ", "horse"),
        ("passphrase of `ca.key`", "staple"),
        (again, "stable"),
        ("passphrase of `ca.key`", "staple"),
        (again, "staple"),
    ];
    let line = "init-station --fleet fleet --name line-1 --dir line-1";
    let shown = typed(&workshop, line, &station).ok().stdout;
    assert!(shown.contains("the two differ"), "{shown}");
    let own = "Passphrase of `line-1/ca.key`: ";
    let shown = typed(&workshop, ISSUE, &[(own, "stable"), (own, "staple")]).ok().stdout;
    assert!(shown.contains("that is not the passphrase of `line-1/ca.key`"), "{shown}");
    workshop.verify("a/pki/idevid.crt");
}

#[test]
fn three_wrong_passphrases_are_enough() {
    let workshop = Workshop::new();
    workshop.write("pass", "staple");
    let line = "init-fleet --name acme --dir fleet --passphrase-file pass";
    let _ = workshop.enrol(line).ok();
    let prompt = "Passphrase of `fleet/master/fleet-ca.key`: ";
    let line = "operator --fleet fleet --name ann --out ann";
    let ended = typed(&workshop, line, &[(prompt, "a"), (prompt, "b"), (prompt, "c")]);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.stdout.contains("the passphrase is wrong"), "{ended:?}");
}

#[test]
fn nobody_is_asked_who_wants_no_passphrase() {
    let workshop = Workshop::new();
    let _ = typed(&workshop, "init-fleet --name acme --dir fleet --no-passphrase", &[]).ok();
    let line = "init-station --fleet fleet --name line-1 --dir line-1 --no-passphrase";
    let _ = typed(&workshop, line, &[]).ok();
    let _ = typed(&workshop, ISSUE, &[]).ok();
}

#[test]
fn a_pin_is_asked_once() {
    let workshop = tokens::with_token();
    let request = format!("{REQUEST} --ca-key {}", tokens::uri("line-1"));
    let prompt = "PIN of the token `factory`: ";
    let ended = typed(&workshop, &request, &[(prompt, "0815")]);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.stdout.contains("the PIN is wrong"), "{ended:?}");
    let shown = typed(&workshop, &request, &[(prompt, "4711")]).ok().stdout;
    assert!(!shown.contains("4711"), "{shown}");
    let _ = workshop.openssl("req -verify -noout -in line-1/ca.csr").ok();
}

#[test]
fn ctrl_c_at_a_prompt_leaves_the_terminal_its_echo() {
    let workshop = Workshop::new();
    let script = "trap : INT; \"$@\"; echo \"status $?\"; stty -a";
    let shell = ["/bin/sh", "-c", script, "sh", enrol()];
    let line = "init-fleet --name acme --dir fleet";
    let shown = typed_to(&workshop, &shell, line, &[("(empty: do not encrypt it)", "\x03")]);
    let shown = shown.ok().stdout;
    assert!(shown.contains("status 130"), "{shown}");
    let words: Vec<_> = shown.split_whitespace().collect();
    for word in ["echo", "icanon", "isig"] {
        assert!(words.contains(&word), "`{word}` is off: {shown}");
    }
    assert!(!workshop.path("fleet").exists());
}
