//! A job's arguments, taken one by one by the function that they are for: by position or by name, as in Salt. What
//! is missing, of the wrong kind or left over is refused before anything runs.

use std::{collections::VecDeque, time::Duration};

use drover_proto::nearest::nearest;
use serde_json::{Map, Value};
use thiserror::Error;

/// The arguments of one call.
#[derive(Debug)]
pub struct Arguments {
    function: &'static str,
    positional: VecDeque<Value>,
    keyword: Map<String, Value>,
    known: Vec<&'static str>,
}

/// Why a function does not take its arguments. The caller is at fault, and nothing has run.
#[derive(Debug, Error, PartialEq)]
pub enum ArgumentError {
    /// One that has no default was not given.
    #[error("`{function}` needs `{name}`: {meaning}")]
    Missing {
        /// The function.
        function: &'static str,
        /// The argument.
        name: &'static str,
        /// What it is for.
        meaning: &'static str,
    },
    /// One of the wrong kind.
    #[error("`{name}` of `{function}` is {wanted}, not `{given}`")]
    Kind {
        /// The function.
        function: &'static str,
        /// The argument.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What was given.
        given: String,
    },
    /// By position and by name.
    #[error("`{name}` of `{function}` is given twice")]
    Twice {
        /// The function.
        function: &'static str,
        /// The argument.
        name: &'static str,
    },
    /// More by position than the function takes.
    #[error("`{function}` takes no further argument, but was given `{given}`")]
    TooMany {
        /// The function.
        function: &'static str,
        /// The first that is too many.
        given: String,
    },
    /// A name that the function does not know.
    #[error("`{function}` has no argument `{given}`{hint}", hint = hint(.near))]
    Unknown {
        /// The function.
        function: &'static str,
        /// The name that was given.
        given: String,
        /// The nearest one that it has.
        near: Option<&'static str>,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

impl Arguments {
    /// What a job brings for `function`. Salt's own `__pub_…` keywords are left out.
    #[must_use]
    pub fn new(
        function: &'static str,
        positional: Vec<Value>,
        keyword: Map<String, Value>,
    ) -> Self {
        let keyword = keyword.into_iter().filter(|(name, _)| !name.starts_with("__")).collect();
        Self { function, positional: positional.into(), keyword, known: Vec::new() }
    }

    /// The next argument by position, or else by name.
    ///
    /// # Errors
    /// When it is given both ways.
    pub fn value(&mut self, name: &'static str) -> Result<Option<Value>, ArgumentError> {
        let named = self.keyword_value(name);
        match self.positional.pop_front() {
            None => Ok(named),
            Some(_) if named.is_some() => {
                Err(ArgumentError::Twice { function: self.function, name })
            }
            Some(value) => Ok(Some(value)),
        }
    }

    /// An argument that is taken by name alone.
    pub fn keyword_value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.keyword.shift_remove(name)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not, or is no text.
    pub fn required_text(
        &mut self,
        name: &'static str,
        meaning: &'static str,
    ) -> Result<String, ArgumentError> {
        let value = self.value(name)?;
        self.text_of(name, value)?.ok_or(ArgumentError::Missing {
            function: self.function,
            name,
            meaning,
        })
    }

    /// A text by position or name; numbers and booleans are taken as they are written.
    ///
    /// # Errors
    /// When it is a list or a map.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
        let value = self.value(name)?;
        self.text_of(name, value)
    }

    /// A text by name alone.
    ///
    /// # Errors
    /// When it is a list or a map.
    pub fn keyword_text(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
        let value = self.keyword_value(name);
        self.text_of(name, value)
    }

    /// `true` or `false`, by name alone.
    ///
    /// # Errors
    /// When it is neither.
    pub fn keyword_flag(&mut self, name: &'static str) -> Result<Option<bool>, ArgumentError> {
        match self.keyword_value(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.kind(name, "true or false", &other)),
        }
    }

    /// A number of seconds, by position or name.
    ///
    /// # Errors
    /// When it is no number, or below 0.
    pub fn seconds(&mut self, name: &'static str) -> Result<Option<Duration>, ArgumentError> {
        let value = self.value(name)?;
        self.seconds_of(name, value)
    }

    /// A number of seconds, by name alone.
    ///
    /// # Errors
    /// When it is no number, or below 0.
    pub fn keyword_seconds(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Duration>, ArgumentError> {
        let value = self.keyword_value(name);
        self.seconds_of(name, value)
    }

    /// A map, by name alone.
    ///
    /// # Errors
    /// When it is something else.
    pub fn keyword_map(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, ArgumentError> {
        match self.keyword_value(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.kind(name, "a map", &other)),
        }
    }

    /// Names, as a list or with commas between, by position or name. Every further one by position is taken too.
    ///
    /// # Errors
    /// When one of them is no text.
    pub fn names(&mut self, name: &'static str) -> Result<Vec<String>, ArgumentError> {
        let mut given = Vec::from_iter(self.value(name)?);
        given.extend(self.positional.drain(..));
        let mut names = Vec::new();
        for value in given {
            let parts = if let Value::Array(parts) = value { parts } else { vec![value] };
            for part in parts {
                let text = self.text_of(name, Some(part))?.unwrap_or_default();
                names.extend(
                    text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(Into::into),
                );
            }
        }
        Ok(names)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> (Vec<Value>, Map<String, Value>) {
        (std::mem::take(&mut self.positional).into(), std::mem::take(&mut self.keyword))
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// When there is something.
    pub fn finish(self) -> Result<(), ArgumentError> {
        let function = self.function;
        if let Some(given) = self.positional.front() {
            return Err(ArgumentError::TooMany { function, given: shown(given) });
        }
        match self.keyword.keys().next() {
            None => Ok(()),
            Some(given) => Err(ArgumentError::Unknown {
                function,
                given: given.clone(),
                near: nearest(given, self.known.iter().copied()),
            }),
        }
    }

    /// The refusal of an argument of the wrong kind.
    #[must_use]
    pub fn kind(&self, name: &'static str, wanted: &'static str, given: &Value) -> ArgumentError {
        ArgumentError::Kind { function: self.function, name, wanted, given: shown(given) }
    }

    fn text_of(
        &self,
        name: &'static str,
        value: Option<Value>,
    ) -> Result<Option<String>, ArgumentError> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(other @ (Value::Array(_) | Value::Object(_))) => {
                Err(self.kind(name, "a text", &other))
            }
        }
    }

    fn seconds_of(
        &self,
        name: &'static str,
        value: Option<Value>,
    ) -> Result<Option<Duration>, ArgumentError> {
        let value = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Some)
            .ok_or_else(|| self.kind(name, "a number of seconds", &value))
    }
}

fn shown(value: &Value) -> String {
    let mut text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.len() > 80 {
        text = text.chars().take(80).collect::<String>() + "…";
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(positional: Value, keyword: Value) -> Arguments {
        let (Value::Array(positional), Value::Object(keyword)) = (positional, keyword) else {
            panic!("a list and a map")
        };
        Arguments::new("test.sleep", positional, keyword)
    }

    #[test]
    fn arguments_come_by_position_or_by_name() {
        let mut by_position = arguments(json!(["1.5"]), json!({"__pub_jid": "1"}));
        assert_eq!(by_position.seconds("length"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(by_position.finish(), Ok(()));
        let mut by_name = arguments(json!([]), json!({"length": 2}));
        assert_eq!(by_name.seconds("length"), Ok(Some(Duration::from_secs(2))));
        let mut twice = arguments(json!([1]), json!({"length": 2}));
        assert_eq!(
            twice.seconds("length").unwrap_err().to_string(),
            "`length` of `test.sleep` is given twice"
        );
    }

    #[test]
    fn what_a_function_does_not_take_is_refused_with_the_nearest_name() {
        let mut misspelt = arguments(json!([]), json!({"lenght": 2}));
        assert_eq!(misspelt.seconds("length"), Ok(None));
        assert_eq!(
            misspelt.finish().unwrap_err().to_string(),
            "`test.sleep` has no argument `lenght`; did you mean `length`?"
        );
        let mut wrong = arguments(json!(["soon"]), json!({}));
        assert_eq!(
            wrong.seconds("length").unwrap_err().to_string(),
            "`length` of `test.sleep` is a number of seconds, not `soon`"
        );
        let many = arguments(json!([1]), json!({}));
        assert!(matches!(many.finish(), Err(ArgumentError::TooMany { .. })));
    }

    #[test]
    fn names_are_taken_from_lists_and_from_commas() {
        let mut names = arguments(json!(["a,b", ["c", "d"]]), json!({}));
        assert_eq!(names.names("mods").unwrap(), ["a", "b", "c", "d"]);
    }
}
