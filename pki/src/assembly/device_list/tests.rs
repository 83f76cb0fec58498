//! Lists as people and spreadsheets write them.

use insta::assert_snapshot;

use super::*;

fn template(text: &str) -> Settings {
    Settings::new(Some(text.parse().unwrap()), Vec::new(), BTreeMap::new())
}

fn list(text: &str) -> Vec<String> {
    list_with(text.as_bytes(), &Settings::default())
}

fn list_with(text: &[u8], settings: &Settings) -> Vec<String> {
    let devices = read_device_list(text, settings).unwrap().devices;
    let shown = |device: &Device| {
        let grains: Vec<_> = device
            .grains
            .iter()
            .map(|(name, value)| format!("{}={}", name.as_str(), value.as_str()))
            .collect();
        format!("{}: {} {} {}", device.row.line, device.serial, device.id, grains.join(" "))
    };
    devices.iter().map(shown).collect()
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    refusal_with(text, &Settings::default())
}

fn refusal_with(text: impl AsRef<[u8]>, settings: &Settings) -> String {
    let error = read_device_list(text.as_ref(), settings).unwrap_err();
    let lines: Vec<_> =
        error.wrong.iter().map(|line| format!("{line}\n    {}", line.text)).collect();
    format!("{error}\n{}", lines.join("\n"))
}

#[test]
fn a_list_as_a_person_writes_it() {
    let text =
        "serial, id, site\nSN1, a, bne\n\n\"SN2\",\"b\",\"Brisbane, \"\"North\"\"\"\nSN3, c,\n";
    assert_eq!(list(text), ["2: SN1 a site=bne", "4: SN2 b site=Brisbane, \"North\"", "5: SN3 c "]);
}

#[test]
fn a_list_as_a_spreadsheet_writes_it() {
    // A byte order mark, CRLF, empty rows at the end.
    let text = "\u{feff}serial,id,site\r\nSN1,a,bne\r\n\r\n0012,b,00\r\n,,\r\n,,\r\n";
    assert_eq!(list(text), ["2: SN1 a site=bne", "4: 0012 b site=00"]);
    assert_eq!(list("serial,id\n"), Vec::<String>::new());
    assert_eq!(list("id,x,serial\na,1,SN1"), ["2: SN1 a x=1"]);
}

#[test]
fn ids_come_from_the_stations_template_and_an_empty_cell_gives_no_grain() {
    let settings = template("rfid-{serial}");
    let text = b"serial,id,site\nSN1,,\nSN2,b,syd\n";
    assert_eq!(list_with(text, &settings), ["2: SN1 rfid-SN1 ", "3: SN2 b site=syd"]);
    assert_eq!(list_with(b"serial\nSN1\n", &settings), ["2: SN1 rfid-SN1 "]);
}

#[test]
fn a_signing_request_is_a_file_and_no_grain() {
    let settings = Settings::default();
    let devices =
        read_device_list(b"serial,id,csr\nSN1,a,a.csr\nSN2,b,\n", &settings).unwrap().devices;
    assert_eq!(devices[0].csr.as_deref(), Some(std::path::Path::new("a.csr")));
    assert_eq!((&devices[1].csr, devices[0].grains.len()), (&None, 0));
}

#[test]
fn every_wrong_line_is_told_with_its_number_and_column() {
    let text = "serial,id,site\n\
                SN1,a,bne\n\
                S_2,a b,bne\n\
                SN3,c\n\
                \n\
                SN1,d,bne\n\
                SN4,a,bne\n\
                SN5,,bne\n";
    assert_snapshot!(refusal(text), @r#"
    the list has 5 wrong lines
    line 3, column 1 (`serial`): hardware serial number `S_2` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
        S_2,a b,bne
    line 3, column 2 (`id`): minion id `a b` has the character ` `, allowed are A-Z a-z 0-9 . _ -
        S_2,a b,bne
    line 4: the row has 2 values, the header has 3
        SN3,c
    line 6, column 1 (`serial`): the serial number `SN1` stands on line 2 already
        SN1,d,bne
    line 7, column 2 (`id`): the id `a` stands on line 2 already
        SN4,a,bne
    line 8, column 2 (`id`): the id is empty, and the station has no template for ids
        SN5,,bne
    "#);
}

#[test]
fn a_quote_that_is_not_closed_is_not_a_value_of_many_lines() {
    assert_snapshot!(refusal("serial,id,site\nSN1,a,\"bne\nSN2,b,syd\n"), @r#"
    the list has a wrong line
    line 2: a quote `"` is opened here and not closed
        SN1,a,"bne
    "#);
    // With the wrong lines before it; in the last value of all; with other quotes behind it.
    assert_snapshot!(refusal("serial,id,site\nS_1,a,bne\n\nSN2,\"b,syd\nSN3,c,\"\"\n"), @r#"
    the list has 2 wrong lines
    line 2, column 1 (`serial`): hardware serial number `S_1` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
        S_1,a,bne
    line 4: a quote `"` is opened here and not closed
        SN2,"b,syd
    "#);
    assert_snapshot!(refusal("serial,id\nSN1,\"a\"\""), @r#"
    the list has a wrong line
    line 2: a quote `"` is opened here and not closed
        SN1,"a""
    "#);
    assert_snapshot!(refusal("serial,id,site\nSN1,\"a,bne\nSN2,b,\"syd\"\n"), @r#"
    the list has a wrong line
    line 2, column 2 (`id`): the value has a line break or a control character: is a quote `"` not closed?
        SN1,"a,bne
    "#);
    assert_snapshot!(refusal("serial,\"id\nSN1,a\n"), @r#"
    the list has a wrong line
    line 1: a quote `"` is opened here and not closed
        serial,"id
    "#);
    // They are closed, and two are one.
    assert_eq!(
        list("\u{feff}\"serial\",id,\"x\"\nSN1,a,\"1\"\"\"\nSN2,b,4\"\n"),
        ["2: SN1 a x=1\"", "3: SN2 b x=4\""]
    );
}

#[test]
fn a_row_after_values_of_several_lines_has_its_own_number() {
    assert_snapshot!(refusal("serial,id,x\r\nSN1,a,\"1\r\n2\r\n3\"\r\n\r\nS_2,b,1\r\n"), @r#"
    the list has 2 wrong lines
    line 2, column 3 (`x`): the value has a line break or a control character: is a quote `"` not closed?
        SN1,a,"1
    line 6, column 1 (`serial`): hardware serial number `S_2` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
        S_2,b,1
    "#);
}

#[test]
fn lines_that_end_in_a_carriage_return_alone_are_counted_too() {
    assert_eq!(list("serial,id\rSN1,a\r\rSN2,b\r"), ["2: SN1 a ", "4: SN2 b "]);
}

#[test]
fn a_serial_number_that_makes_no_id_is_told() {
    assert_snapshot!(refusal_with("serial\n10/04\n", &template("rfid-{serial}")), @r"
    the list has a wrong line
    line 2, column 1 (`serial`): the template `rfid-{serial}` makes no id of the serial number `10/04`: minion id `rfid-10/04` has the character `/`, allowed are A-Z a-z 0-9 . _ -
        10/04
    ");
}

#[test]
fn a_serial_number_that_does_not_fit_the_stations_pattern_is_told() {
    let mut settings = template("rfid-{serial}");
    settings.serial_pattern = Some("SN[0-9]{4}".parse().unwrap());
    assert_snapshot!(refusal_with("serial\nSN0001\n4006381333931\n", &settings), @"
    the list has a wrong line
    line 3, column 1 (`serial`): the serial number `4006381333931` does not fit the station's pattern `SN[0-9]{4}`
        4006381333931
    ");
}

#[test]
fn two_rows_that_come_to_one_id_are_told() {
    assert_snapshot!(refusal_with("serial,id\n7,\n8,r-7\n", &template("r-{serial}")), @r"
    the list has a wrong line
    line 3, column 2 (`id`): the id `r-7` stands on line 2 already
        8,r-7
    ");
}

#[test]
fn another_encoding_or_separator_is_told() {
    assert_snapshot!(refusal(b"serial,id,site\nSN1,a,Z\xfcrich\n"), @r"
    the list has a wrong line
    line 2, column 3 (`site`): the text is not UTF-8: save the file as `CSV UTF-8`
        SN1,a,Z�rich
    ");
    let utf16: Vec<u8> = "\u{feff}serial,id\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refusal(utf16).contains("line 1, column 1 (``): the text is not UTF-8"));
    assert_snapshot!(refusal("serial;id;site\nSN1;a;bne\n"), @r"
    the list has a wrong line
    line 1: columns are separated by a comma, not by `;`
        serial;id;site
    ");
}

#[test]
fn a_header_that_is_wrong_is_told() {
    assert_snapshot!(refusal(""), @r"
    the list has a wrong line
    line 1: the file is empty, its first line is a header such as `serial,id,site`
    ");
    assert_snapshot!(refusal("SN1,a,bne\n"), @r"
    the list has a wrong line
    line 1: the header has no column `serial`
        SN1,a,bne
    line 1: the header has no column `id`, and the station has no template for ids
        SN1,a,bne
    ");
    assert_snapshot!(refusal("serial,id,site,Site code,site,\n"), @r"
    the list has a wrong line
    line 1, column 4 (`Site code`): a grain's name is made of A-Z a-z 0-9 . _ -, unlike `Site code`
        serial,id,site,Site code,site,
    line 1, column 5 (`site`): the header has the column `site` twice
        serial,id,site,Site code,site,
    line 1, column 6 (``): a grain's name is made of A-Z a-z 0-9 . _ -, unlike ``
        serial,id,site,Site code,site,
    ");
}

#[test]
fn a_conflict_is_told_like_any_other_wrong_line() {
    let list = read_device_list(b"serial,id\nSN1,a\n", &Settings::default()).unwrap();
    let row = list.devices[0].row.clone();
    let wrong = list.conflict(row, Part::Id, "the id `a` is taken".to_owned());
    assert_eq!(wrong.to_string(), "line 2, column 2 (`id`): the id `a` is taken");
    assert_eq!(wrong.text, "SN1,a");
}
