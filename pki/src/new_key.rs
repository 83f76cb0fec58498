//! The key of a new authority: how it is to be kept, and how it is made. A token's key that is there
//! already is used, so that what was interrupted can be done again.

use std::fmt;

use zeroize::Zeroizing;

use crate::authority::AuthorityKey;
use crate::key::{KeyError, PrivateKey};
use crate::key_file;
use crate::passphrase::{PassphraseError, PassphraseSource};
use crate::token::{TokenError, TokenKey, TokenUri};

/// Why there is no key for a new authority.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// No passphrase could be had.
    #[error("the key of the new authority has no passphrase")]
    Passphrase(#[from] PassphraseError),
    /// No key could be made.
    #[error("the key of the new authority could not be made")]
    Key(#[from] KeyError),
    /// The token cannot be used.
    #[error("the token's key cannot be used")]
    Token(#[from] TokenError),
}

impl NewKeyError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Passphrase(error) => error.hint(),
            Self::Token(error) => error.hint(),
            Self::Key(_) => None,
        }
    }
}

/// How the key of a new authority is to be kept.
#[derive(Debug)]
pub enum NewKey<'a> {
    /// In a file, encrypted where the source has a passphrase.
    File(&'a PassphraseSource),
    /// In a token, opened with the PIN that the source has.
    Token(&'a TokenUri, &'a PassphraseSource),
}

/// A key, and what its file is to hold.
pub struct MadeKey {
    /// The key.
    pub key: AuthorityKey,
    /// The text of its file, such as `ca.key`.
    pub text: Zeroizing<String>,
}

/// Without the text, which may be the key.
impl fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeKey").field("key", &self.key).finish_non_exhaustive()
    }
}

impl NewKey<'_> {
    /// In a file that is not encrypted.
    pub fn unencrypted() -> NewKey<'static> {
        static NOWHERE: PassphraseSource = PassphraseSource::nowhere();
        NewKey::File(&NOWHERE)
    }

    /// Makes the key. `file` is the name of its file, for who is asked for a passphrase.
    pub fn make(&self, file: &str) -> Result<MadeKey, NewKeyError> {
        match self {
            Self::File(passphrase) => {
                let passphrase = passphrase.chosen(&format!("`{file}`"))?;
                let key = PrivateKey::generate()?;
                let text = key_file::encode(&key, passphrase.as_ref())?;
                Ok(MadeKey { key: key.into(), text })
            }
            Self::Token(uri, pin) => {
                let key = TokenKey::find_or_generate(uri, pin)?;
                let text = Zeroizing::new(format!("{uri}\n"));
                Ok(MadeKey { key: key.into(), text })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_new_key_shows_no_secret() {
        let made = NewKey::unencrypted().make("ca.key").unwrap();
        assert!(made.text.contains("PRIVATE KEY"));
        let shown = format!("{made:?}");
        assert!(shown.starts_with("MadeKey { key: ") && !shown.contains("PRIVATE"), "{shown}");
    }
}
