//! Whether it lives, whether it takes calls, what it counts, and what the whole instance is asked to do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::Office;
use super::answer::{Answer, Denied, silent, told, typed};
use super::sets::too_long;
use crate::control::metrics::{self, Snapshot};
use crate::control::{Ground, Letter, Question};

/// How long a worker may take for a turn before it counts as stuck.
const TURN_TIME: Duration = Duration::from_secs(1);
/// Between two looks whether all workers have turned.
const LOOK: Duration = Duration::from_millis(2);
/// Looks before one counts as stuck: where the whole process was stopped for longer than a turn may
/// take, nobody had the time.
const LOOKS_MIN: u32 = 50;

/// What `GET /explain` is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    call_id: Option<String>,
    method: Option<String>,
    listener: Option<String>,
    set: Option<String>,
    source: Option<String>,
}

pub(super) async fn healthz(State(office): State<Arc<Office>>) -> Answer {
    // At once, so that a slow control takes no worker's time.
    let (view, stuck) = tokio::join!(office.view(), stuck(&office));
    let control = view.is_some();
    let status = if control && stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(told(status, &json!({ "control": control, "stuck_workers": stuck })))
}

/// The workers that do not turn although they are rung.
async fn stuck(office: &Office) -> Vec<usize> {
    let before: Vec<u64> = office.sight.figures.iter().map(|figures| figures.ledger.turns()).collect();
    let deadline = tokio::time::Instant::now() + TURN_TIME;
    let mut looks = 0;
    loop {
        let turns = office.sight.figures.iter().zip(&before);
        let stuck: Vec<usize> =
            turns.zip(0..).filter(|((figures, was), _)| figures.ledger.turns() == **was).map(|(_, at)| at).collect();
        if stuck.is_empty() || looks >= LOOKS_MIN && tokio::time::Instant::now() >= deadline {
            return stuck;
        }
        looks += 1;
        // Again each time: one that was about to sleep when it was rung has not heard it.
        stuck.iter().filter_map(|at| office.sight.posts.get(*at)).for_each(|post| post.nudge());
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn readyz(State(office): State<Arc<Office>>) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let sets = &view.plan().sets;
    let ready = sets.iter().any(|set| view.takes_calls(set));
    let why: Vec<String> = if view.state.draining {
        vec!["draining".to_owned()]
    } else {
        let idle = sets.iter().filter(|set| !view.takes_calls(set));
        idle.map(|set| format!("no node of set `{}` takes new calls", set.name)).collect()
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(told(status, &json!({ "ready": ready, "why": why })))
}

pub(super) async fn metrics(State(office): State<Arc<Office>>, headers: HeaderMap) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let sockets = office.kernel.lock().unwrap_or_else(PoisonError::into_inner).sample(office.sight.shared.site.ports());
    let snapshot = Snapshot::new(view, &office.sight, office.started_s, sockets);
    let open = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let open = open.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let failed = |_| Denied(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written".to_owned());
    let text = metrics::write(snapshot, open).map_err(failed)?;
    Ok(typed(StatusCode::OK, if open { metrics::OPEN } else { metrics::CLASSIC }, text))
}

pub(super) async fn explain(State(office): State<Arc<Office>>, asked: Result<Query<Asked>, QueryRejection>) -> Answer {
    let (asked, source) = asked_of(asked)?;
    let call_id = asked.call_id.as_deref().ok_or_else(|| bad("`call_id` is missing; `?call_id=ID` is right"))?;
    let method = asked.method.as_deref().unwrap_or("INVITE");
    let question = Question::of_call(call_id, method, source).map_err(|text| bad(&text))?;
    explained(&office, question.at(asked.listener).to(asked.set)).await
}

pub(super) async fn explain_message(
    State(office): State<Arc<Office>>,
    asked: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (asked, source) = asked_of(asked)?;
    let body = body.map_err(|error| too_long(&error))?;
    explained(&office, Question::of_message(body.to_vec(), source).at(asked.listener).to(asked.set)).await
}

fn asked_of(asked: Result<Query<Asked>, QueryRejection>) -> Result<(Asked, SocketAddr), Denied> {
    let Query(asked) = asked
        .map_err(|error| bad(&format!("{}; there are: call_id, method, listener, set, source", error.body_text())))?;
    let text = asked.source.as_deref().unwrap_or("192.0.2.1");
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 5060));
    let source = text.parse().or_else(|_| bare());
    let source =
        source.map_err(|_| bad(&format!("`{text}` is no source; an address, with or without a port, is right")))?;
    Ok((asked, source))
}

async fn explained(office: &Office, question: Question) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let site = &office.sight.shared.site;
    let ground = Ground {
        plan: view.plan(),
        vitals: &view.state.vitals,
        draining: view.state.draining,
        ports: site.ports(),
        secrets: &site.secrets,
        rules_written: view.rules_written,
    };
    let explained = ground.explain(&question).map_err(|text| bad(&text))?;
    Ok(told(StatusCode::OK, &json!(explained)))
}

pub(super) async fn reload(State(office): State<Arc<Office>>) -> Answer {
    office.change(Letter::Reload).await?;
    let view = office.view().await.ok_or_else(silent)?;
    let plan = view.plan();
    let counts = json!({ "sets": plan.sets.len(), "nodes": plan.nodes.len(), "rules": plan.rules.len() });
    Ok(told(StatusCode::OK, &counts))
}

pub(super) async fn drain(State(office): State<Arc<Office>>) -> Answer {
    if !office.tell(Letter::Drain) {
        return Err(silent());
    }
    Ok(told(StatusCode::ACCEPTED, &json!({ "draining": true })))
}

fn bad(text: &str) -> Denied {
    Denied(StatusCode::BAD_REQUEST, text.to_owned())
}
