//! What the serial numbers of a station's devices look like, so that the wrong barcode on a board, or
//! on the box that it came in, is no device.

use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::name::HardwareSerial;

/// A regular expression that fits whole serial numbers, such as `SN[0-9]{4}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialPattern {
    text: String,
    whole: Regex,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no regular expression: {reason}", given.escape_debug())]
pub struct SerialPatternError {
    given: String,
    reason: String,
}

/// A serial number that no device of the station has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the serial number `{serial}` does not fit the station's pattern `{pattern}`")]
pub struct UnfitSerial {
    serial: HardwareSerial,
    pattern: String,
}

impl SerialPattern {
    /// Refuses a serial number that does not fit from its first character to its last.
    ///
    /// # Errors
    /// With both of them.
    pub fn check(&self, serial: &HardwareSerial) -> Result<(), UnfitSerial> {
        if self.whole.is_match(serial.as_str()) {
            return Ok(());
        }
        Err(UnfitSerial { serial: serial.clone(), pattern: self.text.clone() })
    }
}

impl FromStr for SerialPattern {
    type Err = SerialPatternError;

    fn from_str(text: &str) -> Result<Self, SerialPatternError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for SerialPattern {
    type Error = SerialPatternError;

    fn try_from(text: String) -> Result<Self, SerialPatternError> {
        // By itself first: `a)(b` would be one within the brackets.
        let whole = Regex::new(&text).and_then(|_| Regex::new(&format!(r"\A(?:{text})\z")));
        match whole {
            Ok(whole) => Ok(Self { text, whole }),
            Err(error) => Err(SerialPatternError { given: text, reason: reason(&error) }),
        }
    }
}

/// The last line: those before it draw where in the pattern it is.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl From<SerialPattern> for String {
    fn from(pattern: SerialPattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for SerialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for SerialPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SerialPattern {}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_serial_number_fits_from_its_first_character_to_its_last() {
        let fits = |pattern: &str, serial: &str| {
            let pattern: SerialPattern = pattern.parse().unwrap();
            pattern.check(&serial.parse().unwrap()).is_ok()
        };
        for (pattern, serial) in [(r"SN\d{4}", "SN0001"), ("a|bc", "bc"), ("^x$", "x")] {
            assert!(fits(pattern, serial), "{pattern} {serial}");
        }
        for (pattern, serial) in
            [(r"SN\d{4}", "SN00012"), (r"SN\d{4}", "XSN0001"), ("a|bc", "abc"), ("a", "A")]
        {
            assert!(!fits(pattern, serial), "{pattern} {serial}");
        }
        let pattern: SerialPattern = r"SN\d{4}".parse().unwrap();
        assert_snapshot!(
            pattern.check(&"4006381333931".parse().unwrap()).unwrap_err(),
            @r"the serial number `4006381333931` does not fit the station's pattern `SN\d{4}`"
        );
    }

    #[test]
    fn what_is_no_regular_expression_is_refused_with_the_reason_on_one_line() {
        let refusal = |text: &str| text.parse::<SerialPattern>().unwrap_err();
        assert_snapshot!(refusal("SN[0-9"), @"`SN[0-9` is no regular expression: unclosed character class");
        refusal("a)(b");
        refusal("a{1000000000}");
    }
}
