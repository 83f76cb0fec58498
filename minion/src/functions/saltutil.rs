//! `saltutil.*`: the agent's own affairs, under the name that scripts know.

use serde_json::Value;

use super::{ArgumentError, Arguments, Effect, ExecutionFunction, Reply};
use crate::{device::Device, error_chain};

/// `saltutil.running`: the jobs that run or wait here.
pub struct Running;

impl ExecutionFunction for Running {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str =
        "Lists the jobs that run here or wait for their turn.\n\n    drover '*' saltutil.running";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        Reply::done(device.running_jobs())
    }
}

/// `saltutil.refresh_pillar`: asks for the pillar and keeps it for runs without the master.
pub struct RefreshPillar;

impl ExecutionFunction for RefreshPillar {
    const EFFECT: Effect = Effect::ReadOnly;
    const DOC: &'static str = "Asks the master for the pillar, and keeps it for runs without the master.\n\n    \
                               drover '*' saltutil.refresh_pillar";

    fn parse(_: &mut Arguments) -> Result<Self, ArgumentError> {
        Ok(Self)
    }

    async fn run(self, device: &Device) -> Reply {
        match device.pillar("base").await {
            Ok(_) => Reply::done(Value::Bool(true)),
            Err(why) => Reply::failed(error_chain(&why)),
        }
    }
}
