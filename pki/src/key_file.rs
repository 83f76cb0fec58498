//! The file of an authority's key (`root.key`, `ca.key`, `fleet-ca.key`): a key in PKCS#8, plain or
//! encrypted so that `openssl pkey` reads it, or one line that says which key of a token it is.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use pkcs8::pkcs5::{self, pbes2};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::authority::{Authority, AuthorityError, AuthorityKey};
use crate::file::{self, FileError};
use crate::key::{KeyError, PrivateKey};
use crate::passphrase::{Passphrase, PassphraseError, PassphraseSource};
use crate::token::{TokenError, TokenKey, TokenUri, TokenUriError};

/// How often PBKDF2 hashes: what OWASP asks for with HMAC-SHA-256. A quarter of a second here, and
/// years for who guesses.
const ITERATIONS: u32 = 600_000;
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// Why an authority's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file could not be read, or is no key's or certificate's.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no usable key.
    #[error("`{}` cannot be used as a private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The key is encrypted, and there is no passphrase.
    #[error("`{}` is encrypted", path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why there is none.
        source: PassphraseError,
    },
    /// The key is encrypted in a way that is not known, or was changed.
    #[error("`{}` cannot be decrypted", path.display())]
    Encryption {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecryptError,
    },
    /// The file names no key of a token.
    #[error("`{}` names no key of a token", path.display())]
    Uri {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TokenUriError,
    },
    /// The key is in a token, which cannot be used.
    #[error("the token's key that `{}` names cannot be used", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TokenError,
    },
    /// The certificate beside it is not an authority's, or not of this key.
    #[error("`{}` cannot be used as an authority", path.display())]
    Authority {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: AuthorityError,
    },
}

impl KeyFileError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Passphrase { source, .. } => source.hint(),
            Self::Encryption { source: DecryptError::Scheme(_), .. } => Some(
                "encrypt it with PBES2: `openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000 -in OLD -out NEW`",
            ),
            Self::Uri { source, .. } => source.hint(),
            Self::Token { source, .. } => source.hint(),
            Self::Encryption { source: DecryptError::Wrong, .. }
            | Self::File(_)
            | Self::Key { .. }
            | Self::Authority { .. } => None,
        }
    }
}

impl KeyFileError {
    /// Whether the key awaits another passphrase or PIN than it was given, if it was given one.
    pub fn awaits_passphrase(&self) -> bool {
        match self {
            Self::Encryption { source, .. } => *source == DecryptError::Wrong,
            Self::Passphrase { source, .. } => matches!(source, PassphraseError::Missing { .. }),
            Self::Token { source, .. } => {
                matches!(source, TokenError::WrongPin | TokenError::Pin(_))
            }
            Self::File(_) | Self::Key { .. } | Self::Uri { .. } | Self::Authority { .. } => false,
        }
    }
}

/// Why an encrypted key was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// The passphrase is another one. (A file that was changed looks no different.)
    #[error("the passphrase is wrong")]
    Wrong,
    /// The file says that it is encrypted otherwise than with PBES2 (RFC 8018 §6.2).
    #[error("it is not encrypted in a way that is known: {0}")]
    Scheme(String),
}

/// Reads an authority: `<name>.crt`, and `<name>.key` with the passphrase or the PIN that it needs.
pub fn read_authority(
    directory: &Path,
    name: &str,
    passphrase: &PassphraseSource,
) -> Result<Authority, KeyFileError> {
    let path = directory.join(format!("{name}.crt"));
    let mut chain = file::read_certificates(&path)?;
    let key = read_key(&directory.join(format!("{name}.key")), passphrase)?;
    Authority::new(chain.swap_remove(0), key)
        .map_err(|source| KeyFileError::Authority { path, source })
}

/// How the key in a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Who reads the file has the key.
    None,
    /// By a passphrase.
    Passphrase,
    /// By a token, which the file names.
    Token,
}

/// What protects the key in a file; nothing is opened.
pub fn protection(path: &Path) -> Result<Protection, FileError> {
    let text = Zeroizing::new(file::read(path)?);
    Ok(match (token_uri(&text), encrypted_part(&text)) {
        (Some(_), _) => Protection::Token,
        (None, Some(_)) => Protection::Passphrase,
        (None, None) => Protection::None,
    })
}

/// Reads an authority's key, with the passphrase or the PIN that it needs.
pub fn read_key(path: &Path, passphrase: &PassphraseSource) -> Result<AuthorityKey, KeyFileError> {
    let text = Zeroizing::new(file::read(path)?);
    let wrong = |source| KeyFileError::Key { path: path.to_owned(), source };
    if let Some(uri) = token_uri(&text) {
        let uri = uri.map_err(|source| KeyFileError::Uri { path: path.to_owned(), source })?;
        return TokenKey::find(&uri, passphrase)
            .map(AuthorityKey::from)
            .map_err(|source| KeyFileError::Token { path: path.to_owned(), source });
    }
    let Some(encrypted) = encrypted_part(&text) else {
        return PrivateKey::from_pem(&text).map(AuthorityKey::File).map_err(wrong);
    };
    let encrypted = encrypted.map_err(wrong)?;
    let name = format!("`{}`", path.display());
    passphrase
        .open(&name, |given| decrypt(&encrypted, given), |error| *error == DecryptError::Wrong)
        .map_err(|source| KeyFileError::Passphrase { path: path.to_owned(), source })?
        .map_err(|source| KeyFileError::Encryption { path: path.to_owned(), source })
        .map(AuthorityKey::File)
}

/// A key in PEM, encrypted where there is a passphrase.
pub fn encode(
    key: &PrivateKey,
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<String>, KeyError> {
    match passphrase {
        None => Ok(key.to_pem()),
        Some(passphrase) => encrypt(key, passphrase),
    }
}

/// PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which every OpenSSL since 1.1 reads.
fn encrypt(key: &PrivateKey, passphrase: &Passphrase) -> Result<Zeroizing<String>, KeyError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    rand::fill(&mut salt).and_then(|()| rand::fill(&mut iv)).map_err(|_| KeyError::Random)?;
    let scheme = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, iv)
        .expect("invariant: the salt and the count are within PKCS#5's limits");
    let document = PrivateKeyInfoRef::try_from(key.pkcs8())
        .and_then(|info| info.encrypt_with_params(scheme, passphrase.as_bytes()))
        .map_err(|_| KeyError::Kind)?;
    let block = pem::Pem::new(ENCRYPTED, document.as_bytes());
    Ok(Zeroizing::new(pem::encode_config(&block, crate::pem_text::config())))
}

/// The URI, where the text is one.
fn token_uri(text: &[u8]) -> Option<Result<TokenUri, TokenUriError>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    TokenUri::claims(text).then(|| text.parse())
}

/// What is encrypted, where the text is an encrypted key.
fn encrypted_part(text: &[u8]) -> Option<Result<Vec<u8>, KeyError>> {
    let text = std::str::from_utf8(text).ok()?;
    text.contains(&format!("-----BEGIN {ENCRYPTED}-----")).then(|| {
        let blocks = pem::parse_many(text).map_err(|_| KeyError::Pem)?;
        let block = blocks.into_iter().find(|block| block.tag() == ENCRYPTED);
        Ok(block.ok_or(KeyError::Pem)?.into_contents())
    })
}

fn decrypt(encrypted: &[u8], passphrase: &Passphrase) -> Result<PrivateKey, DecryptError> {
    let scheme = |error: &dyn std::fmt::Display| DecryptError::Scheme(error.to_string());
    let info = EncryptedPrivateKeyInfoRef::try_from(encrypted).map_err(|error| scheme(&error))?;
    match info.decrypt(passphrase.as_bytes()) {
        // One wrong passphrase in 256 leaves a valid padding, and then no key.
        Ok(document) => {
            PrivateKey::from_pkcs8(document.as_bytes()).map_err(|_| DecryptError::Wrong)
        }
        Err(pkcs8::Error::EncryptedPrivateKey(
            error @ (pkcs5::Error::NoPbes1CryptSupport
            | pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs5::Error::AlgorithmParametersInvalid { .. }),
        )) => Err(scheme(&error)),
        Err(_) => Err(DecryptError::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes()).unwrap()
    }

    fn read(text: &str, passphrase: &str) -> Result<AuthorityKey, KeyFileError> {
        let directory = tempfile::tempdir().unwrap();
        let (key, secret) = (directory.path().join("ca.key"), directory.path().join("secret"));
        std::fs::write(&key, text).unwrap();
        std::fs::write(&secret, passphrase).unwrap();
        read_key(&key, &PassphraseSource::file(secret))
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_alone() {
        let key = PrivateKey::generate().unwrap();
        let text = encode(&key, Some(&passphrase("horse"))).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert_eq!(read(&text, "horse\n").unwrap().public(), key.public());
        let refused = read(&text, "donkey").unwrap_err();
        let KeyFileError::Encryption { source, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(source, DecryptError::Wrong);
    }

    #[test]
    fn a_plain_key_needs_no_passphrase() {
        let key = PrivateKey::generate().unwrap();
        let text = encode(&key, None).unwrap();
        assert_eq!(read(&text, "").unwrap().public(), key.public());
    }

    #[test]
    fn an_encrypted_key_without_a_passphrase_says_how_to_give_it() {
        let key = PrivateKey::generate().unwrap();
        let text = encode(&key, Some(&passphrase("horse"))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.key");
        std::fs::write(&path, text.as_bytes()).unwrap();
        let refused = read_key(&path, &PassphraseSource::nowhere()).unwrap_err();
        assert!(matches!(&refused, KeyFileError::Passphrase { .. }), "{refused:?}");
        assert!(refused.hint().unwrap().contains("--passphrase-file"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let broken =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(
            read(broken, "x").unwrap_err(),
            KeyFileError::Encryption { source: DecryptError::Scheme(_), .. }
        ));
        assert!(matches!(read("nothing", "x").unwrap_err(), KeyFileError::Key { .. }));
    }
}
