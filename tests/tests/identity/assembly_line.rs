//! The assembly line, from lists and scanned serial numbers to the master: a power cut in the middle of a list, Ctrl-C, a
//! serial number that is scanned twice, and a list that is wrong.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    process::program,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A fleet whose station makes ids from serial numbers, and puts bundles where minions are started from.
struct Line(Fleet);

impl Line {
    fn new() -> Self {
        let fleet = Fleet::new();
        let settings = serde_json::json!({
            "format": 1, "id_template": "rfid-{serial}", "masters": [fleet.master_address()],
        });
        fleet.write("stations/line-1/station.json", &settings.to_string());
        Self(fleet)
    }

    fn station(&self) -> PathBuf {
        self.0.path("stations/line-1")
    }

    /// `S001` and so on, to this number.
    fn write_list(&self, devices: usize) {
        let rows: String = (1..=devices).map(|number| format!("S{number:03},bne\n")).collect();
        self.0.write("devices.csv", &format!("serial,site\n{rows}"));
    }

    fn command(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program("drover-enrol"));
        command.arg(verb).arg("--station").arg(self.station()).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn batch(&self) -> Command {
        let mut batch = self.command("batch", &["--json"]);
        batch.arg("--csv").arg(self.0.path("devices.csv"));
        batch.arg("--out").arg(self.0.path("minions"));
        batch
    }

    /// What the prompt loop says to these scans.
    fn scan(&self, scans: &str) -> Outcome {
        let mut station = self.command("station", &[]);
        let mut child = station.arg("--out").arg(self.0.path("minions")).spawn().unwrap();
        child.stdin.take().unwrap().write_all(scans.as_bytes()).unwrap();
        ended(child)
    }

    /// Every line of the ledger about a certificate that was issued, by the device's id.
    fn issued(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(self.station().join("ledger.ndjson")).unwrap();
        let mut issued = BTreeMap::new();
        // What is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["event"] == "issued" {
                *issued.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        issued
    }

    fn enrol(&self, arguments: &[&str]) -> Outcome {
        run(&program("drover-enrol"), arguments)
    }

    /// The ledger verifies, each device has one certificate, and each bundle and label is whole.
    fn assert_whole(&self, devices: usize) {
        let station = self.station();
        let _ = self.enrol(&["ledger", "verify", "--station", station.to_str().unwrap()]).ok();
        let issued = self.issued();
        assert_eq!(issued.len(), devices);
        assert!(issued.values().all(|&count| count == 1), "{issued:?}");
        let mut verify = vec!["verify".to_owned()];
        for id in issued.keys() {
            let bundle = self.0.minion_dir(id);
            assert!(bundle.join("pki/idevid.key").exists() && bundle.join("minion.yml").exists());
            verify.push(bundle.join("pki/idevid.crt").to_str().unwrap().to_owned());
            for kind in ["txt", "svg", "png"] {
                let label = station.join("labels").join(format!("{id}.{kind}"));
                assert_ne!(fs::metadata(&label).unwrap().len(), 0, "{}", label.display());
            }
        }
        let verify: Vec<_> = verify.iter().map(String::as_str).collect();
        let _ = self.enrol(&verify).ok();
        assert_eq!(fs::read_dir(station.join("unfinished")).unwrap().count(), 0);
    }
}

fn ended(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    // A signal's end has no status.
    let status = output.status.code().unwrap_or(-1);
    Outcome { status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

#[test]
fn a_list_that_a_power_cut_stops_again_and_again_is_issued_once_and_whole() {
    const DEVICES: usize = 40;
    let mut line = Line::new();
    line.write_list(DEVICES);
    for reached in [1, 7, 8, 20, 33] {
        let child = line.batch().spawn().unwrap();
        wait::until("the list gets on", PATIENCE, || line.issued().len() >= reached);
        signal(&child, Signal::KILL);
        assert_eq!(ended(child).status, -1);
    }
    let before = line.issued().len();
    let done = ended(line.batch().spawn().unwrap()).ok().json();
    assert_eq!(done["remaining"], 0);
    let count = |name: &str| usize::try_from(done[name].as_u64().unwrap()).unwrap();
    assert_eq!(count("issued"), DEVICES - before);
    assert_eq!(count("skipped") + count("finished"), before);
    line.assert_whole(DEVICES);

    // And the master knows each of them by the manifest.
    line.0.bring_up(&["rfid-S001", "rfid-S040"]);
    let known = line.0.json(&["key", "list"]).to_string();
    assert_eq!(known.matches("rfid-S").count(), DEVICES, "{known}");
}

#[test]
fn ctrl_c_finishes_the_device_at_hand_and_says_how_to_go_on() {
    const DEVICES: usize = 400;
    let line = Line::new();
    line.write_list(DEVICES);
    let child = line.batch().spawn().unwrap();
    wait::until("the list gets on", PATIENCE, || line.issued().len() >= 3);
    signal(&child, Signal::INT);
    let stopped = ended(child);
    assert_eq!(stopped.status, 1, "{}", stopped.stderr);
    let issued = line.issued().len();
    assert_eq!(stopped.json()["issued"], issued);
    assert_eq!(stopped.json()["remaining"], DEVICES - issued);
    assert!(stopped.stderr.contains("hint: run the same command again"), "{}", stopped.stderr);
    line.assert_whole(issued);

    line.write_list(issued + 2);
    let done = ended(line.batch().spawn().unwrap()).ok().json();
    assert_eq!((&done["skipped"], &done["issued"]), (&issued.into(), &2.into()));
    line.assert_whole(issued + 2);
}

#[test]
fn a_serial_number_that_is_scanned_twice_is_one_device() {
    let mut line = Line::new();
    let scanned = line.scan("S1\nS1\n").ok();
    assert!(scanned.stdout.contains("was done at"), "{}", scanned.stdout);
    let certificate = fs::read(line.0.minion_dir("rfid-S1").join("pki/idevid.crt")).unwrap();
    let again = line.scan("S1\n").ok();
    assert!(again.stdout.contains("issued 0 devices, done before 1"), "{}", again.stdout);
    line.assert_whole(1);
    assert_eq!(fs::read(line.0.minion_dir("rfid-S1").join("pki/idevid.crt")).unwrap(), certificate);
    line.0.bring_up(&["rfid-S1"]);
}

#[test]
fn ctrl_c_ends_the_prompt_loop_with_its_summary() {
    let line = Line::new();
    let mut station = line.command("station", &[]);
    let mut child = station.arg("--out").arg(line.0.path("minions")).spawn().unwrap();
    let mut scanner = child.stdin.take().unwrap();
    scanner.write_all(b"S1\n").unwrap();
    let label = line.station().join("labels/rfid-S1.png");
    wait::until("the device is issued", PATIENCE, || label.exists());
    // Its standard input stays open, as a terminal's does.
    signal(&child, Signal::INT);
    let ended = ended(child).ok();
    drop(scanner);
    assert!(ended.stdout.contains("issued 1 device\n"), "{}", ended.stdout);
    line.assert_whole(1);
}

#[test]
fn a_list_that_is_wrong_issues_nothing_until_it_is_right() {
    let line = Line::new();
    line.0.write("devices.csv", "serial,id\nS1,\nS2,gate-1\nS3,gate-1\nS_4,\n");
    let refused = ended(line.batch().spawn().unwrap());
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    let lines: Vec<_> = refused.json()["wrong"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wrong| wrong["line"].clone())
        .collect();
    assert_eq!(lines, [4, 5]);
    assert!(line.issued().is_empty());
    assert!(!line.0.path("minions").exists());
    line.0.write("devices.csv", "serial,id\nS1,\nS2,gate-1\nS3,gate-2\nS4,\n");
    let _ = ended(line.batch().spawn().unwrap()).ok();
    line.assert_whole(4);
}
