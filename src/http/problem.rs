//! What went wrong with a call of the API, as RFC 9457 has it. Pub/Sub's own calls keep Google's shape.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use crate::desk::ask::Refusal;
use crate::engine::notify;
use crate::engine::step::StepError;
use crate::engine::stop::StopError;
use crate::port::{BusError, StoreError};

/// Why a call was not answered.
#[derive(Debug)]
pub struct Problem {
    /// The code of the answer.
    pub status: StatusCode,
    kind: &'static str,
    /// One sentence that says what would do.
    pub detail: String,
}

impl Problem {
    /// A problem of a kind, a short name that does not change.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    /// The call is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// What it names does not exist.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", detail)
    }

    /// It does not come to an end.
    pub fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body came too slowly")
    }

    /// Not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({
            "type": format!("urn:tipoff:problem:{}", self.kind), "title": title, "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, Json(body)).into_response();
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_unknown() {
            Self::unknown(refusal.to_string())
        } else {
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", refusal.to_string())
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) | StoreError::Unavailable(_) => Self::unavailable(error.to_string()),
            StoreError::Corrupt { .. } | StoreError::BadEntry { .. } => {
                tracing::error!("what is asked for cannot be read: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", error.to_string())
            }
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Store(error) => error.into(),
            StepError::Contended(_) | StepError::Throttled(_) => Self::unavailable(error.to_string()),
            StepError::NoPipeline(_) => Self::unknown(error.to_string()),
            StepError::Violated(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "invariant", format!("{error}: nothing was changed"))
            }
            StepError::Panicked(_) => {
                let why = format!("{error}: whether anything was changed is not known, so look before you ask again");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "invariant", why)
            }
        }
    }
}

impl From<StopError> for Problem {
    fn from(error: StopError) -> Self {
        match error {
            StopError::Store(error) => error.into(),
            StopError::Contended => Self::unavailable(error.to_string()),
        }
    }
}

impl From<notify::Error> for Problem {
    fn from(error: notify::Error) -> Self {
        match error {
            notify::Error::Mute(error) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", error.to_string()),
            notify::Error::Store(error) => error.into(),
            notify::Error::Alerts(error) => error.into(),
            notify::Error::Contended => Self::unavailable(error.to_string()),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}
