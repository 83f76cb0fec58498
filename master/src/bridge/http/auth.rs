//! Who we are to an HTTP server: basic, an API key as Elasticsearch makes them, or a bearer's token.

use base64::{Engine, engine::general_purpose::STANDARD};
use drover_states::{diagnostic::Diagnostic, settings::Settings};
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use crate::bridge::credentials::{Secret, SecretError};

/// What is shown with each request.
#[derive(Debug, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// `username` and `password`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// `api_key`: encoded, or as `id:key`.
    ApiKey(Secret),
    /// `bearer`.
    Bearer(Secret),
}

impl Auth {
    /// Takes `username` and `password`, `api_key`, or `bearer`; each secret also as a file.
    ///
    /// # Errors
    /// With the place, when one is wrong, or there is more than one.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let username = settings.take("username", |node| {
            let name = node.as_str().filter(|name| !name.is_empty());
            name.filter(|name| !name.contains([':', '\r', '\n']))
                .map(str::to_owned)
                .ok_or("a text without `:`")
        })?;
        let password = Secret::read(settings, "password")?;
        let api_key = Secret::read(settings, "api_key")?;
        let bearer = Secret::read(settings, "bearer")?;
        match (username, password, api_key, bearer) {
            (None, None, None, None) => Ok(Self::None),
            (Some(username), Some(password), None, None) => Ok(Self::Basic { username, password }),
            (None, None, Some(key), None) => Ok(Self::ApiKey(key)),
            (None, None, None, Some(token)) => Ok(Self::Bearer(token)),
            (Some(_), None, None, None) => Err(settings
                .wrong("there is `username`, and no `password`")
                .hint("give `password`, or `password_file` with the path of a file")),
            (None, Some(_), None, None) => {
                Err(settings.wrong("there is a password, and no `username`"))
            }
            _ => Err(settings
                .wrong("more than one kind of authentication is given")
                .hint("one of `username` with `password`, `api_key`, and `bearer` is enough")),
        }
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// When a secret's file is of no use.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, SecretError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Basic { username, password } => {
                let pair = Zeroizing::new(format!("{username}:{}", password.text()?.as_str()));
                Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
            }
            Self::ApiKey(key) => {
                let key = key.text()?;
                if key.contains(':') {
                    Zeroizing::new(format!("ApiKey {}", STANDARD.encode(key.as_bytes())))
                } else {
                    Zeroizing::new(format!("ApiKey {}", key.as_str()))
                }
            }
            Self::Bearer(token) => Zeroizing::new(format!("Bearer {}", token.text()?.as_str())),
        };
        let mut value = HeaderValue::from_bytes(text.as_bytes())
            .expect("base64, or a line without control characters, makes a header");
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The server refused it: files are read anew.
    pub fn handle_refused(&self) {
        match self {
            Self::None => {}
            Self::Basic { password: secret, .. } | Self::ApiKey(secret) | Self::Bearer(secret) => {
                secret.handle_refused();
            }
        }
    }

    /// Whether there is something to lose to whoever listens on the way.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}
