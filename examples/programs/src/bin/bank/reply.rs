//! Errors of the engine as answers of HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forelog::ErrorKind;
use serde_json::json;

/// An error of the engine.
pub(crate) struct Refused(forelog::Error);

impl From<forelog::Error> for Refused {
    fn from(error: forelog::Error) -> Self {
        Refused(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused(error) = self;
        let status = match error.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Poisoned | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
            // Done or not: the token tells, once the database was opened again.
            ErrorKind::Indeterminate => StatusCode::ACCEPTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let answer = json!({ "error": error.to_string(), "again": error.is_retryable(), "token": error.token() });
        (status, Json(answer)).into_response()
    }
}
