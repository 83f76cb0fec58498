//! The disk that the store lies on: how much of it is free, and the part of the reserve that lies there as a file, so that
//! nobody else fills it. It is given back piece by piece when the engine would else find no room.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

/// The file's name in the data directory.
const RESERVE: &str = "reserve";

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

/// The reserve's file.
pub(super) struct Ballast {
    file: File,
    size: u64,
}

impl Ballast {
    /// Gives all of it back before the engine starts on a disk that has nothing left: starting writes, too.
    pub(super) fn make_room(directory: &Path) -> io::Result<()> {
        let file = match OpenOptions::new().write(true).open(directory.join(RESERVE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if Disk::of(directory)?.free()? < file.metadata()?.len() {
            file.set_len(0)?;
        }
        Ok(())
    }

    /// Takes up what is there.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(RESERVE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Makes it this large, if the disk has the room and its file system can promise it; else it is what it was.
    pub(super) fn fill(&mut self, size: u64) {
        if self.size > size {
            let _ = self.release(self.size - size);
        } else if self.size < size
            && fallocate(&self.file, FallocateFlags::empty(), 0, size).is_ok()
        {
            self.size = size;
        }
    }

    /// Gives so many bytes of it back.
    pub(super) fn release(&mut self, bytes: u64) -> io::Result<()> {
        let size = self.size.saturating_sub(bytes);
        self.file.set_len(size)?;
        self.size = size;
        Ok(())
    }
}
