//! Answers as JSON: what was asked for, or `{"error": ...}` with what would be right.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::control::Refusal;

/// Why a request gets nothing: a status and its reason.
#[derive(Debug)]
pub(super) struct Denied(pub(super) StatusCode, pub(super) String);

/// What a handler gives back.
pub(super) type Answer = Result<Response, Denied>;

/// Control's loop does not answer.
pub(super) fn silent() -> Denied {
    Denied(StatusCode::SERVICE_UNAVAILABLE, "control does not answer".to_owned())
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(text) => Self(StatusCode::NOT_FOUND, text),
            Refusal::Conflict(text) => Self(StatusCode::CONFLICT, text),
            Refusal::Invalid(text) => Self(StatusCode::BAD_REQUEST, text),
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        let mut response = told(status, &json!({ "error": text }));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A value with a status.
pub(super) fn told(status: StatusCode, value: &Value) -> Response {
    typed(status, "application/json", format!("{value}\n"))
}

/// A text of some type, never to be kept by anybody on the way.
pub(super) fn typed(status: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}
