//! Salt's states for devices: rendering and compiling SLS files, the plan machine that orders and
//! gates them, and the state modules. The minion runs them; the master compiles previews and pillar.

pub mod accounts;
pub mod compile;
pub mod diagnostic;
pub mod docker;
pub mod files;
pub mod host;
pub mod low;
pub mod module;
pub mod pillar;
pub mod plan;
pub mod process;
pub mod render;
pub mod run;
pub mod settings;
pub mod yaml;

pub use compile::{Compiler, TargetMatcher};
pub use diagnostic::{CompileErrors, Diagnostic};
pub use files::{DirectoryRoots, FileError, FileSource};
pub use host::Host;
pub use low::LowState;
pub use pillar::Pillar;
pub use render::{Context, ExecutionFunctions};
pub use run::{Run, RunOptions, StateReturn};
