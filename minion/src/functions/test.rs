//! `test.*`: is the minion there, and what does it make of arguments?

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply};
use crate::device::Device;

/// `test.ping`: `true`, if the minion is there.
pub struct Ping;

impl ExecutionFunction for Ping {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str =
        "Returns true: the minion is there and takes jobs.\n\n    drover '*' test.ping";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, _: &Device) -> Reply {
        Reply::done(Value::Bool(true))
    }
}

/// `test.echo TEXT`: the text.
pub struct Echo(Value);

impl ExecutionFunction for Echo {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns its argument.\n\n    drover '*' test.echo 'some text'";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let text = arguments.value("text")?;
        text.map(Self).ok_or(ArgumentError::Missing {
            function: "test.echo",
            name: "text",
            meaning: "what to return",
        })
    }

    async fn run(self, _: &Device) -> Reply {
        Reply::done(self.0)
    }
}

/// `test.arg …`: what the arguments were read as.
pub struct Arg(Vec<Value>, Map<String, Value>);

impl ExecutionFunction for Arg {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns the arguments as they arrived, by position and by name.\n\n    \
                               drover '*' test.arg 1 two three=[3]";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let (args, kwargs) = arguments.rest();
        Ok(Self(args, kwargs))
    }

    async fn run(self, _: &Device) -> Reply {
        Reply::done(json!({"args": self.0, "kwargs": self.1}))
    }
}

/// `test.sleep SECONDS`: waits, then `true`.
pub struct Sleep(Duration);

impl ExecutionFunction for Sleep {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str =
        "Waits so many seconds, then returns true.\n\n    drover '*' test.sleep 20";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        let length = arguments.seconds("length")?;
        length.map(Self).ok_or(ArgumentError::Missing {
            function: "test.sleep",
            name: "length",
            meaning: "seconds to wait",
        })
    }

    async fn run(self, _: &Device) -> Reply {
        tokio::time::sleep(self.0).await;
        Reply::done(Value::Bool(true))
    }
}

/// `test.version`: the agent's version.
pub struct Version;

impl ExecutionFunction for Version {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns the agent's version.\n\n    drover '*' test.version";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, _: &Device) -> Reply {
        Reply::done(json!(crate::VERSION))
    }
}

/// `test.versions`: the versions of the agent, its protocol and the kernel.
pub struct Versions;

impl ExecutionFunction for Versions {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Returns the versions of the agent, of its protocol and of the kernel.\n\n    \
                               drover '*' test.versions";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, _: &Device) -> Reply {
        let kernel = rustix::system::uname();
        Reply::done(json!({
            "drover": crate::VERSION,
            "protocol": drover_proto::message::PROTOCOL,
            "kernel": kernel.release().to_string_lossy(),
            "machine": kernel.machine().to_string_lossy(),
        }))
    }
}
