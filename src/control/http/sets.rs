//! Sets and nodes: shown as they are in force, and changed at run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Office;
use super::answer::{Answer, Denied, silent, told};
use crate::balance::{Intent, Node, NodeSet};
use crate::control::view::View;
use crate::control::{Added, Edit, Letter, Refusal};

type Names<T> = Result<Path<T>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

/// A node to be added, as clients write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNode {
    name: String,
    id: Option<u32>,
    address: String,
    pair: Option<String>,
    weight: Option<u32>,
    intent: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWeight {
    weight: u32,
}

pub(super) async fn all(State(office): State<Arc<Office>>) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let marks = office.sight.marks();
    let sets: Vec<Value> = view.plan().sets.iter().map(|set| set_json(&view, set, &marks)).collect();
    Ok(told(StatusCode::OK, &json!({ "draining": view.state.draining, "sets": sets })))
}

pub(super) async fn one(State(office): State<Arc<Office>>, names: Names<String>) -> Answer {
    let Path(name) = named(names)?;
    set_answer(&office, &name).await
}

pub(super) async fn intent(State(office): State<Arc<Office>>, names: Names<(String, String, String)>) -> Answer {
    let Path((set, node, word)) = named(names)?;
    let Some((_, intent)) = Intent::WORDS.into_iter().find(|(own, _)| *own == word) else {
        let text = format!("there is no `{word}` for a node; there are: serve, drain, stop, weight");
        return Err(Denied(StatusCode::NOT_FOUND, text));
    };
    change(&office, Edit::Intent { set: set.clone(), node: node.clone(), intent }).await?;
    node_answer(&office, StatusCode::OK, &set, &node).await
}

pub(super) async fn weight(State(office): State<Arc<Office>>, names: Names<(String, String)>, body: Body) -> Answer {
    let Path((set, node)) = named(names)?;
    let NewWeight { weight } = read(body, r#"{"weight": 100}"#)?;
    change(&office, Edit::Weight { set: set.clone(), node: node.clone(), weight }).await?;
    node_answer(&office, StatusCode::OK, &set, &node).await
}

pub(super) async fn add(State(office): State<Arc<Office>>, names: Names<String>, body: Body) -> Answer {
    let Path(set) = named(names)?;
    let new: NewNode = read(body, r#"{"name": "pbx3", "address": "10.0.0.13:5060"}"#)?;
    let word = new.intent.as_deref().unwrap_or(Intent::Serve.word());
    let Some((_, intent)) = Intent::WORDS.into_iter().find(|(own, _)| *own == word) else {
        let text = format!("unknown intent `{word}`; one of: serve, drain, stop");
        return Err(Denied(StatusCode::BAD_REQUEST, text));
    };
    let NewNode { name, id, address, pair, weight, intent: _, labels } = new;
    let added = Added {
        set: set.clone(),
        name: name.clone(),
        id,
        address,
        pair,
        weight: weight.unwrap_or(100),
        intent,
        labels,
        names: Vec::new(),
    };
    change(&office, Edit::Add(added)).await?;
    node_answer(&office, StatusCode::CREATED, &set, &name).await
}

pub(super) async fn remove(State(office): State<Arc<Office>>, names: Names<(String, String)>) -> Answer {
    let Path((set, node)) = named(names)?;
    change(&office, Edit::Remove { set: set.clone(), node }).await?;
    set_answer(&office, &set).await
}

async fn change(office: &Office, edit: Edit) -> Result<(), Refusal> {
    office.change(|reply| Letter::Edit(edit, reply)).await
}

fn named<T>(names: Names<T>) -> Result<Path<T>, Denied> {
    names.map_err(|error| Denied(StatusCode::BAD_REQUEST, error.body_text()))
}

fn read<T: DeserializeOwned>(body: Body, right: &str) -> Result<T, Denied> {
    let body = body.map_err(|error| too_long(&error))?;
    serde_json::from_slice(&body).map_err(|error| {
        Denied(StatusCode::BAD_REQUEST, format!("the body is not understood: {error}; {right} is right"))
    })
}

/// A body that did not come whole.
pub(super) fn too_long(error: &BytesRejection) -> Denied {
    let text = format!("{}; {} bytes at most are right", error.body_text(), super::routes::BODY_MAX);
    Denied(error.status(), text)
}

async fn set_answer(office: &Office, name: &str) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let marks = office.sight.marks();
    let set = find(&view, name)?;
    Ok(told(StatusCode::OK, &set_json(&view, set, &marks)))
}

async fn node_answer(office: &Office, status: StatusCode, set: &str, name: &str) -> Answer {
    let view = office.view().await.ok_or_else(silent)?;
    let marks = office.sight.marks();
    let found = find(&view, set)?.members.iter().filter_map(|ix| view.plan().node(*ix));
    let node = found.into_iter().find(|node| node.name == name);
    // Another request may have removed it meanwhile.
    Ok(node.map_or_else(|| status.into_response(), |node| told(status, &node_json(&view, node, &marks))))
}

fn find<'a>(view: &'a View, name: &str) -> Result<&'a NodeSet, Denied> {
    view.plan().sets.iter().find(|set| set.name == name).ok_or_else(|| {
        let names: Vec<&str> = view.plan().sets.iter().map(|set| set.name.as_str()).collect();
        Denied(StatusCode::NOT_FOUND, format!("there is no set `{name}`; there are: {}", names.join(", ")))
    })
}

fn set_json(view: &View, set: &NodeSet, marks: &[u64]) -> Value {
    let nodes = set.members.iter().filter_map(|ix| view.plan().node(*ix));
    let nodes: Vec<Value> = nodes.map(|node| node_json(view, node, marks)).collect();
    let removed = view.listed.iter().filter(|node| node.set == set.name && view.overlay.of(&node.name).removed);
    let removed: Vec<&str> = removed.map(|node| node.name.as_str()).collect();
    json!({
        "name": set.name,
        "takes_calls": view.takes_calls(set),
        "panics": view.panics(set),
        "nodes": nodes,
        "removed": removed,
    })
}

fn node_json(view: &View, node: &Node, marks: &[u64]) -> Value {
    let labels: BTreeMap<&str, &str> = node.labels.iter().map(|(key, word)| (key.as_str(), word.as_str())).collect();
    let traffic = view.traffic(node, marks);
    let refusal = view.refusal(node);
    json!({
        "name": node.name,
        "id": node.id.0,
        "weight": node.weight,
        "intent": node.intent.word(),
        "takes_calls": refusal.is_none(),
        "refusal": refusal,
        "active": view.observed(node).and_then(|status| status.active),
        "active_since_s": view.observed(node).and_then(|status| status.active_since_s),
        "active_cause": view.observed(node).and_then(|status| status.active_cause),
        "switches": view.observed(node).and_then(|status| status.switches),
        "endpoints": view.endpoints(node),
        "labels": labels,
        "marks": traffic.marks,
        "dialogs": traffic.dialogs,
        "dialogs_counted_s": traffic.dialogs_counted_s,
        "changed": changed(view, node),
    })
}

/// What was changed at run time, beside what the file says; null if nothing was.
fn changed(view: &View, node: &Node) -> Value {
    let Some(file) = view.listed.iter().find(|file| file.name == node.name) else {
        return json!({ "added": true, "wins": "run time" });
    };
    let over = view.overlay.of(&node.name);
    let mut changed = Map::new();
    if let Some(intent) = over.intent {
        changed.insert("intent".to_owned(), json!({ "file": file.intent.word(), "run_time": intent.word() }));
    }
    if let Some(weight) = over.weight {
        changed.insert("weight".to_owned(), json!({ "file": file.weight, "run_time": weight }));
    }
    if changed.is_empty() {
        return Value::Null;
    }
    changed.insert("wins".to_owned(), json!("run time"));
    Value::Object(changed)
}
