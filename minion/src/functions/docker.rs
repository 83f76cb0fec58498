//! `docker.*`: what the container engine of this device has.

use drover_states::docker::ps;
use serde_json::json;

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply};
use crate::{device::Device, error_chain};

/// `docker.ps [all=True]`: the containers.
pub struct Ps {
    all: bool,
}

impl ExecutionFunction for Ps {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str =
        "Lists the containers that run, or all of them.\n\n    drover '*' docker.ps all=True";

    fn parse(arguments: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self { all: arguments.keyword_flag("all")?.unwrap_or(false) })
    }

    async fn run(self, device: &Device) -> Reply {
        match ps(&device.engine(), self.all).await {
            Ok(rows) => Reply::done(json!(rows)),
            Err(why) => Reply::failed(match why.hint() {
                Some(hint) => format!("{}\nhint: {hint}", error_chain(&why)),
                None => error_chain(&why),
            }),
        }
    }
}
