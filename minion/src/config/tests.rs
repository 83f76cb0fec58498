use insta::assert_snapshot;
use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<Config, Diagnostic> {
    Config::parse(text, Path::new("/x"))
}

fn wrong(text: &str) -> String {
    parse(text).unwrap_err().in_file("minion.yml").to_string()
}

#[test]
fn the_documented_keys_are_read_and_paths_start_at_the_file() {
    let config = parse(
        "master: [127.0.0.1, 'm2.example:4600', '::1']\npki_dir: pki\ndata_dir: /d\n\
         grains: {site: bne, secure: yes}\nheartbeat: 5s\nbeacons: {load: [{interval: 60}]}\n",
    )
    .unwrap();
    assert_eq!(config.master, ["127.0.0.1:4510", "m2.example:4600", "[::1]:4510"]);
    assert_eq!(config.pki_dir, Path::new("/x/pki"));
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!(config.run_dir, Path::new("/x/run"));
    assert_eq!(config.grains["secure"], json!(true));
    assert_eq!(config.heartbeat, Duration::from_secs(5));
    assert_eq!(config.beacons, json!({"load": [{"interval": 60}]}));
}

#[test]
fn an_installed_minion_keeps_its_data_where_systems_keep_data() {
    let config = Config::parse("", Path::new(DEFAULT_DIRECTORY)).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/drover/minion"));
    assert_eq!(config.run_dir, Path::new("/run/drover/minion"));
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_the_nearest_key() {
    assert_snapshot!(wrong("master: a:1\nhartbeat: 30s\n"), @r"
    minion.yml:2:1: unknown key `hartbeat`
        2 | hartbeat: 30s
    hint: did you mean `heartbeat`?
    ");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
    assert_snapshot!(wrong("heartbeat: soon\n"), @r"
    minion.yml:1:12: `heartbeat` must be a duration above zero, such as `30s`, `5m` or `1h`
        1 | heartbeat: soon
    ");
    assert_snapshot!(wrong("master: 'a b'\n"), @r"
    minion.yml:1:9: `master` must be the address of a master as `host:port`, or a list of them
        1 | master: 'a b'
    ");
}

#[test]
fn addresses_are_completed_with_the_port() {
    assert_eq!(master_address("m").as_deref(), Some("m:4510"));
    assert_eq!(master_address("[fe80::1]:99").as_deref(), Some("[fe80::1]:99"));
    assert_eq!(master_address("[fe80::1]").as_deref(), Some("[fe80::1]:4510"));
    for wrong in ["", "a:b", "a:0", "a:70000", "http://a", ":4510"] {
        assert_eq!(master_address(wrong), None, "{wrong}");
    }
}
