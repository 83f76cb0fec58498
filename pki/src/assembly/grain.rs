//! Enrolled grains, as the command line, a device list and the station's settings give them. Values
//! are text, so that `0012` stays `0012`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A grain's name: of `A-Z a-z 0-9 . _ -`, and not `id`, which is the certificate's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GrainName(String);

/// Why a text names no grain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrainNameError {
    /// Empty, or a character that names do not have.
    #[error("a grain's name is made of A-Z a-z 0-9 . _ -, unlike `{}`", given.escape_debug())]
    Characters {
        /// The text.
        given: String,
    },
    /// The id is no grain that one may choose.
    #[error("the grain `id` is the certificate's")]
    Id,
}

impl GrainName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrainName {
    type Err = GrainNameError;

    fn from_str(text: &str) -> Result<Self, GrainNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || !text.chars().all(allowed) {
            return Err(GrainNameError::Characters { given: text.to_owned() });
        }
        if text == "id" {
            return Err(GrainNameError::Id);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for GrainName {
    type Error = GrainNameError;

    fn try_from(text: String) -> Result<Self, GrainNameError> {
        text.parse()
    }
}

impl From<GrainName> for String {
    fn from(name: GrainName) -> Self {
        name.0
    }
}

/// A grain's value: text that is seen whole, without line breaks and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GrainValue(String);

/// A text that is no grain's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a grain's value has no line breaks and no control characters, unlike `{}`", given.escape_debug())]
pub struct GrainValueError {
    given: String,
}

impl GrainValue {
    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrainValue {
    type Err = GrainValueError;

    fn from_str(text: &str) -> Result<Self, GrainValueError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for GrainValue {
    type Error = GrainValueError;

    fn try_from(text: String) -> Result<Self, GrainValueError> {
        if text.chars().any(char::is_control) {
            return Err(GrainValueError { given: text });
        }
        Ok(Self(text))
    }
}

impl From<GrainValue> for String {
    fn from(value: GrainValue) -> Self {
        value.0
    }
}
