//! A small disk that can be filled: a tmpfs, so its tests run as root.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

/// A mounted tmpfs.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size, such as `256k`, on a directory that is made where there is none.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).expect("the directory can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(&path);
        let status = mount.status().expect("`mount` is there");
        assert!(status.success(), "a tmpfs can be mounted");
        Self(path)
    }

    /// Writes a file until nothing more fits.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("the disk has room for a name");
        for size in [64 << 10, 512] {
            let bytes = vec![0; size];
            while filler.write(&bytes).is_ok_and(|written| written > 0) {}
        }
    }

    /// Fills it but for so many bytes.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn fill_but(&self, bytes: u64) {
        self.fill();
        let filler = File::options().write(true).open(self.filler()).expect("it was made");
        let length = filler.metadata().expect("it is there").len();
        filler.set_len(length.saturating_sub(bytes)).expect("a file can be made shorter");
    }

    /// Removes that file.
    ///
    /// # Panics
    /// When it is not there.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
