use serde_json::json;

use super::*;

#[test]
fn a_word_that_is_no_level_is_no_log_level() {
    for level in ["info", "OFF", "warn,drover_proto=debug", "drover_proto[span]=trace"] {
        assert_eq!(log_level(level).as_deref(), Ok(level));
    }
    for wrong in ["loud", "", "info,loud", "=debug", "drover_proto=loud"] {
        assert!(log_level(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_text_stands_in_the_settings_or_in_a_file() {
    let take = |text: &str| {
        let root = crate::yaml::load_nodes(text).unwrap();
        let mut settings = Settings::new(Path::new("/x"), text, root.as_ref()).unwrap();
        let taken = settings.text_or_file("password").map_err(|wrong| wrong.to_string())?;
        settings.finish().map_err(|wrong| wrong.to_string()).map(|()| taken)
    };
    assert!(take("") == Ok(None));
    assert!(take("password: x y") == Ok(Some(TextOrFile::Text("x y".into()))));
    assert!(take("password_file: p") == Ok(Some(TextOrFile::File("/x/p".into()))));
    let both = take("password: x\npassword_file: p\n").err().unwrap();
    assert!(both.starts_with("line 2: there are both"), "{both}");
    assert!(take("password: 12\n").err().unwrap().contains("quote a number"));
    assert!(take("pasword: x\n").err().unwrap().contains("did you mean `password`?"));
}

#[test]
fn nothing_is_waited_for_longer_than_a_day() {
    let take = |text: &str| {
        let root = crate::yaml::load_nodes(text).unwrap();
        let mut settings = Settings::new(Path::new("/x"), text, root.as_ref()).unwrap();
        settings.wait("timeout").map_err(|wrong| wrong.to_string())
    };
    assert_eq!(take("timeout: 1d"), Ok(Some(Duration::from_secs(86_400))));
    for wrong in ["25h", "18446744073709551615", "1e19", "0s"] {
        let wrong = take(&format!("timeout: {wrong}")).unwrap_err();
        let wanted = "line 1: `timeout` must be a duration above zero and at most a day";
        assert!(wrong.starts_with(wanted), "{wrong}");
    }
}

#[test]
fn durations_and_sizes_have_units() {
    assert_eq!(duration(&json!("500ms")), Some(Duration::from_millis(500)));
    assert_eq!(duration(&json!("1.5h")), Some(Duration::from_secs(5400)));
    assert_eq!(duration(&json!(30)), Some(Duration::from_secs(30)));
    for wrong in [json!("0s"), json!("-1s"), json!("1y"), json!("soon"), json!(true)] {
        assert_eq!(duration(&wrong), None, "{wrong}");
    }
    assert_eq!(size(&json!("4MiB")), Some(4 << 20));
    assert_eq!(size(&json!(1000)), Some(1000));
    assert_eq!(size(&json!("9999999G")), None);
}
