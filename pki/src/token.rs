//! An authority's key in a PKCS#11 token: an HSM, a smart card, SoftHSM. The key is made there and
//! never leaves; what is to be signed goes in, a signature comes out.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use rcgen::PublicKeyData;

use crate::key::{KeyError, PublicKey};
use crate::passphrase::{Passphrase, PassphraseError, PassphraseSource};

mod module;
mod object;
mod uri;

pub use uri::{TokenUri, TokenUriError};

/// Why a key in a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// This program has no way to load a module.
    #[error("this program is linked statically and cannot load a PKCS#11 module")]
    Static,
    /// Nothing says which module speaks to the token.
    #[error("nothing names the PKCS#11 module of the token")]
    NoModule,
    /// The system did not load the module.
    #[error("could not load the PKCS#11 module `{path}`")]
    Load {
        /// The module.
        path: String,
        /// The system's reason.
        source: ModuleError,
    },
    /// No token fits the URI.
    #[error("no token fits `{uri}`: the module shows {}", list(present))]
    NoToken {
        /// What was looked for.
        uri: String,
        /// The labels of those that are there.
        present: Vec<String>,
    },
    /// Several do.
    #[error("several tokens fit `{uri}`: {}", list(present))]
    ManyTokens {
        /// What was looked for.
        uri: String,
        /// Their serial numbers.
        present: Vec<String>,
    },
    /// The token has no such key.
    #[error("the token has no private key that fits `{uri}`")]
    NoKey {
        /// What was looked for.
        uri: String,
    },
    /// It has several.
    #[error("the token has several private keys that fit `{uri}`")]
    ManyKeys {
        /// What was looked for.
        uri: String,
    },
    /// The key is of another kind, or its public half is not in the token.
    #[error("the token's key cannot be used")]
    Key(#[source] KeyError),
    /// There is no PIN.
    #[error("the token needs a PIN")]
    Pin(#[source] PassphraseError),
    /// The token refused the PIN. It counts how often.
    #[error("the PIN is wrong")]
    WrongPin,
    /// The token takes no PIN any more.
    #[error("the token is locked, because a wrong PIN was given too often")]
    Locked,
    /// The token signed, but not so that its public key agrees.
    #[error("the token's signature does not verify")]
    Signature,
    /// The token, or its module, refused.
    #[error("the token could not {attempted}")]
    Refused {
        /// What was attempted, such as `sign`.
        attempted: &'static str,
        /// The module's reason.
        source: Cryptoki,
    },
}

/// Why a module was not loaded, in the system's or the module's own words.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ModuleError {
    reason: String,
}

impl From<Cryptoki> for ModuleError {
    fn from(error: Cryptoki) -> Self {
        // Whose text has its cause in it already.
        let reason = if let Cryptoki::LibraryLoading(cause) = error {
            cause.to_string()
        } else {
            error.to_string()
        };
        Self { reason }
    }
}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Static => Some("use the build for glibc where keys are in tokens"),
            Self::NoModule => Some(
                "end the URI with `?module-path=/usr/lib/softhsm/libsofthsm2.so`, or set DROVER_PKCS11_MODULE",
            ),
            Self::Load { .. } => Some(
                "install the token's module, or name where it is with `module-path` in the URI or with \
                 DROVER_PKCS11_MODULE",
            ),
            Self::ManyTokens { .. } => Some("name one of them with `serial` in the URI"),
            Self::ManyKeys { .. } => Some("name one of them with `id` in the URI"),
            Self::NoToken { .. } => Some("`p11tool --list-tokens` or `pkcs11-tool -L` list tokens"),
            Self::NoKey { .. } => {
                Some("`drover-enrol init-station --ca-key` makes the key that it names")
            }
            Self::Pin(_) => Some(
                "give it with --passphrase-file FILE, --passphrase-fd N or `pin-source` in the URI, or on a terminal",
            ),
            Self::WrongPin => Some("mind how often it may be wrong before the token locks itself"),
            Self::Key(_) | Self::Locked | Self::Signature | Self::Refused { .. } => None,
        }
    }

    fn refused(attempted: &'static str) -> impl FnOnce(Cryptoki) -> Self {
        move |source| {
            if let Cryptoki::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange, _) = source {
                Self::WrongPin
            } else if let Cryptoki::Pkcs11(RvError::PinLocked, _) = source {
                Self::Locked
            } else {
                Self::Refused { attempted, source }
            }
        }
    }

    /// Whether the session has ended, as it does when a token is drawn and put back.
    fn is_lost_session(&self) -> bool {
        let Self::Refused { source: Cryptoki::Pkcs11(reason, _), .. } = self else { return false };
        matches!(
            reason,
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::UserNotLoggedIn
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
        )
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    }
}

/// A P-256 key in a token.
pub struct TokenKey {
    uri: TokenUri,
    pin: Option<Passphrase>,
    public: PublicKey,
    /// A session belongs to one thread at a time (PKCS#11 §2.6.7).
    opened: Mutex<Opened>,
}

/// A key that is ready to sign.
struct Opened {
    session: Session,
    key: ObjectHandle,
}

impl TokenKey {
    /// Finds the key that a URI names. The PIN is read where the URI says so, else from the source.
    pub fn find(uri: &TokenUri, pin: &PassphraseSource) -> Result<Self, TokenError> {
        let (session, pin) = login(uri, pin)?;
        match object::find(&session, uri)? {
            Some(key) => Self::new(uri, pin, session, key),
            None => Err(TokenError::NoKey { uri: uri.to_string() }),
        }
    }

    /// Finds the key that a URI names, or makes it in the token, which will not give it away.
    pub fn find_or_generate(uri: &TokenUri, pin: &PassphraseSource) -> Result<Self, TokenError> {
        let (session, pin) = login(uri, pin)?;
        let key = match object::find(&session, uri)? {
            Some(key) => key,
            None => object::generate(&session, uri)?,
        };
        Self::new(uri, pin, session, key)
    }

    fn new(
        uri: &TokenUri,
        pin: Option<Passphrase>,
        session: Session,
        key: ObjectHandle,
    ) -> Result<Self, TokenError> {
        let public = object::public(&session, key)?;
        let opened = Mutex::new(Opened { session, key });
        Ok(Self { uri: uri.clone(), pin, public, opened })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Which key it is.
    pub fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Signs with ECDSA and SHA-256; the signature is in ASN.1's form.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let hash = digest(&SHA256, message);
        let mut opened = self.lock();
        let raw = match opened.sign(hash.as_ref()) {
            Err(error) if error.is_lost_session() => {
                *opened = self.open_again()?;
                opened.sign(hash.as_ref())
            }
            other => other,
        }?;
        drop(opened);
        let signature = ecdsa_der(&raw).ok_or(TokenError::Signature)?;
        // A faulty token must not put a broken certificate into the field.
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.public.der_bytes())
            .verify(message, &signature)
            .map_err(|_| TokenError::Signature)?;
        Ok(signature)
    }

    fn open_again(&self) -> Result<Opened, TokenError> {
        let session = module::open(&self.uri, |_| Ok(self.pin.clone()))?.0;
        let key = object::find(&session, &self.uri)?;
        let key = key.ok_or_else(|| TokenError::NoKey { uri: self.uri.to_string() })?;
        Ok(Opened { session, key })
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        // Nothing is changed halfway in there: a session is replaced as a whole.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn sign(&self, hash: &[u8]) -> Result<Vec<u8>, TokenError> {
        // The plain mechanism: not every token hashes.
        self.session.sign(&Mechanism::Ecdsa, self.key, hash).map_err(TokenError::refused("sign"))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({} of {})", self.public.digest(), self.uri)
    }
}

fn login(
    uri: &TokenUri,
    pin: &PassphraseSource,
) -> Result<(Session, Option<Passphrase>), TokenError> {
    module::open(uri, |token| {
        let named = uri.pin_source().map(PassphraseSource::file);
        let pin = named.as_ref().unwrap_or(pin).pin(token);
        pin.map(Some).map_err(TokenError::Pin)
    })
}

/// Writes a signature as X.509 has it, `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279 §2.2.3); a
/// token gives the two numbers side by side.
fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 64 {
        return None;
    }
    let mut numbers = Vec::with_capacity(70);
    for number in raw.chunks(32) {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
        let number = &number[zeros..];
        // DER's integers have a sign.
        let padding: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
        numbers.extend([0x02, u8::try_from(padding.len() + number.len()).ok()?]);
        numbers.extend([padding, number].concat());
    }
    let head = [0x30, u8::try_from(numbers.len()).ok()?];
    Some([&head[..], &numbers].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_signature_becomes_two_positive_integers() {
        let mut raw = [0; 64];
        raw[31] = 0x80;
        raw[32..].fill(0x7f);
        let mut expected = vec![0x30, 38, 0x02, 2, 0, 0x80, 0x02, 32];
        expected.extend([0x7f; 32]);
        assert_eq!(ecdsa_der(&raw).unwrap(), expected);
        assert_eq!(ecdsa_der(&[0; 64]).unwrap(), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        assert!(ecdsa_der(&[0; 63]).is_none());
    }
}
