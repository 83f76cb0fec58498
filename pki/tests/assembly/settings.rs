//! What a station is told once.

use insta::assert_snapshot;

use super::Factory;

#[test]
fn a_template_that_makes_no_id_is_refused_before_the_station_is_made() {
    let factory = Factory::with("");
    let again = "init-station --fleet fleet --name line-2 --dir line-2 --id-template";
    assert_snapshot!(factory.enrol(&format!("{again} rfid")), @r"
    status 2

    error: invalid value 'rfid' for '--id-template <TEMPLATE>': a template for ids has `{serial}` once, unlike `rfid`

    For more information, try '--help'.
    ");
    assert!(!factory.path("line-2").exists());
    assert!(!factory.path("line-1/station.json").exists());
}

#[test]
fn settings_that_were_edited_wrongly_stop_the_line_before_anything_is_issued() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\n");
    factory.write("line-1/station.json", r#"{"format": 1, "id_templat": "x-{serial}"}"#);
    assert_snapshot!(factory.enrol("batch --station line-1 --csv devices.csv --out out"), @r"
    status 2

    error: `line-1/station.json` cannot be used as a station's settings
      caused by: unknown field `id_templat`, expected one of `format`, `id_template`, `serial_pattern`, `masters`, `grains` at line 1 column 26
    hint: docs/enrolment.md says what it may hold
    ");
    assert!(!factory.path("out").exists());
}

#[test]
fn the_command_line_is_before_the_settings_and_a_cell_before_both() {
    let factory = Factory::with(
        "--id-template r-{serial} --master 10.0.0.1:4510 --grain site=bne --grain model=R1",
    );
    factory.write("devices.csv", "serial,model\nSN1,R2\nSN2,\n");
    let batch = "batch --station line-1 --csv devices.csv --out out --grain model=R3 --grain lot=7";
    factory.enrol(&format!("{batch} --master 10.0.0.2:4510")).ok();
    factory.enrol("manifest --station line-1 --out m").ok();
    let shown = factory.enrol("show m").ok().out;
    let grains = |id: &str| {
        let line = shown.lines().find(|line| line.contains(id)).unwrap();
        line.split_once(", key ").unwrap().1.split_once(", ").unwrap().1.to_owned()
    };
    assert_eq!(grains("r-SN1"), "lot=7, model=R2, site=bne");
    assert_eq!(grains("r-SN2"), "lot=7, model=R3, site=bne");
    let configuration = factory.read("out/r-SN1/minion.yml");
    assert!(configuration.contains("master: '10.0.0.2:4510'"), "{configuration}");
}

#[test]
fn the_help_teaches_what_a_list_and_the_loop_are() {
    let factory = Factory::with("");
    let help = factory.enrol("batch --help").ok().out;
    for told in ["FILE is CSV in UTF-8.", "devices.csv:  serial,id,site,model", "nothing is issued"]
    {
        assert!(help.contains(told), "{told}\n{help}");
    }
    let help = factory.enrol("station --help").ok().out;
    assert!(help.contains("`reissue REASON` gives"), "{help}");
    let completions = factory.enrol("completions bash").ok().out;
    for word in ["batch", "--csv", "--id-template", "--card", "label"] {
        assert!(completions.contains(word), "{word}");
    }
}
