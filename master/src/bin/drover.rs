//! The operator's command line. Everything is in [`drover_master::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    drover_master::cli::main(std::env::args_os())
}
