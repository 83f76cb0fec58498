//! The names that identities carry: minions, masters, stations, operators, fleets and hardware
//! serial numbers. Each is made only by parsing, so whoever holds one holds a valid one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, and the longest hardware serial number, in characters (RFC 5280's bound for
/// a common name and for `serialNumber`).
pub const LONGEST: usize = 64;

/// Why a text is not the name that it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// What was expected, such as `minion id`.
        what: &'static str,
    },
    /// More than [`LONGEST`] characters.
    #[error("{what} has {length} characters, {LONGEST} are the most")]
    TooLong {
        /// What was expected.
        what: &'static str,
        /// How many characters were given.
        length: usize,
    },
    /// The first character is not a letter or a digit.
    #[error("{what} `{given}` begins with `{found}`, not with a letter or a digit")]
    Beginning {
        /// What was expected.
        what: &'static str,
        /// The text, escaped.
        given: String,
        /// Its first character, escaped.
        found: String,
    },
    /// The first or the last character is a blank, which nobody sees on a label.
    #[error("{what} `{given}` begins or ends with a blank")]
    Blank {
        /// What was expected.
        what: &'static str,
        /// The text.
        given: String,
    },
    /// A character that the grammar does not have.
    #[error("{what} `{given}` has the character `{found}`, allowed are {allowed}")]
    Character {
        /// What was expected.
        what: &'static str,
        /// The text, escaped.
        given: String,
        /// The character, escaped.
        found: String,
        /// The characters that are allowed.
        allowed: &'static str,
    },
}

fn parse_name(what: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let allowed = "A-Z a-z 0-9 . _ -";
    check(what, text, allowed, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))?;
    match text.chars().next() {
        Some(first) if !first.is_ascii_alphanumeric() => Err(NameError::Beginning {
            what,
            given: text.escape_debug().to_string(),
            found: first.escape_debug().to_string(),
        }),
        Some(_) | None => Ok(text.into()),
    }
}

/// RFC 5280 wants `serialNumber` to be a `PrintableString` (X.680 §41.4). Its `?` is left out: the
/// encoder that the certificates go through does not write it.
fn parse_printable(what: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let allowed = "A-Z a-z 0-9 space ' ( ) + , - . / : =";
    check(what, text, allowed, |c| {
        c.is_ascii_alphanumeric()
            || matches!(c, ' ' | '\'' | '(' | ')' | '+' | ',' | '-' | '.' | '/' | ':' | '=')
    })?;
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(NameError::Blank { what, given: text.to_owned() });
    }
    Ok(text.into())
}

fn check(
    what: &'static str,
    text: &str,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 {
        return Err(NameError::Empty { what });
    }
    if length > LONGEST {
        return Err(NameError::TooLong { what, length });
    }
    match text.chars().find(|&c| !is_allowed(c)) {
        None => Ok(()),
        Some(found) => Err(NameError::Character {
            what,
            given: text.escape_debug().to_string(),
            found: found.escape_debug().to_string(),
            allowed,
        }),
    }
}

// Six types with one behaviour; a generic name would let one be passed for another.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $parse:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $parse($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A minion's id: 1–64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or a digit.
    MinionId, "minion id", parse_name
}
name! {
    /// A master's name: a label, in the grammar of [`MinionId`].
    MasterName, "master name", parse_name
}
name! {
    /// An operator's name, in the grammar of [`MinionId`].
    OperatorName, "operator name", parse_name
}
name! {
    /// The name of something that is not Drover's and has a certificate of the fleet's, in the grammar of [`MinionId`].
    ServiceName, "name", parse_name
}
name! {
    /// An enrolment station's name, in the grammar of [`MinionId`].
    StationName, "station name", parse_name
}
name! {
    /// A fleet's name, in the grammar of [`MinionId`].
    FleetName, "fleet name", parse_name
}
name! {
    /// A device's hardware serial number: 1–64 of `A-Z a-z 0-9 space ' ( ) + , - . / : =`,
    /// without a blank at either end.
    HardwareSerial, "hardware serial number", parse_printable
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn refusal(text: &str) -> NameError {
        text.parse::<MinionId>().unwrap_err()
    }

    #[test]
    fn ids_keep_to_their_grammar() {
        for good in ["a", "0", "rfid-0001", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<MinionId>().unwrap().as_str(), good);
        }
        assert_snapshot!(refusal(""), @"minion id is empty");
        assert_snapshot!(refusal(&"x".repeat(65)), @"minion id has 65 characters, 64 are the most");
        assert_snapshot!(refusal("-a"), @"minion id `-a` begins with `-`, not with a letter or a digit");
        assert_snapshot!(refusal("a/b"), @"minion id `a/b` has the character `/`, allowed are A-Z a-z 0-9 . _ -");
        assert_snapshot!(refusal("a\n"), @r"minion id `a\n` has the character `\n`, allowed are A-Z a-z 0-9 . _ -");
        assert_snapshot!(refusal("ä"), @"minion id `ä` has the character `ä`, allowed are A-Z a-z 0-9 . _ -");
    }

    #[test]
    fn hardware_serial_numbers_are_printable_strings() {
        assert_eq!("SN 10/04:7".parse::<HardwareSerial>().unwrap().as_str(), "SN 10/04:7");
        assert_snapshot!(
            "SN_1".parse::<HardwareSerial>().unwrap_err(),
            @"hardware serial number `SN_1` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : ="
        );
    }

    #[test]
    fn a_hardware_serial_number_that_no_certificate_can_hold_is_refused() {
        assert_snapshot!(
            "SN 1?".parse::<HardwareSerial>().unwrap_err(),
            @"hardware serial number `SN 1?` has the character `?`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : ="
        );
    }

    #[test]
    fn a_hardware_serial_number_with_a_blank_at_either_end_is_refused() {
        for given in [" SN1", "SN1 ", " "] {
            let refusal = given.parse::<HardwareSerial>().unwrap_err();
            assert!(matches!(refusal, NameError::Blank { .. }), "{refusal}");
        }
    }

    #[test]
    fn names_are_checked_when_deserialized() {
        assert_eq!(serde_json::from_str::<MinionId>("\"a\"").unwrap().as_str(), "a");
        assert!(serde_json::from_str::<MinionId>("\"a b\"").is_err());
    }
}
