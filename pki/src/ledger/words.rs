//! What a person says to the station, kept in its ledger: who they are, and why they did it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not what it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Nothing was given, or blanks alone.
    #[error("{what} is empty")]
    Empty {
        /// What was expected, such as `a reason`.
        what: &'static str,
    },
    /// More characters than it may have.
    #[error("{what} has {length} characters, {longest} are the most")]
    TooLong {
        /// What was expected.
        what: &'static str,
        /// How many characters were given.
        length: usize,
        /// How many it may have.
        longest: usize,
    },
    /// A line break, or another character that nobody sees.
    #[error("{what} has a control character, which a ledger line cannot show")]
    Control {
        /// What was expected.
        what: &'static str,
    },
}

fn parse(what: &'static str, longest: usize, text: &str) -> Result<Arc<str>, WordsError> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 {
        return Err(WordsError::Empty { what });
    }
    if length > longest {
        return Err(WordsError::TooLong { what, length, longest });
    }
    if text.chars().any(char::is_control) {
        return Err(WordsError::Control { what });
    }
    Ok(text.into())
}

// Two types with one behaviour, so that a person is never written down as a reason.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, $longest:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordsError;

            fn from_str(text: &str) -> Result<Self, WordsError> {
                parse($what, $longest, text).map(Self)
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

words! {
    /// Who did something at a station: 1–64 characters, as the ledger shows them. Nothing proves it.
    Actor, "who did it", 64
}
words! {
    /// Why somebody re-issued or revoked a certificate: 1–200 characters, on one line.
    Reason, "a reason", 200
}

impl Reason {
    /// An error as the station told it, with its causes, cut to what a reason may have.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        let printable: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        printable.parse().unwrap_or_else(|_| Self("refused".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_line_without_blanks_around() {
        assert_eq!(" wrong board \n".parse::<Reason>().unwrap().as_str(), "wrong board");
        assert_eq!("Jörg".parse::<Actor>().unwrap().to_string(), "Jörg");
        assert_eq!("  ".parse::<Reason>(), Err(WordsError::Empty { what: "a reason" }));
        assert_eq!("a\tb".parse::<Actor>(), Err(WordsError::Control { what: "who did it" }));
        let long = "x".repeat(201).parse::<Reason>().unwrap_err();
        assert_eq!(long.to_string(), "a reason has 201 characters, 200 are the most");
    }
}
