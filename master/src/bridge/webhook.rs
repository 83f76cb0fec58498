//! `type: webhook`: each event as an HTTP request of its own, or a batch as a JSON array. The receiver tells events that
//! come twice by `Idempotency-Key`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use drover_states::{diagnostic::Diagnostic, settings::Settings};
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use thiserror::Error;
use tracing::warn;

use super::{
    credentials::{Secret, SecretError},
    http::{Answer, Auth, Body, Call, Client, HttpError, Origin},
    shape::Shape,
    sink::{Failure, Item, Verdict},
    tls::TlsConfig,
};
use crate::clock::Now;

mod form;
mod settings;

use self::form::Form;

/// A key by which a receiver knows a request again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// A receiver that wants to be left alone for longer is asked all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Where requests go.
#[derive(Debug)]
pub struct WebhookSink {
    /// The URL. The path is often what a receiver knows us by, so all of it is a secret.
    url: Secret,
    method: Method,
    headers: Vec<(HeaderName, Secret)>,
    kind: &'static str,
    form: Form,
    shape: Shape,
    is_batch: bool,
    patience: Duration,
    tls: Arc<TlsConfig>,
    auth: Arc<Auth>,
    target: Mutex<Option<Arc<Target>>>,
    /// When the receiver wants to be asked again.
    rests_until: Mutex<Option<Instant>>,
}

/// What the URL says.
#[derive(Debug)]
struct Target {
    client: Client,
    path: String,
}

/// Why a request was not taken.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// There is no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A secret's file is of no use.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The URL's file has no URL.
    #[error("the URL in `url_file` must be {0}")]
    Url(&'static str),
    /// The receiver refuses us, or is not there.
    #[error("`{host}` answered {status}: {said}{}", advice(*status))]
    Denied {
        /// The receiver.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// The receiver has no time, or is broken.
    #[error("`{host}` answered {status}: {said}")]
    Busy {
        /// The receiver.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// The receiver said when it wants to be asked again.
    #[error("`{host}` wants no requests for {} s more", left.as_secs())]
    Resting {
        /// The receiver.
        host: Origin,
        /// How long.
        left: Duration,
    },
    /// Several events are too much, or one of them is at fault.
    #[error("`{host}` answered {status} to {count} events at once: {said}")]
    Batch {
        /// The receiver.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// How many.
        count: usize,
        /// What it said.
        said: String,
    },
}

impl WebhookError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Http(error) if error.wants_operator() => Failure::Denied,
            Self::Secret(_) | Self::Url(_) | Self::Denied { .. } => Failure::Denied,
            Self::Batch { .. } => Failure::TooLarge,
            Self::Http(_) | Self::Busy { .. } | Self::Resting { .. } => Failure::Away,
        }
    }
}

impl WebhookSink {
    /// Reads its keys.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        settings::read(settings)
    }

    /// Sends each event, in order, until one cannot be sent.
    ///
    /// # Errors
    /// When not even the first could be.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, WebhookError> {
        let target = self.target()?;
        self.check_rest(&target)?;
        if self.is_batch {
            return self.deliver_batch(&target, items).await;
        }
        let mut verdicts = Vec::with_capacity(items.len());
        for item in items {
            let verdict = match self.form.of(&self.shape, item) {
                Err(reason) => Verdict::Refused(reason),
                Ok(text) => match self.send(&target, text, item.event.id.to_string()).await {
                    Ok(verdict) => verdict,
                    Err(error) if verdicts.is_empty() => return Err(error),
                    Err(error) => {
                        // Those before it are there: they are not sent again for its sake.
                        let reason = error.to_string();
                        verdicts.resize(items.len(), Verdict::Later(reason));
                        return Ok(verdicts);
                    }
                },
            };
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    async fn deliver_batch(
        &self,
        target: &Target,
        items: &[Item],
    ) -> Result<Vec<Verdict>, WebhookError> {
        let formed: Vec<_> = items.iter().map(|item| self.form.of(&self.shape, item)).collect();
        let texts: Vec<&str> = formed.iter().flatten().map(String::as_str).collect();
        let told: Vec<_> = items.iter().zip(&formed).filter(|(_, text)| text.is_ok()).collect();
        let said = match (told.first(), told.last()) {
            (Some((first, _)), Some((last, _))) => {
                let (first, last) = (first.event.id, last.event.id);
                let key = if told.len() == 1 {
                    first.to_string()
                } else {
                    format!("{first}-{last}-{}", told.len())
                };
                self.send(target, format!("[{}]", texts.join(",")), key).await?
            }
            _ => Verdict::Done,
        };
        if let (Verdict::Refused(said), true) = (&said, told.len() > 1) {
            return Err(WebhookError::Batch {
                host: target.client.origin().clone(),
                status: StatusCode::BAD_REQUEST,
                count: told.len(),
                said: said.clone(),
            });
        }
        Ok(formed
            .into_iter()
            .map(|text| text.map_or_else(Verdict::Refused, |_| said.clone()))
            .collect())
    }

    async fn send(
        &self,
        target: &Target,
        text: String,
        key: String,
    ) -> Result<Verdict, WebhookError> {
        let body = Body { kind: Some(self.kind), bytes: Bytes::from(text), is_gzip: false };
        let key = HeaderValue::try_from(key).expect("ids make a header");
        let mut call = Call::new(self.method.clone(), target.path.as_str())
            .with(body)
            .header(IDEMPOTENCY_KEY, key);
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_bytes(value.text()?.as_bytes())
                .expect("a secret has no control characters");
            value.set_sensitive(true);
            call = call.header(name.clone(), value);
        }
        let answer = target.client.call(&call).await?;
        self.judged(target, &answer)
    }

    fn judged(&self, target: &Target, answer: &Answer) -> Result<Verdict, WebhookError> {
        let (host, status) = (target.client.origin().clone(), answer.status);
        let said = answer.html().unwrap_or_else(|| answer.excerpt());
        match status.as_u16() {
            200..=299 => Ok(Verdict::Done),
            // What is wrong is the address, or who we are: another event would fare no better.
            401 | 403..=405 | 407 | 410 => {
                for (_, value) in &self.headers {
                    value.handle_refused();
                }
                self.url.handle_refused();
                *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(WebhookError::Denied { host, status, said })
            }
            408 | 425 | 429 | 500.. => {
                if let Some(wait) = answer.retry_after(Timestamp::now()) {
                    let until = Now::read().instant + wait.min(LONGEST_WAIT);
                    let mut rests = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
                    *rests = Some(until);
                }
                Err(WebhookError::Busy { host, status, said })
            }
            _ => Ok(Verdict::Refused(format!("`{host}` answered {status}: {said}"))),
        }
    }

    fn check_rest(&self, target: &Target) -> Result<(), WebhookError> {
        let mut rests = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = rests.map(|until| until.saturating_duration_since(Now::read().instant));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(WebhookError::Resting { host: target.client.origin().clone(), left }),
            None => {
                *rests = None;
                Ok(())
            }
        }
    }

    /// Where the URL leads. It is read anew when the receiver refused it.
    fn target(&self) -> Result<Arc<Target>, WebhookError> {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &*target {
            return Ok(Arc::clone(target));
        }
        let url = self.url.text()?;
        let (origin, path) = Origin::parse_url(&url, None).map_err(WebhookError::Url)?;
        if origin.shows_secrets() {
            warn!(host = %origin.clone().without_path(), "events go to another machine without TLS: use `https://`");
        }
        let (tls, auth) = (Arc::clone(&self.tls), Arc::clone(&self.auth));
        let client = Client::new(origin.without_path(), tls, auth, self.patience);
        let made = Arc::new(Target { client, path });
        *target = Some(Arc::clone(&made));
        Ok(made)
    }
}

const fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 | 407 => "; check the URL, `headers` and the authentication",
        405 => "; check `method`",
        _ => "; check the URL",
    }
}

#[cfg(test)]
mod tests;
