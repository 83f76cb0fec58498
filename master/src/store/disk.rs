//! The disk that the store lies on: how much of it is free.

use std::{fs::File, io, path::Path};

use rustix::fs::fstatvfs;

pub(super) struct Disk {
    directory: File,
}

impl Disk {
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: File::open(directory)? })
    }

    /// Bytes that this process may still write.
    pub(super) fn free(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.directory)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
