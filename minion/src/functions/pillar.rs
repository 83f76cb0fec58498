//! `pillar.*`: what the master tells this minion alone.

use serde_json::{Map, Value, json};

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply, traverse};
use crate::{device::Device, error_chain};

/// `pillar.items [KEY…]`: all of it, or what is named.
pub struct Items(Vec<String>);

impl ExecutionFunction for Items {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns the pillar, asked for anew.\n\n    drover '*' pillar.items";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        arguments.names("keys").map(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        match device.pillar("base").await {
            Err(why) => Reply::failed(error_chain(&why)),
            Ok(pillar) if self.0.is_empty() => Reply::done(Value::Object(pillar)),
            Ok(pillar) => {
                let pillar = Value::Object(pillar);
                let found = self.0.into_iter().map(|key| {
                    let value = traverse(&pillar, &key, ":").cloned().unwrap_or_else(|| json!(""));
                    (key, value)
                });
                Reply::done(Value::Object(found.collect::<Map<_, _>>()))
            }
        }
    }
}

/// `pillar.get KEY [DEFAULT]`: one value of it.
pub struct Get {
    key: String,
    default: Value,
    delimiter: String,
}

impl ExecutionFunction for Get {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns one value of the pillar, also deep in it: `a:b:0`. Empty, or the default, \
                               where there is none.\n\n    drover '*' pillar.get registry [DEFAULT]";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self {
            key: arguments.required_text("key", "where the value stands")?,
            default: arguments.value("default")?.unwrap_or_else(|| json!("")),
            delimiter: arguments.keyword_text("delimiter")?.unwrap_or_else(|| ":".into()),
        })
    }

    async fn run(self, device: &Device) -> Reply {
        match device.pillar("base").await {
            Err(why) => Reply::failed(error_chain(&why)),
            Ok(pillar) => {
                let pillar = Value::Object(pillar);
                let found = traverse(&pillar, &self.key, &self.delimiter).cloned();
                Reply::done(found.unwrap_or(self.default))
            }
        }
    }
}
