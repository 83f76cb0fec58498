//! The reactor: rules of `master.yml` that meet events, and what they do. [`Rules`] says what an event asks for,
//! [`Guard`] when it may run, [`Causes`] whether it would run in circles; [`ReactorTask`] reads the log and acts.

mod causes;
mod context;
mod effects;
mod guard;
mod handle;
mod reaction;
mod record;
mod rules;
mod task;

pub use causes::Causes;
pub use context::context;
pub use effects::{EffectError, Effects};
pub use guard::{Cause, Firing, Guard, Notice};
pub use handle::ReactorHandle;
pub use reaction::{Reaction, USER};
pub use rules::{Rendered, Rules};
pub use task::{ReactorStopped, ReactorTask};
