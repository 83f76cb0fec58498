//! Power cuts at the station. Killed at each system call by which issuing changes the disk, it has issued the device
//! once or not at all, its ledger verifies, and the same command finishes what was begun.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Command,
};

use drover_tests::{
    fleet::{Outcome, run},
    process::program,
};
use serde_json::Value;
use tempfile::TempDir;

/// The system calls by which a program of ours changes a disk.
const CALLS: [&str; 13] = [
    "mkdir",
    "write",
    "pwrite64",
    "ftruncate",
    "fchmod",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
];

struct Station(TempDir);

impl Station {
    fn new() -> Self {
        let station = Self(tempfile::tempdir().unwrap());
        let fleet = station.path("fleet");
        let _ = station.enrol(&["init-fleet", "--name", "acme", "--dir", &fleet]).ok();
        let init = ["init-station", "--fleet", &fleet, "--name", "line-1", "--dir"];
        let _ = station.enrol(&[&init[..], &[&station.path("line-1")]].concat()).ok();
        station
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn enrol(&self, arguments: &[&str]) -> Outcome {
        run(&program("drover-enrol"), arguments)
    }

    /// Runs a verb, killed when it makes this system call for this time. Whether that happened.
    fn killed(&self, arguments: &[&str], call: &str, number: usize) -> bool {
        let inject = format!("inject={call}:signal=SIGKILL:when={number}");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
            .arg(program("drover-enrol"))
            .args(arguments)
            .output()
            .unwrap();
        // strace ends as its program did.
        match output.status.signal() {
            Some(9) => true,
            _ => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                false
            }
        }
    }

    /// Kills a verb at each step in turn; `arguments` are for the run of that number.
    fn kill_everywhere(
        &self,
        arguments: impl Fn(usize) -> Vec<String>,
        mut check: impl FnMut(usize, &str),
    ) -> usize {
        let mut runs = 0;
        for call in CALLS {
            for number in 1.. {
                runs += 1;
                let given = arguments(runs);
                let given: Vec<&str> = given.iter().map(String::as_str).collect();
                let was_killed = self.killed(&given, call, number);
                let what = format!("killed at {call} {number}");
                self.verifies(&what);
                check(runs, &what);
                if !was_killed {
                    break;
                }
            }
        }
        runs
    }

    fn verifies(&self, what: &str) {
        let verified = self.enrol(&["ledger", "verify", "--station", &self.path("line-1")]);
        assert_eq!(verified.status, 0, "{what}: {}{}", verified.stdout, verified.stderr);
    }

    /// The certificates of a serial number in the ledger.
    fn certificates(&self, serial: &str) -> Vec<String> {
        let line = self.path("line-1");
        let show = ["ledger", "show", "--station", &line, "--serial", serial, "--json"];
        let shown = self.enrol(&show);
        // 3: there is none yet.
        assert!(matches!(shown.status, 0 | 3), "{}", shown.stderr);
        let Value::Array(lines) = shown.json() else { panic!("an array") };
        let lines = lines.iter().filter(|line| line["event"] != "refused");
        lines.map(|line| line["certificate"].as_str().unwrap().to_owned()).collect()
    }

    fn nothing_is_unfinished(&self) {
        let listed = self.enrol(&["ledger", "unfinished", "--station", &self.path("line-1")]).ok();
        assert_eq!(listed.stdout, "every bundle is finished\n");
    }
}

/// A bundle as openssl and a minion want it, and nothing beside it.
fn is_whole(out: &Path, certificate: &str, what: &str) {
    let pki = out.join("pki");
    let mut names: Vec<_> = fs::read_dir(&pki)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["idevid.crt", "idevid.key", "root.crt"], "{what}");
    assert!(out.join("minion.yml").exists(), "{what}");
    let mode = fs::metadata(pki.join("idevid.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{what}");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(&pki).output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let chain = ["-CAfile", "root.crt", "-untrusted", "idevid.crt", "idevid.crt"];
    openssl(&[&["verify", "-purpose", "sslclient"][..], &chain].concat());
    let public = openssl(&["x509", "-in", "idevid.crt", "-noout", "-pubkey"]);
    assert_eq!(public, openssl(&["pkey", "-in", "idevid.key", "-pubout"]), "{what}");
    let digest = openssl(&["x509", "-in", "idevid.crt", "-noout", "-fingerprint", "-sha256"]);
    let digest = digest.trim_end().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(digest, certificate, "{what}");
}

fn text(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn a_station_that_is_killed_at_any_step_of_issuing_has_issued_once() {
    let station = Station::new();
    let line = station.path("line-1");
    let issue = |run: usize| {
        let (id, serial) = (format!("d{run}"), format!("SN{run}"));
        let out = station.path(&id);
        let device = ["issue", "--station", &line, "--id", &id, "--serial", &serial];
        text(&[&device[..], &["--master", "10.0.0.1:4510", "--out", &out]].concat())
    };
    let (mut never, mut before) = (0, 0);
    let runs = station.kill_everywhere(issue, |run, what| {
        let serial = format!("SN{run}");
        match station.certificates(&serial).len() {
            0 => never += 1,
            1 => before += 1,
            more => panic!("{what}: {more} certificates"),
        }
        // The same command again: it issues, or finishes, or says that all of it was done.
        let arguments = issue(run);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let again = station.enrol(&arguments);
        let certificates = station.certificates(&serial);
        let [certificate] = certificates.as_slice() else { panic!("{what}: {certificates:?}") };
        is_whole(&station.0.path().join(format!("d{run}")), certificate, what);
        assert!(
            again.status == 0 || again.stderr.contains("was issued at"),
            "{what}: {}",
            again.stderr
        );
        station.verifies(what);
    });
    assert!(runs > 30 && never > 10 && before > 10, "{runs} runs, {never} and {before}");
    station.nothing_is_unfinished();
    let manifest = station.path("manifest");
    let made = station.enrol(&["manifest", "--station", &line, "--out", &manifest]).ok();
    assert!(made.stdout.contains(&format!("{runs} devices")), "{}", made.stdout);
}

#[test]
fn a_station_that_is_killed_at_any_step_of_issuing_again_has_one_certificate_that_counts() {
    let station = Station::new();
    let line = station.path("line-1");
    let first = |run: usize| {
        let (id, serial) = (format!("d{run}"), format!("SN{run}"));
        let out = station.path(&id);
        let device = ["issue", "--station", &line, "--id", &id, "--serial", &serial];
        text(&[&device[..], &["--master", "10.0.0.1:4510", "--out", &out]].concat())
    };
    let issue = |run: usize| {
        // Each has a first certificate, in the very directory that the second one goes to.
        let arguments = first(run);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let _ = station.enrol(&arguments).ok();
        [first(run), text(&["--reissue", "--reason", "card lost"])].concat()
    };
    station.kill_everywhere(issue, |run, what| {
        let serial = format!("SN{run}");
        let before = station.certificates(&serial).len();
        assert!((1..=2).contains(&before), "{what}: {before} certificates");
        if before == 2 && station.0.path().join(format!("d{run}/pki/idevid.crt")).exists() {
            // Killed after it had done all; a third certificate would be the operator's wish.
            let certificates = station.certificates(&serial);
            let listed = station.enrol(&["ledger", "unfinished", "--station", &line]).ok();
            if listed.stdout == "every bundle is finished\n" {
                is_whole(&station.0.path().join(format!("d{run}")), &certificates[1], what);
                return;
            }
        }
        let again = [first(run), text(&["--reissue", "--reason", "card lost"])].concat();
        let again: Vec<&str> = again.iter().map(String::as_str).collect();
        let _ = station.enrol(&again).ok();
        let certificates = station.certificates(&serial);
        assert_eq!(certificates.len(), 2, "{what}");
        is_whole(&station.0.path().join(format!("d{run}")), &certificates[1], what);
    });
    station.nothing_is_unfinished();
    let crl = station.path("crl");
    let listed = station.enrol(&["crl", "--station", &line, "--out", &crl]).ok();
    let reissued = station.enrol(&["ledger", "show", "--station", &line, "--json"]).ok().json();
    let reissued = reissued.as_array().unwrap().iter();
    let reissued = reissued.filter(|line| line["event"] == "reissued").count();
    assert!(listed.stdout.contains(&format!("{reissued} certificates")), "{}", listed.stdout);
}

#[test]
fn a_station_that_is_killed_at_any_step_of_a_manifest_loses_no_device_and_no_number() {
    let station = Station::new();
    let line = station.path("line-1");
    let manifest = |run: usize| {
        let (id, serial) = (format!("d{run}"), format!("SN{run}"));
        let out = station.path(&id);
        let device = ["issue", "--station", &line, "--id", &id, "--serial", &serial, "--out", &out];
        let _ = station.enrol(&device).ok();
        text(&["manifest", "--station", &line, "--out", &station.path(&format!("m{run}"))])
    };
    station.kill_everywhere(manifest, |run, _| {
        // Whatever was lost on the way is in the station's own copies.
        let last = station.path(&format!("last{run}"));
        let _ = station.enrol(&["manifest", "--station", &line, "--out", &last]).ok();
    });
    let mut kept: Vec<_> = fs::read_dir(Path::new(&line).join("manifests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    kept.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    kept.sort();
    let mut ids = Vec::new();
    for (place, path) in kept.iter().enumerate() {
        assert!(path.ends_with(format!("{:06}.json", place + 1)), "{kept:?}");
        let show = station.enrol(&["show", path.to_str().unwrap()]).ok();
        ids.extend(show.stdout.lines().filter_map(|line| {
            let id = line.split_whitespace().next()?;
            line.contains("serial SN").then(|| id.to_owned())
        }));
    }
    let mut once = ids.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "each device is in one manifest");
    let root = station.path("fleet/root/root.crt");
    for path in &kept {
        let verify = ["verify", "--root", &root, path.to_str().unwrap()];
        let _ = station.enrol(&verify).ok();
    }
}
