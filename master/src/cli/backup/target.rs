//! The file that a backup goes to. It has its name when it is whole and on the disk; before that it has none at all, where the
//! file system can do so, and not even SIGKILL leaves half a backup with a key in it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::cli::failure::Failure;

/// A backup's mode: it has keys in it.
const PRIVATE: u32 = 0o600;

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct Target {
    file: PathBuf,
    out: File,
    /// The name that it has, or gets on its way.
    part: PathBuf,
    has_part: bool,
    force: bool,
}

impl Target {
    /// Begins a file of this name, before anybody sends anything.
    pub(super) fn begin(file: &Path, force: bool) -> Result<Self, Failure> {
        if fs::symlink_metadata(file).is_ok() && !force {
            return Err(Failure::wrong(format!("`{}` exists", file.display()))
                .hint("name another file, or overwrite it with --force"));
        }
        // A device would be replaced, not written to.
        if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
            return Err(Failure::wrong(format!("`{}` is no regular file", file.display())).hint(
                "name a file, or send it on: `drover backup - | ssh vault 'cat >master.backup'`",
            ));
        }
        let Some(name) = file.file_name() else {
            return Err(Failure::wrong(format!("`{}` is no file's name", file.display())));
        };
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".{}.part", std::process::id()));
        let part = file.with_file_name(part);
        let failed = |error| cannot_write(file, error);
        let (out, has_part) = match unnamed(directory_of(file)) {
            Ok(out) => (out, false),
            Err(_) => (named(&part).map_err(failed)?, true),
        };
        Ok(Self { file: file.to_owned(), out, part, has_part, force })
    }

    /// All of it was written.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.name().map_err(|error| cannot_write(&self.file, error))
    }

    fn name(&mut self) -> io::Result<()> {
        // A umask may have taken away what the owner needs.
        self.out.set_permissions(fs::Permissions::from_mode(PRIVATE))?;
        self.out.sync_all()?;
        match (self.has_part, self.force) {
            (false, false) => self.link(&self.file)?,
            (false, true) => {
                self.link(&self.part)?;
                self.has_part = true;
                fs::rename(&self.part, &self.file)?;
            }
            (true, false) => rename_to_new(&self.part, &self.file)?,
            (true, true) => fs::rename(&self.part, &self.file)?,
        }
        self.has_part = false;
        File::open(directory_of(&self.file))?.sync_all()
    }

    fn link(&self, name: &Path) -> io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.out.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, unnamed, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.has_part {
            // What is not whole is of no use to anybody, and has a key in it.
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn cannot_write(file: &Path, error: io::Error) -> Failure {
    Failure::failed(format!("cannot write `{}`", file.display())).because(error)
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file without a name, which goes with its last descriptor.
fn unnamed(directory: &Path) -> io::Result<File> {
    // By this it gets its name.
    fs::metadata("/proc/self/fd")?;
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::from_raw_mode(PRIVATE))?.into())
}

fn named(part: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(part)
}

/// A rename that overwrites nothing which came meanwhile. Unlike a hard link, FAT can do it.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems cannot.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if fs::symlink_metadata(to).is_err() =>
        {
            fs::rename(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(Errno::EXIST.into()),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// On a file system that knows files without a name, and as if on one that does not.
    fn both(check: impl Fn(&Path, &dyn Fn(&Path, bool) -> Target)) {
        let with_part = |file: &Path, force| {
            let mut target = Target::begin(file, force).unwrap();
            if !target.has_part {
                target.out = named(&target.part).unwrap();
                target.has_part = true;
            }
            target
        };
        for begin in [
            &|file: &Path, force| Target::begin(file, force).unwrap(),
            &with_part as &dyn Fn(&Path, bool) -> Target,
        ] {
            let directory = tempfile::tempdir().unwrap();
            check(directory.path(), begin);
        }
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_nobody_else_reads_it() {
        both(|directory, begin| {
            let file = directory.join("a");
            for (content, force) in [("one", false), ("two", true)] {
                let mut target = begin(&file, force);
                target.write_all(content.as_bytes()).unwrap();
                target.finish().unwrap();
                assert_eq!(fs::read_to_string(&file).unwrap(), content);
                assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
                assert_eq!(names(directory), ["a"]);
            }
        });
    }

    #[test]
    fn what_came_meanwhile_is_not_overwritten() {
        both(|directory, begin| {
            let file = directory.join("a");
            let target = begin(&file, false);
            fs::write(&file, "another").unwrap();
            assert!(target.finish().is_err());
            assert_eq!(fs::read_to_string(&file).unwrap(), "another");
            assert_eq!(names(directory), ["a"]);
        });
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        both(|directory, begin| {
            fs::write(directory.join("a"), "before").unwrap();
            begin(&directory.join("a"), true).write_all(b"half").unwrap();
            assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "before");
            assert_eq!(names(directory), ["a"]);
        });
    }

    #[test]
    fn a_file_of_a_process_that_is_killed_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut target = Target::begin(&directory.path().join("a"), false).unwrap();
        target.write_all(b"half").unwrap();
        assert!(names(directory.path()).is_empty(), "nothing to clean up after SIGKILL");
    }

    #[test]
    fn devices_directories_and_dangling_links_are_refused_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Target::begin(directory.path(), true).is_err());
        assert!(Target::begin(Path::new("/dev/null"), true).is_err());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(Target::begin(&link, false).is_err());
        assert!(Target::begin(&directory.path().join("none/a"), false).is_err());
    }
}
