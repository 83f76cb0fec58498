//! Digests by which certificates and keys are known: in the registry, the manifest and to people.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest of 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

// Three types with one behaviour, so that a certificate is never compared with a key.
macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $of:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            #[doc = concat!("The digest of ", $of, ".")]
            pub fn of(der: &[u8]) -> Self {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
                Self(bytes)
            }

            /// The digest itself.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// With colons between the bytes, as Salt and `openssl` show fingerprints.
            pub fn with_colons(&self) -> String {
                self.0.map(|byte| format!("{byte:02x}")).join(":")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                read_hex(text)
                    .map(Self)
                    .ok_or_else(|| DigestError(text.escape_debug().take(80).collect()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest! {
    /// SHA-256 of a whole certificate.
    Fingerprint, "a certificate, in DER"
}
digest! {
    /// SHA-256 of a public key, as its `SubjectPublicKeyInfo`.
    KeyDigest, "a `SubjectPublicKeyInfo`, in DER"
}

digest! {
    /// SHA-256 of a line of a station's ledger, and so of every line before it.
    LineDigest, "a ledger's line, without its line break"
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Fingerprint::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert!(digest.with_colons().starts_with("ba:78:16:bf:"));
        for wrong in ["", "ba78", &text.to_uppercase(), &"g".repeat(64)] {
            assert!(wrong.parse::<KeyDigest>().is_err());
        }
    }
}
