//! Passphrases of keys and PINs of tokens: read from a descriptor, a file or a terminal, and zeroed
//! when dropped. They stand in no argument, no error and no debug output.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use zeroize::Zeroizing;

/// A passphrase is one line, and no line is longer.
const LONGEST: usize = 4096;
/// How often a person may mistype.
const ATTEMPTS: usize = 3;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// It could not be read.
    #[error("could not read the passphrase from {origin}")]
    Read {
        /// Where from.
        origin: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The first line is empty, or there is none.
    #[error("{origin} has no passphrase in its first line")]
    Empty {
        /// Where from.
        origin: String,
    },
    /// Nobody was asked.
    #[error("no passphrase was given for {key}")]
    Missing {
        /// What it opens.
        key: String,
    },
    /// The two that were typed are not the same.
    #[error("the two passphrases differ")]
    Differ,
}

impl PassphraseError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Empty { .. } => {
                Some("give it with --passphrase-file FILE or --passphrase-fd N, or on a terminal")
            }
            Self::Read { .. } | Self::Differ => None,
        }
    }
}

/// A passphrase or a PIN. It is never empty.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes a text; `None` for an empty one.
    pub fn new(text: &[u8]) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Zeroizing::new(text.to_vec())))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the first line of what a reader has, as `openssl -passin` and `gpg --passphrase-fd` do,
    /// and no byte more: what follows may be for somebody else.
    fn first_line(mut reader: impl Read, origin: &str) -> Result<Self, PassphraseError> {
        // Of its full size from the start: a vector that grows leaves copies behind.
        let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
        let mut byte = Zeroizing::new([0]);
        while line.len() < LONGEST {
            match reader.read(&mut *byte) {
                Ok(0) => break,
                Ok(_) if *byte == *b"\n" => break,
                Ok(_) => line.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(PassphraseError::Read { origin: origin.to_owned(), source });
                }
            }
        }
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        Self::new(line).ok_or_else(|| PassphraseError::Empty { origin: origin.to_owned() })
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Where passphrases come from. What a descriptor gave is kept, because it gives it once.
#[derive(Debug)]
pub struct PassphraseSource {
    origin: Origin,
    known: OnceLock<Passphrase>,
    is_one_for_all: bool,
}

#[derive(Debug)]
enum Origin {
    Nowhere,
    File(PathBuf),
    Descriptor(u32),
    Terminal,
}

impl PassphraseSource {
    /// There is none: new keys are not encrypted.
    pub const fn nowhere() -> Self {
        Self::from(Origin::Nowhere)
    }

    /// The first line of a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::from(Origin::File(path.into()))
    }

    /// The first line of an open file descriptor.
    pub const fn descriptor(number: u32) -> Self {
        Self::from(Origin::Descriptor(number))
    }

    /// Whoever sits at the terminal, each time that one is needed; nowhere without a terminal.
    pub fn terminal() -> Self {
        if io::stdin().is_terminal() { Self::from(Origin::Terminal) } else { Self::nowhere() }
    }

    const fn from(origin: Origin) -> Self {
        Self { origin, known: OnceLock::new(), is_one_for_all: false }
    }

    /// The same for every key, so that a terminal is asked until one was opened and never again: for
    /// a daemon, which outlives who started it.
    #[must_use]
    pub fn for_all_keys(self) -> Self {
        Self { is_one_for_all: true, ..self }
    }

    /// Whether nobody can be asked.
    pub fn is_nowhere(&self) -> bool {
        matches!(self.origin, Origin::Nowhere)
    }

    /// The passphrase that opens `key`, which is named as in a sentence: `ca.key`.
    pub fn open<T, E>(
        &self,
        key: &str,
        mut attempt: impl FnMut(&Passphrase) -> Result<T, E>,
        is_wrong: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, PassphraseError> {
        let attempts = if matches!(self.origin, Origin::Terminal) { ATTEMPTS } else { 1 };
        let mut given = self.existing(key)?;
        let mut opened = attempt(&given);
        for _ in 1..attempts {
            if self.known.get().is_some() || !opened.as_ref().is_err_and(&is_wrong) {
                break;
            }
            eprintln!("that is not the passphrase of {key}");
            given = self.existing(key)?;
            opened = attempt(&given);
        }
        if opened.is_ok() {
            self.keep(given);
        }
        Ok(opened)
    }

    /// Keeps what was typed and opened a key, if it is for all keys.
    fn keep(&self, given: Passphrase) {
        if self.is_one_for_all && matches!(self.origin, Origin::Terminal) {
            // Of two that came at once either is right.
            let _ = self.known.set(given);
        }
    }

    /// The passphrase of a key that is there.
    pub fn existing(&self, key: &str) -> Result<Passphrase, PassphraseError> {
        self.give(key, &format!("Passphrase of {key}: "))
    }

    /// The PIN of a token. It is asked once: a token counts how often it was wrong.
    pub fn pin(&self, token: &str) -> Result<Passphrase, PassphraseError> {
        self.give(&format!("the token `{token}`"), &format!("PIN of the token `{token}`: "))
    }

    fn give(&self, key: &str, prompt: &str) -> Result<Passphrase, PassphraseError> {
        let missing = || PassphraseError::Missing { key: key.to_owned() };
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        match &self.origin {
            Origin::Nowhere => Err(missing()),
            Origin::File(path) => read_file(path),
            Origin::Descriptor(number) => self.read_descriptor(*number),
            Origin::Terminal => ask(prompt)?.ok_or_else(missing),
        }
    }

    /// The passphrase that a new key is encrypted with, asked twice; `None` where it is not to be.
    pub fn chosen(&self, key: &str) -> Result<Option<Passphrase>, PassphraseError> {
        if !matches!(self.origin, Origin::Terminal) {
            return if self.is_nowhere() { Ok(None) } else { self.existing(key).map(Some) };
        }
        for _ in 0..ATTEMPTS {
            let prompt = format!("New passphrase of {key} (empty: do not encrypt it): ");
            let Some(first) = ask(&prompt)? else { return Ok(None) };
            let second = ask("The same again: ")?;
            if second.is_some_and(|second| second.as_bytes() == first.as_bytes()) {
                return Ok(Some(first));
            }
            eprintln!("the two differ");
        }
        Err(PassphraseError::Differ)
    }

    fn read_descriptor(&self, number: u32) -> Result<Passphrase, PassphraseError> {
        let origin = format!("file descriptor {number}");
        let opened = match number {
            // Not std's standard input, which would keep what it read ahead.
            0 => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            // By name: to take a bare number for an open file would be unsafe code.
            _ => File::open(format!("/proc/self/fd/{number}")),
        };
        let read = match opened {
            Ok(file) => Passphrase::first_line(file, &origin),
            Err(source) => Err(PassphraseError::Read { origin, source }),
        }?;
        Ok(self.known.get_or_init(|| read).clone())
    }
}

fn read_file(path: &Path) -> Result<Passphrase, PassphraseError> {
    let origin = format!("`{}`", path.display());
    match File::open(path) {
        Ok(file) => Passphrase::first_line(file, &origin),
        Err(source) => Err(PassphraseError::Read { origin, source }),
    }
}

/// Asks on the terminal, without an echo.
fn ask(prompt: &str) -> Result<Option<Passphrase>, PassphraseError> {
    let failed = |source| PassphraseError::Read { origin: "the terminal".to_owned(), source };
    // Ctrl-C ends the program when the terminal is as it was again, and not with its echo off.
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    let before = interrupt.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let before = before.map_err(|error| failed(error.into()))?;
    let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
    before.thread_set_mask().map_err(|error| failed(error.into()))?;
    Ok(Passphrase::new(typed.map_err(failed)?.as_bytes()))
}

/// The options that give a passphrase, alike in every program.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PassphraseArguments {
    /// Read the passphrase, or a token's PIN, from the first line of file descriptor N
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file")]
    passphrase_fd: Option<u32>,
    /// Read the passphrase, or a token's PIN, from the first line of FILE
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    /// What the options say; else the file that a configuration names; else the terminal.
    pub fn source_or(&self, configured: Option<&Path>) -> PassphraseSource {
        match (self.passphrase_fd, self.passphrase_file.as_deref().or(configured)) {
            (Some(number), _) => PassphraseSource::descriptor(number),
            (None, Some(path)) => PassphraseSource::file(path),
            (None, None) => PassphraseSource::terminal(),
        }
    }

    /// What the options say, or the terminal.
    pub fn source(&self) -> PassphraseSource {
        self.source_or(None)
    }

    /// Whether an option was given.
    pub fn is_given(&self) -> bool {
        self.passphrase_fd.is_some() || self.passphrase_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line() {
        for text in ["a b ", "a b \n", "a b \r\nsecond"] {
            let read = Passphrase::first_line(text.as_bytes(), "x").unwrap();
            assert_eq!(read.as_bytes(), b"a b ");
        }
        for text in ["", "\n", "\r\nsecond"] {
            let refused = Passphrase::first_line(text.as_bytes(), "x").unwrap_err();
            assert!(matches!(refused, PassphraseError::Empty { .. }), "{refused}");
        }
    }

    #[test]
    fn a_descriptor_gives_it_once_and_it_is_kept() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"secret\n").unwrap();
        drop(writer);
        let source = PassphraseSource::descriptor(reader.as_raw_fd().try_into().unwrap());
        assert_eq!(source.existing("a key").unwrap().as_bytes(), b"secret");
        assert_eq!(source.chosen("a key").unwrap().unwrap().as_bytes(), b"secret");
    }

    #[test]
    fn who_opened_one_key_for_all_is_not_asked_again() {
        let source = PassphraseSource::from(Origin::Terminal).for_all_keys();
        source.keep(Passphrase::new(b"secret").unwrap());
        assert_eq!(source.existing("another key").unwrap().as_bytes(), b"secret");
        // A file is read again: its passphrase may have been changed.
        let source = PassphraseSource::file("/nowhere").for_all_keys();
        source.keep(Passphrase::new(b"secret").unwrap());
        assert!(matches!(source.existing("another key"), Err(PassphraseError::Read { .. })));
    }

    #[test]
    fn debug_output_shows_no_passphrase() {
        let source = PassphraseSource::nowhere();
        let _ = source.known.set(Passphrase::new(b"secret").unwrap());
        assert!(!format!("{source:?}").contains("secret"));
        assert!(!format!("{source:?}").contains(&format!("{:?}", b"secret")));
    }

    #[test]
    fn nowhere_opens_nothing_and_encrypts_nothing() {
        let source = PassphraseSource::nowhere();
        assert!(matches!(source.existing("`a`"), Err(PassphraseError::Missing { .. })));
        assert!(source.chosen("`a`").unwrap().is_none());
    }
}
