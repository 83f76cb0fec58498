use insta::assert_snapshot;

use super::*;

fn parse(text: &str) -> Result<Config, Diagnostic> {
    Config::parse(text, Path::new("/x"))
}

fn wrong(text: &str) -> String {
    parse(text).unwrap_err().in_file("master.yml").to_string()
}

#[test]
fn the_documented_keys_are_read_and_paths_start_at_the_file() {
    let config = parse(
        "name: north\nlisten: 127.0.0.1:4600\nacceptance: manual\npki_dir: pki\ndata_dir: /d\nrun_dir: run\n\
         file_roots:   {base: [states, /srv/more]}\npillar_roots: {base: [pillar]}\n\
         reactor: [{'drover/minion/*/start': [reactor/push-pending.sls]}]\n\
         nodegroups: {pilot: 'G@site:bne and rfid-*', two: [a, or, b]}\n\
         bridges: [{name: elk, type: elasticsearch}]\npending_ttl: 2d\n\
         events: {max_age: 7d, max_bytes: 16GiB, reserve: 1GiB}\n\
         passphrase_file: fleet-ca.pass\n",
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.listen.port()), ("north", 4600));
    assert_eq!(config.acceptance, Acceptance::Manual);
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!(config.passphrase_file.as_deref(), Some(Path::new("/x/fleet-ca.pass")));
    assert_eq!(config.file_roots["base"], [Path::new("/x/states"), Path::new("/srv/more")]);
    assert_eq!(config.nodegroups["two"], "a or b");
    assert_eq!(config.pending_ttl, Duration::from_secs(172_800));
    let kept = config.retention;
    assert_eq!((kept.age, kept.bytes), (Duration::from_secs(7 * 86_400), 16 << 30));
    assert_eq!((kept.undelivered, kept.reserve), (16 << 30, 1 << 30));
    assert!(config.reactor.is_some());
    assert_eq!(config.api_socket(), Path::new("/x/run/api.sock"));
    assert_eq!(config.bridges.unwrap().node().position.line, 11);
}

#[test]
fn an_installed_master_keeps_its_data_where_systems_keep_data() {
    let config = Config::parse("", Path::new(DEFAULT_DIRECTORY)).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/drover/master"));
    assert_eq!(config.run_dir, Path::new("/run/drover/master"));
    assert_eq!(config.file_roots["base"], [Path::new("/srv/drover/states")]);
}

#[test]
fn a_misspelt_key_is_refused_with_its_place_and_the_nearest_key() {
    assert_snapshot!(wrong("name: a\nacceptence: auto\n"), @r"
    master.yml:2:1: unknown key `acceptence`
        2 | acceptence: auto
    hint: did you mean `acceptance`?
    ");
}

#[test]
fn a_key_of_before_is_refused_with_its_new_name() {
    assert_snapshot!(wrong("name: a\nevent_age: 7d\n"), @r"
    master.yml:2:12: `event_age` has another name
        2 | event_age: 7d
    hint: write it as `events: {max_age: …}`
    ");
    assert!(wrong("events: {max_ago: 7d}\n").contains("hint: did you mean `max_age`?"));
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_what_is_wanted() {
    assert_snapshot!(wrong("listen: here\n"), @r"
    master.yml:1:9: `listen` must be an address and a port to listen on, such as `0.0.0.0:4510` or `[::]:4510`
        1 | listen: here
    ");
    assert_snapshot!(wrong("acceptance: all\n"), @r"
    master.yml:1:13: `acceptance` must be `registered`, `manual` or `auto`
        1 | acceptance: all
    ");
}

#[test]
fn a_log_level_that_would_silence_everything_is_refused() {
    assert_snapshot!(wrong("name: a\nlog_level: loud\n"), @r"
    master.yml:2:12: `log_level` must be `error`, `warn`, `info`, `debug`, `trace` or `off`; also by module, as `info,drover_proto=debug`
        2 | log_level: loud
    ");
    assert_eq!(
        parse("log_level: INFO,drover_proto=debug").unwrap().log_level,
        "INFO,drover_proto=debug"
    );
}

#[test]
fn a_wrong_or_circular_nodegroup_is_refused_with_its_place() {
    assert_snapshot!(wrong("nodegroups:\n  good: 'a*'\n  broken: 'a or'\n"), @r"
    master.yml:3:11: in the nodegroup `broken`: expected a matcher, but here the target ends
        3 |   broken: 'a or'
    hint: a matcher is a glob on the id, or as `G@role:rfid`
    ");
    let circle = wrong("nodegroups:\n  one: N@two\n  two: N@one\n");
    assert!(circle.starts_with("master.yml:2:8: in the nodegroup `one`: "), "{circle}");
    assert!(circle.contains("contains itself: `one` → `two` → `one`"), "{circle}");
}

#[test]
fn an_owner_of_a_section_complains_with_its_place() {
    let section = parse("name: a\nbridges:\n  - {type: soap}\n").unwrap().bridges.unwrap();
    assert_snapshot!(section.wrong(section.node(), "there is no bridge type `soap`"), @r"
    /x/master.yml:3:3: there is no bridge type `soap`
        3 |   - {type: soap}
    ");
}

#[test]
fn certificates_are_issued_for_a_time_or_never() {
    let month = Duration::from_secs(30 * 86_400);
    assert_eq!(parse("").unwrap().ldevid_validity, Some(month));
    assert_eq!(parse("ldevid_validity: never").unwrap().ldevid_validity, None);
    let config = parse("ldevid_validity: 20s\nmaster_validity: 365d\n").unwrap();
    assert_eq!(config.ldevid_validity, Some(Duration::from_secs(20)));
    assert_eq!(config.master_validity, Duration::from_secs(365 * 86_400));
    assert_snapshot!(wrong("ldevid_validity: 20ms\n"), @r"
    master.yml:1:18: `ldevid_validity` must be a duration of a second or more, such as `30d` or `12h`, or `never`
        1 | ldevid_validity: 20ms
    ");
}

#[test]
fn est_is_off_until_it_has_an_address_and_a_name() {
    assert_eq!(parse("").unwrap().est, None);
    let est = |text| parse(text).unwrap().est.unwrap();
    let names = |text| est(text).names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names("est_listen: 127.0.0.1:8443\n"), ["127.0.0.1"]);
    let text = "est_listen: 0.0.0.0:8443\nest_names: [est.example, '::1']\nest_connections: 8\n";
    assert_eq!(names(text), ["est.example", "::1"]);
    assert_eq!((est(text).listen.port(), est(text).limits.connections), (8443, 8));
    assert_snapshot!(wrong("name: a\nest_listen: '[::]:8443'\n"), @r"
    master.yml:2:13: `est_listen` is on all addresses, and `est_names` is missing
        2 | est_listen: '[::]:8443'
    hint: name what clients call this master, such as `est_names: [est.example.com, 192.0.2.1]`
    ");
    assert_snapshot!(wrong("est_listen: 127.0.0.1:8443\nest_names: ['a b']\n"), @r"
    master.yml:2:12: `est_names` must be a list of DNS names and IP addresses
        2 | est_names: ['a b']
    ");
}
