//! How a set wants its messages treated: keys per method, policy, the headers it looks for.
//!
//! Part of checking a set, for `cluster`; counts the headers of all sets, since the scanner looks
//! for all of them in every message.

use std::collections::BTreeMap;

use super::fault::{Source, unknown};
use super::file::{self, Text};
use super::health::health;
use super::ports::Local;
use super::size;
use crate::balance::{
    ContactMode, HealthPolicy, KeyBy, Keys, LostDialog, PathMode, SetPolicy, SourceForm, SourceHeader,
};
use crate::sip::{Method, WATCH_MAX, Watch};

/// Methods that rules and keys can name.
const METHODS: [Method; 14] = [
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Bye,
    Method::Prack,
    Method::Register,
    Method::Options,
    Method::Publish,
    Method::Message,
    Method::Info,
    Method::Update,
    Method::Subscribe,
    Method::Notify,
    Method::Refer,
];

/// Headers that nodes read for themselves and the scanner does not know.
const TAKEN: [&str; 5] = ["content-type", "c", "require", "authorization", "proxy-authorization"];

pub(super) fn method(name: &Text, source: &mut Source) -> Option<u8> {
    let choices: Vec<(&str, u8)> = METHODS.iter().map(|method| (method.name(), *method as u8)).collect();
    source.choice("method", name, &choices)
}

pub(super) fn keys(set: &file::Set, source: &mut Source, watched: &mut Vec<String>) -> Keys {
    let default = set.key.as_ref().and_then(|text| key(text, source, watched)).unwrap_or_default();
    let mut overrides: BTreeMap<u8, KeyBy> = BTreeMap::new();
    // Binding and look-up must meet: a registrar's node is found by what was registered.
    overrides.insert(Method::Register as u8, KeyBy::Aor);
    for (name, text) in &set.keys {
        if let (Some(method), Some(key)) = (method(name, source), key(text, source, watched)) {
            overrides.insert(method, key);
        }
    }
    Keys::new(&default, &overrides.into_iter().collect::<Vec<_>>())
}

fn key(text: &Text, source: &mut Source, watched: &mut Vec<String>) -> Option<KeyBy> {
    let named = text.get_ref().strip_prefix("header:").map(str::trim);
    if let Some(name) = named {
        return watch(name, text, source, watched).then(|| KeyBy::Header(name.to_owned()));
    }
    let choices = [
        ("call-id", KeyBy::CallId),
        ("user", KeyBy::User),
        ("aor", KeyBy::Aor),
        ("request-user", KeyBy::RequestUser),
        ("source", KeyBy::Source),
    ];
    let found = choices.iter().find(|(name, _)| name == text.get_ref()).map(|(_, key)| key.clone());
    if found.is_none() {
        let names = ["call-id", "user", "aor", "request-user", "source", "header:NAME"];
        source.fault(text.span(), unknown("key", text.get_ref(), &names));
    }
    found
}

/// Notes a header that the scanner must look for besides its own; false if it cannot.
fn watch(name: &str, at: &Text, source: &mut Source, watched: &mut Vec<String>) -> bool {
    if Watch::new(&[name]).is_none() {
        source.fault(
            at.span(),
            format!(
                "`{name}` cannot be looked for; a token of at most 64 characters that is no routing header is right"
            ),
        );
        return false;
    }
    if !watched.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        watched.push(name.to_owned());
        if watched.len() > WATCH_MAX {
            let text =
                format!("`{name}` is one header too many to look for; {WATCH_MAX} at most, over all sets, is right");
            source.fault(at.span(), text);
            return false;
        }
    }
    true
}

pub(super) fn policy(
    set: &file::Set,
    base: HealthPolicy,
    local: &Local,
    source: &mut Source,
    watched: &mut Vec<String>,
) -> SetPolicy {
    let lost = [("refuse", LostDialog::Refuse), ("rehash", LostDialog::Rehash)];
    let path = [("always", PathMode::Always), ("supported", PathMode::Supported), ("off", PathMode::Off)];
    let contact = [("keep", ContactMode::Keep), ("rewrite", ContactMode::Rewrite)];
    let panic = [("refuse", false), ("use_all", true)];
    let egress = set.egress.as_ref().and_then(|name| {
        let port = local.named(source, name)?;
        if !local.ports.get(usize::from(port.0)).is_some_and(|port| port.edge) {
            source.fault(
                name.span(),
                format!("`{}` faces nodes; a listener that faces clients is right", name.get_ref()),
            );
        }
        Some(port)
    });
    SetPolicy {
        lost_dialog: set.lost_dialog.as_ref().and_then(|w| source.choice("lost_dialog", w, &lost)).unwrap_or_default(),
        relay_503: set.relay_503.unwrap_or(false),
        egress,
        path: set.path.as_ref().and_then(|w| source.choice("path", w, &path)).unwrap_or_default(),
        contact: set.contact.as_ref().and_then(|w| source.choice("contact", w, &contact)).unwrap_or_default(),
        source_header: set.source_header.as_ref().and_then(|header| source_header(header, local, source, watched)),
        use_all_when_down: set.panic.as_ref().and_then(|w| source.choice("panic", w, &panic)).unwrap_or(false),
        health: health(&set.health, base, source),
    }
}

fn source_header(
    header: &file::SourceHeader,
    local: &Local,
    source: &mut Source,
    watched: &mut Vec<String>,
) -> Option<SourceHeader> {
    let name = header.name.get_ref();
    let forms = [("full", SourceForm::Full), ("address", SourceForm::Address)];
    let form = header.form.as_ref().and_then(|word| source.choice("form", word, &forms)).unwrap_or_default();
    if TAKEN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        source.fault(
            header.name.span(),
            format!("`{name}` is a header of its own; a name such as X-Sipring-Source is right"),
        );
        return None;
    }
    if !watch(name, &header.name, source, watched) {
        return None;
    }
    for port in local.ports.iter().filter(|port| port.edge) {
        if let Some(text) = size::source_excess(name, form == SourceForm::Full, &port.name, port.local.bind) {
            source.fault(header.name.span(), text);
        }
    }
    Some(SourceHeader { name: name.clone(), form })
}
