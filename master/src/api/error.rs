//! What a client is told when something is wrong: `{"message", "hint", "causes"}`.

use std::{error::Error, fmt};

use axum::{
    Json,
    extract::rejection::{JsonRejection, QueryRejection},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use drover_proto::target::TargetError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    crl::RevokeError,
    hub::{HubError, StartError},
    master::{ImportError, JobError},
    registry::{self, ChangeError, VerbError},
    store::{PutError, ReadError, StoreError},
};

/// An answer that is no success.
#[derive(Debug)]
pub struct ApiError(Box<Answer>);

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(skip)]
    status: StatusCode,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// What else the answer says.
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl ApiError {
    /// The request, an expression or a file is wrong.
    pub fn wrong(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn missing(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// It is not for whoever asks.
    pub fn forbidden(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// It contradicts what is there.
    pub fn conflict(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// A part of the master is not there.
    pub fn unavailable(error: &dyn Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).caused_by(error)
    }

    /// What to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What lies beneath.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            self.0.causes.push(cause.to_string());
            source = cause.source();
        }
        self
    }

    /// Fields beside the message.
    #[must_use]
    pub fn with(mut self, more: Map<String, Value>) -> Self {
        self.0.more = more;
        self
    }

    fn new(status: StatusCode, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self(Box::new(Answer { status, message, hint: None, causes: Vec::new(), more: Map::new() }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let answer = *self.0;
        if answer.status.is_server_error() {
            tracing::error!(message = answer.message, causes = ?answer.causes, "a request failed");
        }
        (answer.status, Json(answer)).into_response()
    }
}

/// For paths that nobody serves.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::missing(format!("there is no `{}`", uri.path()))
        .hint("`GET /v1/openapi.json` lists what there is")
}

/// For methods that a path does not take.
pub(super) async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("`{}` does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
        .hint("`GET /v1/openapi.json` lists what there is")
}

impl From<TargetError> for ApiError {
    fn from(error: TargetError) -> Self {
        let position = Map::from_iter([("position".to_owned(), error.position.into())]);
        Self::wrong(&error).hint(error.hint).with(position)
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Target(error) => error.into(),
            JobError::Start(StartError::Frame(error)) => {
                Self::wrong(error).hint("put large data into a file under the file roots")
            }
            JobError::Start(StartError::Store(error)) => error.into(),
            JobError::Start(StartError::Hub(error)) => error.into(),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::Verb(verb @ VerbError::Unknown(_)) => {
                Self::missing(verb).hint(verb.hint())
            }
            ChangeError::Verb(
                verb
                @ (VerbError::Revoked(_) | VerbError::NotAccepted(..) | VerbError::Retiring(_)),
            ) => Self::conflict(verb).hint(verb.hint()),
            ChangeError::Store(PutError::Store(error)) => (*error).into(),
            ChangeError::Store(PutError::Conflict) | ChangeError::Read(_) => {
                Self::unavailable(&error)
            }
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        use registry::ImportError as Registry;
        match &error {
            ImportError::Manifest(_) => Self::wrong(&error)
                .caused_by(&error)
                .hint("export it again at a station of this fleet: `drover-enrol manifest`"),
            ImportError::Registry(Registry::Refused(refused)) => {
                Self::conflict(refused).hint(refused.hint())
            }
            ImportError::Registry(Registry::Store(PutError::Store(error)))
            | ImportError::RevocationList(RevokeError::Store(error)) => (*error).into(),
            ImportError::Registry(Registry::Store(PutError::Conflict) | Registry::Read(_))
            | ImportError::Keep(_)
            | ImportError::RevocationList(RevokeError::Read(_)) => Self::unavailable(&error),
        }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, error).hint(
                "make room on the master's disk: it goes on by itself; `drover status` shows what is free",
            ),
            StoreError::Failed => Self::unavailable(&error),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::wrong(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::wrong(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_change_that_finds_no_room_says_what_to_do() {
        let full = || PutError::Store(StoreError::Full);
        for error in [
            ApiError::from(StoreError::Full),
            ChangeError::Store(full()).into(),
            ImportError::Registry(registry::ImportError::Store(full())).into(),
            ImportError::RevocationList(StoreError::Full.into()).into(),
        ] {
            assert_eq!(error.0.status, StatusCode::INSUFFICIENT_STORAGE);
            assert!(error.0.hint.is_some(), "{error:?}");
        }
        let failed = ApiError::from(ChangeError::Store(StoreError::Failed.into()));
        assert_eq!(failed.0.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_method_that_is_not_allowed_is_told_in_json() {
        let uri = Uri::from_static("/v1/keys");
        let response = not_allowed(Method::PUT, uri).await.into_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
