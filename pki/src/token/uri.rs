//! `pkcs11:` URIs (RFC 7512), as far as they find one private key: which token, which object, which
//! module, and where the PIN is read. A PIN itself has no place in one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cryptoki::slot::TokenInfo;

/// Why a text is not a URI of a key in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenUriError {
    /// It begins otherwise.
    #[error("a key in a token is named by a URI that begins with `pkcs11:`")]
    Scheme,
    /// An attribute has no value, or a broken one.
    #[error("the attribute `{0}` has no valid value")]
    Value(String),
    /// An attribute is there twice.
    #[error("the attribute `{0}` is there twice")]
    Twice(String),
    /// An attribute is not known.
    #[error("the attribute `{0}` is not known")]
    Unknown(String),
    /// It holds a PIN. The value is not repeated.
    #[error("the URI holds a PIN (`pin-value`), where others can read it")]
    Pin,
    /// It does not say which object.
    #[error("the URI does not name the key, with `object` or `id`")]
    NoObject,
}

impl TokenUriError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Scheme | Self::NoObject => Some(
                "such as `pkcs11:token=factory;object=line-1?module-path=/usr/lib/softhsm/libsofthsm2.so`",
            ),
            Self::Pin => Some(
                "leave it out: it is asked, or read with --passphrase-file, --passphrase-fd or `pin-source`",
            ),
            Self::Value(_) | Self::Twice(_) | Self::Unknown(_) => None,
        }
    }
}

/// Which key of which token, and how to get at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenUri {
    text: String,
    token: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    slot: Option<u64>,
    pub(super) object: Option<String>,
    pub(super) id: Option<Vec<u8>>,
    module_path: Option<PathBuf>,
    pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Whether a text is meant as one.
    pub fn claims(text: &str) -> bool {
        text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
    }

    /// Whether a token in a slot is the one that is meant.
    pub(super) fn matches(&self, slot: u64, token: &TokenInfo) -> bool {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found.trim_end())
        };
        fits(&self.token, token.label())
            && fits(&self.manufacturer, token.manufacturer_id())
            && fits(&self.serial, token.serial_number())
            && fits(&self.model, token.model())
            && self.slot.is_none_or(|wanted| wanted == slot)
    }

    /// The file that holds the PIN.
    pub(super) fn pin_source(&self) -> Option<&Path> {
        self.pin_source.as_deref()
    }

    /// The module that speaks to the token.
    pub(super) fn module_path(&self) -> Option<&Path> {
        self.module_path.as_deref()
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), TokenUriError> {
        let wrong = || TokenUriError::Value(name.to_owned());
        if name == "id" {
            self.id = Some(value);
            return Ok(());
        }
        let text = String::from_utf8(value).map_err(|_| wrong())?;
        match name {
            "token" => self.token = Some(text),
            "manufacturer" => self.manufacturer = Some(text),
            "serial" => self.serial = Some(text),
            "model" => self.model = Some(text),
            "slot-id" => self.slot = Some(text.parse().map_err(|_| wrong())?),
            "object" => self.object = Some(text),
            "type" if text == "private" => {}
            "type" => return Err(wrong()),
            "module-path" => self.module_path = Some(absolute(&text).ok_or_else(wrong)?),
            "pin-source" => {
                let path = text.strip_prefix("file:").unwrap_or(&text);
                let path = path.strip_prefix("//").unwrap_or(path);
                self.pin_source = Some(absolute(path).ok_or_else(wrong)?);
            }
            _ => return Err(TokenUriError::Unknown(name.escape_debug().take(80).collect())),
        }
        Ok(())
    }
}

/// A path that does not depend on where a program was started.
fn absolute(text: &str) -> Option<PathBuf> {
    Path::new(text).is_absolute().then(|| text.into())
}

impl FromStr for TokenUri {
    type Err = TokenUriError;

    fn from_str(text: &str) -> Result<Self, TokenUriError> {
        if !Self::claims(text) {
            return Err(TokenUriError::Scheme);
        }
        if text.contains("pin-value") {
            return Err(TokenUriError::Pin);
        }
        let (path, query) = text[7..].split_once('?').unwrap_or((&text[7..], ""));
        let mut uri = Self { text: text.to_owned(), ..Self::default() };
        let mut seen = Vec::new();
        for attribute in path.split(';').chain(query.split('&')).filter(|text| !text.is_empty()) {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let name: String = name.escape_debug().take(80).collect();
            let value = decode(value).ok_or_else(|| TokenUriError::Value(name.clone()))?;
            if seen.contains(&name) {
                return Err(TokenUriError::Twice(name));
            }
            uri.set(&name, value)?;
            seen.push(name);
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(TokenUriError::NoObject);
        }
        Ok(uri)
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Takes percent encoding away (RFC 3986 §2.1); `None` for an empty value or a broken one.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                u8::try_from(high? * 16 + low?).ok()?
            }
            b'!'..=b'~' => byte,
            _ => return None,
        });
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_token_object_module_and_pin_source() {
        let text = "pkcs11:token=The%20line;object=ca;id=%01%ff;type=private\
                    ?module-path=/usr/lib/x.so&pin-source=file:/etc/pin";
        let uri: TokenUri = text.parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("The line"));
        assert_eq!((uri.object.as_deref(), uri.id.as_deref()), (Some("ca"), Some(&[1, 255][..])));
        assert_eq!(uri.module_path(), Some(Path::new("/usr/lib/x.so")));
        assert_eq!(uri.pin_source(), Some(Path::new("/etc/pin")));
        assert_eq!(uri.to_string(), text);
        let with_host: TokenUri = "pkcs11:object=ca?pin-source=file:///etc/pin".parse().unwrap();
        assert_eq!(with_host.pin_source(), Some(Path::new("/etc/pin")));
    }

    #[test]
    fn a_pin_is_refused_and_not_repeated() {
        let refused = "pkcs11:object=ca?pin-value=4711".parse::<TokenUri>().unwrap_err();
        assert_eq!(refused, TokenUriError::Pin);
        assert!(!format!("{refused} {refused:?}").contains("4711"));
    }

    #[test]
    fn what_is_no_uri_of_a_key_is_refused() {
        for (text, error) in [
            ("file:ca.key", TokenUriError::Scheme),
            ("pkcs11:", TokenUriError::NoObject),
            ("pkcs11:token=a", TokenUriError::NoObject),
            ("pkcs11:object=", TokenUriError::Value("object".to_owned())),
            ("pkcs11:object=%4", TokenUriError::Value("object".to_owned())),
            ("pkcs11:object=%zz", TokenUriError::Value("object".to_owned())),
            ("pkcs11:object=a b", TokenUriError::Value("object".to_owned())),
            ("pkcs11:object=a;object=b", TokenUriError::Twice("object".to_owned())),
            ("pkcs11:object=a;type=public", TokenUriError::Value("type".to_owned())),
            ("pkcs11:object=a;colour=red", TokenUriError::Unknown("colour".to_owned())),
            ("pkcs11:object=a?module-path=x.so", TokenUriError::Value("module-path".to_owned())),
            ("pkcs11:object=a?pin-source=|cat", TokenUriError::Value("pin-source".to_owned())),
        ] {
            assert_eq!(text.parse::<TokenUri>().unwrap_err(), error, "{text}");
        }
    }
}
