//! Which path is whose, and what is said of all others.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};

use super::answer::Denied;
use super::{Office, guard, look, sets};

/// Bytes that a request's body may have: the longest datagram, for `POST /explain`.
pub(super) const BODY_MAX: usize = 65_536;

/// All there is, for whoever asks for something else.
const PATHS: &str = "/healthz, /readyz, /metrics, /sets, /sets/SET, /sets/SET/nodes, /sets/SET/nodes/NODE, \
                     /sets/SET/nodes/NODE/serve|drain|stop|weight, /explain, /reload, /drain";

pub(super) fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route("/healthz", get(look::healthz))
        .route("/readyz", get(look::readyz))
        .route("/metrics", get(look::metrics))
        .route("/explain", get(look::explain).post(look::explain_message))
        .route("/reload", post(look::reload))
        .route("/drain", post(look::drain))
        .route("/sets", get(sets::all))
        .route("/sets/{set}", get(sets::one))
        .route("/sets/{set}/nodes", post(sets::add))
        .route("/sets/{set}/nodes/{node}", delete(sets::remove))
        .route("/sets/{set}/nodes/{node}/weight", put(sets::weight))
        .route("/sets/{set}/nodes/{node}/{intent}", post(sets::intent))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(office.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(office)
}

async fn nothing(uri: Uri) -> Denied {
    Denied(StatusCode::NOT_FOUND, format!("there is no {}; there are: {PATHS}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Denied {
    let right = match uri.path() {
        "/reload" | "/drain" => "POST",
        path if path.ends_with("/weight") => "PUT",
        path if path.ends_with("/nodes") => "POST",
        path if path.contains("/nodes/") && path.split('/').count() == 5 => "DELETE",
        path if path.contains("/nodes/") => "POST",
        "/explain" => "GET or POST",
        _ => "GET",
    };
    Denied(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for {}; {right} is right", uri.path()))
}
