//! The keys of a webhook.

use std::{sync::Arc, time::Duration};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING},
};

use super::{Form, WebhookSink};
use crate::bridge::{
    credentials::Secret,
    http::{Auth, Origin},
    shape::Shape,
    tls::TlsConfig,
};

/// Time for a request, where the configuration does not say.
const PATIENCE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn read(settings: &mut Settings<'_>) -> Result<WebhookSink, Diagnostic> {
    let url = Secret::read(settings, "url")?;
    let url = url.ok_or_else(|| {
        settings.missing("the bridge", "url").hint(
            "give `url`, or `url_file` with the path of a file: whoever knows it may write there",
        )
    })?;
    // One in the configuration is found wrong now. It is not repeated.
    if let Some(given) = url.given() {
        Origin::parse_url(&given, None)
            .map_err(|wanted| settings.wrong(format!("`url` must be {wanted}")))?;
    }
    let method = settings.take("method", |node| match node.as_str() {
        Some("POST") => Ok(Method::POST),
        Some("PUT") => Ok(Method::PUT),
        Some("PATCH") => Ok(Method::PATCH),
        Some(_) | None => Err("`POST`, `PUT` or `PATCH`"),
    })?;
    let form = settings.take("form", |node| match node.as_str() {
        Some("json") => Ok(Form::Shaped),
        Some("slack") => Ok(Form::Slack),
        Some(_) | None => Err("`json` or `slack`"),
    })?;
    let kind = settings.take("content_type", |node| match node.as_str() {
        Some("json") => Ok(JSON),
        Some("text") => Ok(TEXT),
        Some("form") => Ok("application/x-www-form-urlencoded"),
        Some("xml") => Ok("application/xml"),
        Some(_) | None => Err("`json`, `text`, `form` or `xml`"),
    })?;
    let headers = settings.map("headers", headers).map_err(|mut wrong| {
        // The line may have the value of one.
        wrong.shown = None;
        wrong
    })?;
    let is_batch = settings.flag("batch")?.unwrap_or(false);
    if is_batch && (form == Some(Form::Slack) || !matches!(kind, None | Some(JSON))) {
        return Err(settings.wrong("`batch: true` makes a JSON array, and this is no part of one"));
    }
    Ok(WebhookSink {
        url,
        method: method.unwrap_or(Method::POST),
        headers: headers.unwrap_or_default(),
        kind: kind.unwrap_or(JSON),
        form: form.unwrap_or(Form::Shaped),
        shape: Shape::read(settings)?,
        is_batch,
        patience: settings.wait("timeout")?.unwrap_or(PATIENCE),
        tls: Arc::new(TlsConfig::read(settings)?.unwrap_or_default()),
        auth: Arc::new(Auth::read(settings)?),
        target: std::sync::Mutex::default(),
        rests_until: std::sync::Mutex::default(),
    })
}

/// `X-Token: text`, or `X-Token_file: path`.
fn headers(settings: &mut Settings<'_>) -> Result<Vec<(HeaderName, Secret)>, Diagnostic> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let keys: Vec<_> =
        settings.keys().map(|key| key.strip_suffix("_file").unwrap_or(key)).collect();
    for key in keys {
        let name = key
            .parse::<HeaderName>()
            .map_err(|_| settings.wrong(format!("`{key}` is no name of a header")))?;
        if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            return Err(settings.wrong(format!("the bridge sets `{name}` itself")));
        }
        if name == CONTENT_TYPE || name == AUTHORIZATION {
            let own = if name == CONTENT_TYPE { "content_type" } else { "bearer` and `password" };
            return Err(settings.wrong(format!("`{name}` has keys of its own: `{own}`")));
        }
        // Both forms of a name are one key, which is refused when it is read.
        if let Some(value) = Secret::read(settings, key.to_owned())? {
            headers.push((name, value));
        }
    }
    Ok(headers)
}
