//! `grains.*`: what the device is, and what it is set to be. Enrolled grains are read, and never set.

use serde_json::{Map, Value, json};

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply, traverse};
use crate::{device::Device, error_chain};

/// `grains.items`: all of them.
pub struct Items;

impl ExecutionFunction for Items {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns all grains.\n\n    drover '*' grains.items";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        Reply::done(Value::Object(device.grains()))
    }
}

/// `grains.item KEY…`: some of them.
pub struct Item(Vec<String>);

impl ExecutionFunction for Item {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns the grains that are named, with their names.\n\n    \
                               drover '*' grains.item os osrelease";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        arguments.names("keys").map(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        let grains = Value::Object(device.grains());
        let found = self.0.into_iter().map(|key| {
            let value = traverse(&grains, &key, ":").cloned().unwrap_or_else(|| json!(""));
            (key, value)
        });
        Reply::done(Value::Object(found.collect::<Map<_, _>>()))
    }
}

/// `grains.get KEY [DEFAULT]`: one of them, or a value within it.
pub struct Get {
    key: String,
    default: Value,
    delimiter: String,
}

impl ExecutionFunction for Get {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns one grain, or a value deep in it: `a:b:0`. Empty, or the default, where \
                               there is none.\n\n    drover '*' grains.get ip4_interfaces:eth0 [DEFAULT]";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self {
            key: arguments.required_text("key", "the grain's name")?,
            default: arguments.value("default")?.unwrap_or_else(|| json!("")),
            delimiter: arguments.keyword_text("delimiter")?.unwrap_or_else(|| ":".into()),
        })
    }

    async fn run(self, device: &Device) -> Reply {
        let grains = Value::Object(device.grains());
        let found = traverse(&grains, &self.key, &self.delimiter).cloned();
        Reply::done(found.unwrap_or(self.default))
    }
}

/// `grains.setval KEY VALUE`: sets one, from now on.
pub struct Setval {
    key: String,
    value: Value,
}

impl ExecutionFunction for Setval {
    const EFFECT: Effect = Effect::Changing;
    const DOC: &'static str = "Sets a grain, and keeps it. A grain given at the enrolment station cannot be set.\n\n    \
                               drover '*' grains.setval role rfid";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let key = arguments.required_text("key", "the grain's name")?;
        let value = arguments.value("val")?.ok_or(ArgumentError::Missing {
            function: "grains.setval",
            name: "val",
            meaning: "the grain's value",
        })?;
        Ok(Self { key, value })
    }

    async fn run(self, device: &Device) -> Reply {
        match device.set_grain(&self.key, Some(self.value.clone())) {
            Ok(()) => Reply::done(json!({ self.key: self.value })),
            Err(why) => Reply::failed(error_chain(&why)),
        }
    }
}

/// `grains.delval KEY`: takes back what was set.
pub struct Delval(String);

impl ExecutionFunction for Delval {
    const EFFECT: Effect = Effect::Changing;
    const DOC: &'static str = "Takes back a grain that was set by `grains.setval`.\n\n    \
                               drover '*' grains.delval role";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        arguments.required_text("key", "the grain's name").map(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        match device.set_grain(&self.0, None) {
            Ok(()) => Reply::done(json!({ self.0: null })),
            Err(why) => Reply::failed(error_chain(&why)),
        }
    }
}
