//! Salt's states for devices: rendering and compiling SLS files, the plan machine that orders and
//! gates them, and the state modules. The minion runs them; the master compiles previews and pillar.

pub mod diagnostic;
pub mod docker;
pub mod files;
pub mod host;
pub mod module;
mod nearest;
pub mod yaml;
