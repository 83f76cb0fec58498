//! An error in a template, in YAML or in a state changes nothing, and says file, line and what to do.

use drover_tests::fleet::Fleet;

fn fleet_with(sls: &str) -> Fleet {
    let mut fleet = Fleet::new();
    let marker = fleet.path("marker");
    // The first state of the tree is right, and must not run either.
    let good =
        format!("good:\n  file.managed:\n    - name: {}\n    - contents: x\n", marker.display());
    fleet.write("master/states/broken.sls", &format!("{good}{sls}"));
    fleet.enrol("rfid-1", &[]);
    fleet.bring_up(&["rfid-1"]);
    fleet
}

fn refused(sls: &str, expected: &[&str]) {
    let fleet = fleet_with(sls);
    let outcome = fleet.drover(&["rfid-1", "state.apply", "broken"]);
    assert_eq!(outcome.status, 1, "{}{}", outcome.stdout, outcome.stderr);
    for text in expected {
        assert!(outcome.stdout.contains(text), "`{text}` is not in:\n{}", outcome.stdout);
    }
    assert!(!fleet.path("marker").exists(), "something was changed");
}

#[test]
fn an_undefined_name_in_a_template_is_shown_with_its_line() {
    refused("other:\n  test.nop:\n    - name: {{ pilar['x'] }}\n", &["broken.sls", "7", "pilar"]);
}

#[test]
fn broken_yaml_is_shown_with_its_line() {
    refused("other:\n  test.nop:\n   - a: [1\n", &["broken.sls"]);
}

#[test]
fn a_duplicate_key_is_an_error() {
    refused("good:\n  test.nop: []\n", &["broken.sls", "good"]);
}

#[test]
fn an_unknown_function_is_found_before_anything_runs() {
    refused("other:\n  file.manged:\n    - name: /x\n", &["file.manged", "file.managed"]);
}

#[test]
fn an_unknown_argument_is_found_before_anything_runs() {
    refused(
        "other:\n  file.managed:\n    - name: /x\n    - contnets: y\n",
        &["contnets", "contents"],
    );
}

#[test]
fn a_requisite_on_nothing_is_found_before_anything_runs() {
    refused("other:\n  test.nop:\n    - require:\n      - test: missing\n", &["missing"]);
}
