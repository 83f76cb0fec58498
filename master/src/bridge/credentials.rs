//! Passwords and keys of bridges: a text of the configuration, or a file of their own that is read anew when the other
//! side refused what was in it. Nothing of them is ever printed.

use std::{
    borrow::Cow,
    fmt, fs,
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use drover_states::{
    diagnostic::Diagnostic,
    settings::{Settings, TextOrFile},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest secret that is read from a file, in bytes.
const LONGEST: u64 = 64 << 10;

/// A password, an API key, a token. Its memory is wiped when it goes.
pub struct Secret {
    source: Source,
    /// What was read from the file; until it is refused.
    read: Mutex<Option<Shown>>,
}

/// A secret's text, to be sent and not to be kept.
pub type Shown = Arc<Zeroizing<String>>;

enum Source {
    Given(Shown),
    File(PathBuf),
}

/// Why a secret's file is of no use. It is tried again.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It is not there, or not ours to read.
    #[error("cannot read the secret in `{}`: it must be a file that the master may read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it, or what no secret can be.
    #[error("there is no secret in `{}`: write one line of text into it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Takes `key`, or `key_file`. A file is read when it is first needed, so it may be put there later.
    ///
    /// # Errors
    /// With the place, when both are given, or either is no text.
    pub fn read(
        settings: &mut Settings<'_>,
        key: impl Into<Cow<'static, str>>,
    ) -> Result<Option<Self>, Diagnostic> {
        let key = key.into();
        let source = match settings.text_or_file(key.clone())? {
            None => return Ok(None),
            Some(TextOrFile::File(path)) => Source::File(path),
            Some(TextOrFile::Text(text)) if text.contains(char::is_control) => {
                return Err(settings.wrong(format!("`{key}` must be one line of text")));
            }
            Some(TextOrFile::Text(text)) => Source::Given(Arc::new(Zeroizing::new(text))),
        };
        Ok(Some(Self { source, read: Mutex::default() }))
    }

    /// Its text, without control characters. A file is small and read at once.
    ///
    /// # Errors
    /// When its file is of no use.
    pub fn text(&self) -> Result<Shown, SecretError> {
        let path = match &self.source {
            Source::Given(text) => return Ok(Arc::clone(text)),
            Source::File(path) => path,
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = &*read {
            return Ok(Arc::clone(read));
        }
        let failed = |source| SecretError::Read { path: path.clone(), source };
        let mut text = Zeroizing::new(String::new());
        let file = fs::File::open(path).map_err(failed)?;
        file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        // An editor ends the line; within it, no protocol takes a control character.
        let line = text.trim_end_matches(['\n', '\r']);
        if line.is_empty() || line.contains(char::is_control) {
            return Err(SecretError::Empty { path: path.clone() });
        }
        let line = Arc::new(Zeroizing::new(line.to_owned()));
        *read = Some(Arc::clone(&line));
        Ok(line)
    }

    /// Its text where that stands in the configuration.
    #[must_use]
    pub fn given(&self) -> Option<Shown> {
        match &self.source {
            Source::Given(text) => Some(Arc::clone(text)),
            Source::File(_) => None,
        }
    }

    /// The other side refused it: its file is read anew, since somebody may have changed it.
    pub fn handle_refused(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A complaint about a bridge whose line of the file is shown only as far as no secret can stand in it.
#[must_use]
pub(super) fn without_secrets(mut wrong: Diagnostic) -> Diagnostic {
    // Also of keys that are misspelt: these are the ones that are complained of.
    const SECRET: [&str; 7] = ["pas", "api", "bearer", "token", "secret", "url", "header"];
    let Some(line) = &wrong.shown else { return wrong };
    let value = |key: &str| {
        let at = line.find(key)?;
        Some(at + line[at..].find(':')? + 1)
    };
    let keys = SECRET.iter().filter_map(|key| value(key));
    // A user and a password within an address.
    let address = line.find("://").map(|at| at + 3).filter(|at| line[*at..].contains('@'));
    if let Some(end) = keys.chain(address).min() {
        wrong.shown = Some(format!("{} …", &line[..end]).into());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_several_lines_is_refused_without_being_shown() {
        let wrong = secret("password: \"a\\nb\"", "/x".as_ref()).unwrap_err().to_string();
        assert!(wrong.starts_with("line 1: `password` must be one line of text"), "{wrong}");
    }

    fn secret(text: &str, directory: &std::path::Path) -> Result<Option<Secret>, Diagnostic> {
        let root = drover_states::yaml::load_nodes(text).unwrap();
        let mut settings = Settings::new(directory, text, root.as_ref()).unwrap();
        Secret::read(&mut settings, "password")
    }

    #[test]
    fn a_secret_that_was_refused_is_read_anew() {
        let directory = tempfile::tempdir().unwrap();
        let secret = secret("password_file: pass", directory.path()).unwrap().unwrap();
        assert!(matches!(secret.text(), Err(SecretError::Read { .. })));
        let path = directory.path().join("pass");
        fs::write(&path, "one\n").unwrap();
        assert_eq!(secret.text().unwrap().as_str(), "one");
        fs::write(&path, "two\r\n").unwrap();
        assert_eq!(secret.text().unwrap().as_str(), "one", "it is kept while it serves");
        secret.handle_refused();
        assert_eq!(secret.text().unwrap().as_str(), "two");
        for wrong in ["", "\n", "a\nb\n"] {
            fs::write(&path, wrong).unwrap();
            secret.handle_refused();
            assert!(matches!(secret.text(), Err(SecretError::Empty { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_complaint_shows_no_secret_of_its_line() {
        for (line, shown) in [
            ("  - {name: a, password: hunter2, x: y}", "  - {name: a, password: …"),
            ("  pasword: hunter2", "  pasword: …"),
            ("hosts: ['https://u:hunter2@a']", "hosts: ['https:// …"),
            ("- {url: 'https://hooks.example/hunter2'}", "- {url: …"),
            ("- {name: a, x: y}", "- {name: a, x: y}"),
        ] {
            let wrong = without_secrets(Diagnostic::new("x").at(line, 1, Some(1)));
            assert_eq!(wrong.shown.as_deref(), Some(shown));
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = secret("password: hunter2", "/x".as_ref()).unwrap().unwrap();
        assert_eq!(secret.text().unwrap().as_str(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
