//! The process that reads the journal: its lines as they come, without ever waiting for one.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
    process::{self, ChildStderr, ChildStdout, Command, Stdio},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// A line may be this long; what is longer is passed over.
pub(super) const LONGEST: usize = 256 << 10;
const CHUNK: usize = 16 << 10;
/// How much of what it complains of is kept.
const COMPLAINT: usize = 500;

#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    lines: ChildStdout,
    complaints: ChildStderr,
    /// What was read and not taken yet.
    read: Vec<u8>,
    /// Up to where there is no line's end in it.
    searched: usize,
    skips_line: bool,
    is_at_end: bool,
    complaint: Vec<u8>,
}

impl Child {
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let mut process = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(lines), Some(complaints)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        for pipe in [lines.as_fd(), complaints.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            process,
            lines,
            complaints,
            read: Vec::new(),
            searched: 0,
            skips_line: false,
            is_at_end: false,
            complaint: Vec::new(),
        })
    }

    /// The next whole line that is there.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.read, rest);
                line.pop();
                self.searched = 0;
                if std::mem::take(&mut self.skips_line) {
                    continue;
                }
                return Some(line);
            }
            self.searched = self.read.len();
            if self.searched > LONGEST {
                self.read = Vec::new();
                self.searched = 0;
                self.skips_line = true;
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Whether it will say nothing more. To be asked when there is no line.
    pub(super) fn has_ended(&mut self) -> bool {
        self.hear_complaints();
        self.is_at_end
    }

    /// Why it ended.
    pub(super) fn last_words(mut self) -> String {
        let status = self.process.try_wait().ok().flatten();
        let said = String::from_utf8_lossy(&self.complaint).trim().to_owned();
        match (said.is_empty(), status) {
            (false, _) => said,
            (true, Some(status)) => status.to_string(),
            (true, None) => "it closed its output".to_owned(),
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        match self.lines.read(&mut chunk) {
            Ok(0) => self.is_at_end = true,
            Ok(read) => {
                self.read.extend_from_slice(&chunk[..read]);
                return true;
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            Err(why) if why.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.is_at_end = true,
        }
        false
    }

    /// Read in any case: a pipe that is full would hold the process up.
    fn hear_complaints(&mut self) {
        let mut chunk = [0; COMPLAINT];
        while let Ok(read @ 1..) = self.complaints.read(&mut chunk) {
            self.complaint.extend_from_slice(&chunk[..read]);
            let surplus = self.complaint.len().saturating_sub(COMPLAINT);
            self.complaint.drain(..surplus);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
