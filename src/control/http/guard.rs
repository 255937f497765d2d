//! Who is answered: bearers of the token; without one, programs of this machine, but no web page
//! that a browser of this machine happens to show.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Denied;
use super::{Office, Token};

/// How long an answer may take, a reload with many names included.
const ANSWER_TIME: Duration = Duration::from_secs(30);

pub(super) async fn guard(State(office): State<Arc<Office>>, request: Request, next: Next) -> Response {
    let admitted = match &office.desk.token {
        Some(token) => bears(token, request.headers()),
        None => is_local(request.headers()),
    };
    if let Err(denied) = admitted {
        return denied.into_response();
    }
    let answer = tokio::time::timeout(ANSWER_TIME, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let text = "it takes longer than 30 s; `GET /sets` shows when it is in force".to_owned();
        Denied(StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    })
}

fn bears(token: &Token, headers: &HeaderMap) -> Result<(), Denied> {
    let word = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, word) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| word.trim_ascii())
    });
    if word.is_some_and(|word| token.is(word)) {
        return Ok(());
    }
    let text = "the token is missing or wrong; `Authorization: Bearer TOKEN` is right".to_owned();
    Err(Denied(StatusCode::UNAUTHORIZED, text))
}

/// Browsers tell the page that sends a request, and the name that they took the address from.
fn is_local(headers: &HeaderMap) -> Result<(), Denied> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let literal = host.is_none_or(|host| {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    });
    if literal && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let text = "web pages are not answered; a `token_file`, or a request by address and without Origin, is right";
    Err(Denied(StatusCode::FORBIDDEN, text.to_owned()))
}
