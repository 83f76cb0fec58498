//! Asking somebody before what cannot be taken back, where somebody is there.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::failure::Failure;

/// Whether somebody is there to be asked.
pub(super) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether somebody says yes.
pub(super) fn ask() -> Result<bool, Failure> {
    eprint!("proceed? [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed("cannot read the answer").because(error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
