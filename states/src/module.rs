//! State modules: what a state function reads, what it would change, and how it changes it. Compiling
//! parses a chunk's arguments into a [`Module`]; the run observes, diffs and applies it. A new
//! function is a file beneath `module/` with one struct, and a variant here.

use std::fmt;
use std::future::Future;

use serde_json::{Map, Value};

use crate::docker::{
    ContainerAbsent, ContainerRunning, ContainerStopped, ImageAbsent, ImagePresent,
};
use crate::host::Host;

mod arguments;
pub(crate) mod cmd;
pub(crate) mod file;
mod outcome;
pub(crate) mod test;

pub(crate) use arguments::scalar_text;
pub use arguments::{ArgumentError, Arguments};
pub use outcome::{Failure, Outcome};

/// One state function with its arguments parsed: what every state module implements.
///
/// `observe` and `diff` together are the dry run. The law of every module: after `apply`, `diff` of
/// a new observation is empty.
pub trait StateModule: Sized + Send + Sync {
    /// What `observe` found.
    type Observed: Send + Sync;
    /// One step of a diff; its `Display` is the sentence that the operator reads.
    type Step: fmt::Display + Send + Sync;

    /// Reads the arguments. Problems are noted in `arguments`, and the chunk is refused if there
    /// are any, so what is returned then does not matter.
    fn parse(arguments: &mut Arguments<'_>) -> Self;

    /// Reads the present condition and changes nothing.
    ///
    /// # Errors
    /// What keeps the state from knowing: the state fails with that comment.
    fn observe(&self, host: &Host) -> impl Future<Output = Result<Self::Observed, Failure>> + Send;

    /// The steps from what was observed to what is wanted; empty when nothing is to be done.
    ///
    /// # Errors
    /// What can never be reached from here: the state fails, in a dry run too.
    fn diff(&self, observed: &Self::Observed) -> Result<Vec<Self::Step>, Failure>;

    /// Carries the steps out. Says itself what has changed, because it alone knows how far it came.
    fn apply(
        &self,
        host: &Host,
        observed: Self::Observed,
        steps: Vec<Self::Step>,
    ) -> impl Future<Output = Outcome> + Send;

    /// The comment when nothing is to be done.
    fn unchanged(&self, observed: &Self::Observed) -> String;

    /// The `changes` that a dry run foretells; empty unless the module knows better.
    fn foretold(&self, observed: &Self::Observed, steps: &[Self::Step]) -> Map<String, Value> {
        let _ = (observed, steps);
        Map::new()
    }

    /// Notes in `host` what later states of a dry run would find changed.
    fn foretell(&self, host: &Host, observed: &Self::Observed) {
        let _ = (host, observed);
    }

    /// What a dry run says: by default the steps, one sentence each.
    fn would(&self, steps: &[Self::Step]) -> String {
        steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Salt's `mod_watch`: runs when a watched state has changed and this state itself has not; its
    /// outcome replaces the state's. `None` for a module that has none (watch is then require).
    fn watched(&self, host: &Host, test: bool) -> impl Future<Output = Option<Outcome>> + Send {
        let _ = (host, test);
        std::future::ready(None)
    }
}

/// Observes, diffs and, unless `test`, applies one state.
pub(crate) async fn run<M: StateModule>(module: &M, host: &Host, test: bool) -> Outcome {
    let observed = match module.observe(host).await {
        Ok(observed) => observed,
        Err(failure) => return failure.into(),
    };
    match module.diff(&observed) {
        Err(failure) => failure.into(),
        Ok(steps) if steps.is_empty() => Outcome::unchanged(module.unchanged(&observed)),
        Ok(steps) if test => {
            module.foretell(host, &observed);
            Outcome::would(module.would(&steps), module.foretold(&observed, &steps))
        }
        Ok(steps) => module.apply(host, observed, steps).await,
    }
}

/// Declares [`Module`]: one line for each state function, delegating to its struct.
macro_rules! modules {
    ($($name:literal => $variant:ident($module:ty),)+) => {
        /// Every state function, its arguments parsed.
        pub enum Module {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant($module),
            )+
        }

        impl Module {
            /// The names of all functions.
            pub const FUNCTIONS: &'static [&'static str] = &[$($name),+];

            /// Parses the arguments of a known function; `None` for an unknown one.
            pub(crate) fn parse(function: &str, arguments: &mut Arguments<'_>) -> Option<Self> {
                match function {
                    $($name => Some(Self::$variant(<$module>::parse(arguments))),)+
                    _ => None,
                }
            }

            // Boxed: the largest module's future would else be part of every caller's.

            /// Observes, diffs and, unless `test`, applies.
            pub(crate) async fn run(&self, host: &Host, test: bool) -> Outcome {
                match self {
                    $(Self::$variant(module) => Box::pin(run(module, host, test)).await,)+
                }
            }

            /// Salt's `mod_watch`; `None` where the module has none.
            pub(crate) async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
                match self {
                    $(Self::$variant(module) => Box::pin(module.watched(host, test)).await,)+
                }
            }
        }
    };
}

modules! {
    "cmd.run" => CmdRun(cmd::Run),
    "cmd.wait" => CmdWait(cmd::Wait),
    "docker_container.absent" => ContainerAbsent(ContainerAbsent),
    "docker_container.running" => ContainerRunning(ContainerRunning),
    "docker_container.stopped" => ContainerStopped(ContainerStopped),
    "docker_image.absent" => ImageAbsent(ImageAbsent),
    "docker_image.present" => ImagePresent(ImagePresent),
    "file.absent" => FileAbsent(file::absent::Absent),
    "file.directory" => FileDirectory(file::directory::Directory),
    "file.managed" => FileManaged(file::managed::Managed),
    "file.symlink" => FileSymlink(file::symlink::Symlink),
    "test.configurable_test_state" => TestConfigurable(test::Configured),
    "test.fail_with_changes" => TestFailWithChanges(test::Pretend<true, false>),
    "test.fail_without_changes" => TestFailWithoutChanges(test::Pretend<false, false>),
    "test.nop" => TestNop(test::Pretend<false, true>),
    "test.show_notification" => TestShowNotification(test::Notification),
    "test.succeed_with_changes" => TestSucceedWithChanges(test::Pretend<true, true>),
    "test.succeed_without_changes" => TestSucceedWithoutChanges(test::Pretend<false, true>),
}
