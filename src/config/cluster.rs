//! Sets, nodes and rules: what a reload may change.
//!
//! Checks all of them against each other and against the listeners, and turns them into a
//! `PlanSpec` once the names of nodes have addresses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use super::address::{self, Host};
use super::fault::{Fault, Faults, Source};
use super::file::{self, File, Text};
use super::health::health;
use super::policy::{keys, method, policy};
use super::ports::{Local, word};
use crate::balance::{HealthPolicy, HostMatch, Intent, NODES_MAX, NodeId, NodeSpec, PlanSpec, Rule, SetIx, SetSpec};
use crate::control::{Added, Addresses, Listed, Overlay};
use crate::packet::{PortId, PortRole};

/// Longest name of a set or node, bytes.
const NAME_MAX: usize = 64;
/// Port of a node that the file gives none (RFC 3261 19.1.2).
const SIP_PORT: u16 = 5060;

/// The nodes as the file gives them, checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    sets: Vec<SetSpec>,
    nodes: Vec<Node>,
    rules: Vec<Rule>,
    /// How many of them stand in the file.
    written: usize,
    trusted: Vec<IpNet>,
    families: [bool; 2],
    /// Our own addresses, which no node's name may lead to.
    binds: Vec<SocketAddr>,
    /// What `[health]` says.
    health: HealthPolicy,
}

#[derive(Clone, Debug)]
struct Node {
    set: SetIx,
    id: NodeId,
    spec: NodeSpec,
    /// Primary and backup, each with what to say if it does not resolve.
    addresses: Vec<(Host, u16, Fault)>,
}

impl Cluster {
    pub(super) fn read(file: &File, local: &Local, source: &mut Source) -> Self {
        let mut cluster = Self { trusted: local.trusted.clone(), families: local.families(), ..Self::default() };
        cluster.binds = local.ports.iter().map(|own| own.local.bind).collect();
        cluster.health = health(&file.health, HealthPolicy::default(), source);
        let mut watched: Vec<String> = Vec::new();
        for (set, ix) in file.set.iter().zip(0..) {
            cluster.set(set, SetIx(ix), local, source, &mut watched);
        }
        if file.set.is_empty() {
            source.fault(0..0, "there is no set; at least one `[[set]]` with a `[[set.node]]` is right");
        }
        if cluster.nodes.len() > NODES_MAX {
            let text = format!("{} nodes are too many; {NODES_MAX} at most is right", cluster.nodes.len());
            source.fault(0..0, text);
        }
        for rule in &file.rule {
            let rule = cluster.rule(rule, local, source);
            cluster.rules.extend(rule);
        }
        cluster.written = cluster.rules.len();
        cluster.default_rules(file, local, source);
        cluster
    }

    /// Names of nodes that need an address.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.nodes.iter().flat_map(|node| names_of(&node.addresses)).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn rules_written(&self) -> usize {
        self.written
    }

    /// The nodes of the file.
    pub(super) fn listed(&self) -> Vec<Listed> {
        let of = |node: &Node| {
            let set = self.sets.get(usize::from(node.set.0)).map(|set| set.name.clone()).unwrap_or_default();
            let NodeSpec { name, intent, weight, .. } = &node.spec;
            Listed { set, name: name.clone(), id: node.id, intent: *intent, weight: *weight }
        };
        self.nodes.iter().map(of).collect()
    }

    /// The whole of what a plan is built of, with what the names of nodes resolved to and what was
    /// changed at run time.
    pub(super) fn spec(&self, found: &Addresses, overlay: &Overlay) -> Result<PlanSpec, Faults> {
        let mut faults = Vec::new();
        let mut sets = self.sets.clone();
        let added: Vec<Node> = overlay.added.iter().filter_map(|added| self.added(added).ok()).collect();
        for node in self.nodes.iter().chain(&added) {
            let over = overlay.of(&node.spec.name);
            if over.removed {
                continue;
            }
            let mut spec = node.spec.clone();
            spec.intent = over.intent.unwrap_or(spec.intent);
            spec.weight = over.weight.unwrap_or(spec.weight);
            for (place, (host, port, fault)) in spec.addrs.iter_mut().zip(&node.addresses) {
                match self.resolve(host, found) {
                    // What `node` checks of literal addresses.
                    Ok(ip) if self.binds.contains(&SocketAddr::new(ip, *port)) => {
                        let text =
                            format!("this resolves to {ip}, which is sipring itself; the node's own address is right");
                        faults.push(Fault { text, ..fault.clone() });
                    }
                    Ok(ip) => *place = Some(SocketAddr::new(ip, *port)),
                    Err(text) => faults.push(Fault { text, ..fault.clone() }),
                }
            }
            if let Some(set) = sets.get_mut(usize::from(node.set.0)) {
                set.nodes.push(spec);
            }
        }
        if faults.is_empty() {
            Ok(PlanSpec { sets, rules: self.rules.clone(), trusted: self.trusted.clone() })
        } else {
            Err(Faults(faults))
        }
    }

    /// Which names a node to be added needs an address for.
    pub(super) fn admit(&self, added: &Added) -> Result<Vec<String>, String> {
        Ok(names_of(&self.added(added)?.addresses).cloned().collect())
    }

    /// A node that is added at run time, checked as those of the file are.
    fn added(&self, added: &Added) -> Result<Node, String> {
        word("node", &added.name, NAME_MAX)?;
        let set = self.sets.iter().zip(0..).find(|(set, _)| set.name == added.set).map(|(_, ix)| SetIx(ix));
        let mut addresses = Vec::new();
        for text in std::iter::once(&added.address).chain(&added.pair) {
            let (host, port) = address::host_port(text)?;
            let port = port.unwrap_or(SIP_PORT);
            if let Some(text) = self.unfit(&host, port).into_iter().next() {
                return Err(text);
            }
            let fault = Fault::of_file(Path::new(&format!("node `{}`, added at run time", added.name)), "");
            addresses.push((host, port, fault));
        }
        let spec = NodeSpec {
            name: added.name.clone(),
            id: Some(added.node_id()),
            addrs: [None; 2],
            weight: added.weight,
            labels: added.labels.clone().into_iter().collect(),
            intent: added.intent,
        };
        Ok(Node { set: set.unwrap_or(SetIx(u16::MAX)), id: added.node_id(), spec, addresses })
    }

    /// What is wrong with an address of a node, as far as it is one.
    fn unfit(&self, host: &Host, port: u16) -> Vec<String> {
        let Host::Ip(ip) = *host else { return Vec::new() };
        let mut faults = Vec::new();
        if ip.is_unspecified() || ip.is_multicast() {
            faults.push(format!("{ip} is no address of one node; its own address is right"));
        } else if !self.speaks(ip) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            faults.push(format!("no `[[node_side]]` is {family}; one that is, or another address, is right"));
        }
        let addr = SocketAddr::new(ip, port);
        if self.binds.contains(&addr) {
            faults.push(format!("{addr} is sipring itself; the node's own address is right"));
        }
        faults
    }

    fn resolve(&self, host: &Host, found: &Addresses) -> Result<IpAddr, String> {
        let name = match host {
            Host::Ip(ip) => return Ok(*ip),
            Host::Name(name) => name,
        };
        let known = found.get(name).map(Vec::as_slice).unwrap_or_default();
        if known.is_empty() {
            return Err(format!("`{name}` does not resolve to an address; a name with an A or AAAA record is right"));
        }
        // The lowest, so that the order in which a name server lists them moves nothing.
        let usable = |ip: &IpAddr| self.speaks(*ip) && !ip.is_unspecified() && !ip.is_multicast();
        known.iter().copied().filter(usable).min().ok_or_else(|| {
            let list: Vec<String> = known.iter().map(ToString::to_string).collect();
            format!("`{name}` resolves to {} only, and no `[[node_side]]` is of that family", list.join(", "))
        })
    }

    fn speaks(&self, ip: IpAddr) -> bool {
        let [v4, v6] = self.families;
        if ip.is_ipv4() { v4 } else { v6 }
    }

    fn set(&mut self, set: &file::Set, ix: SetIx, local: &Local, source: &mut Source, watched: &mut Vec<String>) {
        let name = set.name.get_ref();
        if let Err(text) = word("set", name, NAME_MAX) {
            source.fault(set.name.span(), text);
        }
        if self.sets.iter().any(|other| other.name == *name) {
            source.fault(set.name.span(), format!("there is a set `{name}` already; a name of its own is right"));
        }
        let slots_log2 = match set.slots.as_ref().map(|slots| (*slots.get_ref(), slots.span())) {
            None => 18,
            Some((slots, _)) if slots > 0 && (10..=18).contains(&slots.ilog2()) && slots.count_ones() == 1 => {
                slots.ilog2() as u8
            }
            Some((slots, at)) => {
                source.fault(at, format!("slots = {slots}; a power of two from 1024 to 262144 is right"));
                18
            }
        };
        let keys = keys(set, source, watched);
        let policy = policy(set, self.health, local, source, watched);
        if set.node.is_empty() {
            source.fault(set.name.span(), format!("set `{name}` has no node; at least one `[[set.node]]` is right"));
        }
        self.sets.push(SetSpec { name: name.clone(), slots_log2, keys, policy, nodes: Vec::new() });
        for node in &set.node {
            self.node(node, ix, source);
        }
    }

    fn node(&mut self, node: &file::Node, set: SetIx, source: &mut Source) {
        let name = node.name.get_ref();
        if let Err(text) = word("node", name, NAME_MAX) {
            source.fault(node.name.span(), text);
        }
        let id = match &node.id {
            Some(id) => source.within("id", id, 0..(1 << 32)).map(|id| NodeId(id as u32)),
            None => Some(NodeId::of_name(name)),
        };
        if self.nodes.iter().any(|other| other.spec.name == *name) {
            source.fault(node.name.span(), format!("there is a node `{name}` already; a name of its own is right"));
        } else if let Some(other) = self.nodes.iter().find(|other| Some(other.id) == id) {
            let at = node.id.as_ref().map_or(node.name.span(), toml::Spanned::span);
            let text = format!("node `{}` has the id {} already; another `id` is right", other.spec.name, other.id.0);
            source.fault(at, text);
        }
        let mut addresses = Vec::new();
        for text in std::iter::once(&node.address).chain(&node.pair) {
            addresses.extend(self.address(text, set, &addresses, source));
        }
        let weight = node.weight.as_ref().and_then(|weight| source.within("weight", weight, 1..65_536));
        let intent = node.intent.as_ref().and_then(|word| source.choice("intent", word, &Intent::WORDS));
        let spec = NodeSpec {
            id,
            name: name.clone(),
            weight: weight.unwrap_or(100) as u32,
            labels: node.labels.clone().into_iter().collect(),
            intent: intent.unwrap_or_default(),
            addrs: [None; 2],
        };
        self.nodes.push(Node { set, id: id.unwrap_or(NodeId(0)), spec, addresses });
    }

    fn address(
        &self,
        text: &Text,
        set: SetIx,
        own: &[(Host, u16, Fault)],
        source: &mut Source,
    ) -> Option<(Host, u16, Fault)> {
        let (host, port) = match address::host_port(text.get_ref()) {
            Ok((host, port)) => (host, port.unwrap_or(SIP_PORT)),
            Err(fault) => {
                source.fault(text.span(), fault);
                return None;
            }
        };
        for fault in self.unfit(&host, port) {
            source.fault(text.span(), fault);
        }
        let same = |(other, number, _): &(Host, u16, Fault)| *other == host && *number == port;
        let others = self.nodes.iter().filter(|node| node.set == set);
        if let Some(other) = others.clone().find(|node| node.addresses.iter().any(same)) {
            let text_of =
                format!("node `{}` has this address already; an address of its own is right", other.spec.name);
            source.fault(text.span(), text_of);
        } else if own.iter().any(same) {
            source.fault(text.span(), "`pair` is `address` again; the second address of the pair is right");
        }
        let fault = source.at(text.span(), "");
        Some((host, port, fault))
    }

    fn set_ix(&self, name: &Text, source: &mut Source) -> Option<SetIx> {
        let sets: Vec<(&str, SetIx)> =
            self.sets.iter().zip(0..).map(|(set, ix)| (set.name.as_str(), SetIx(ix))).collect();
        source.choice("set", name, &sets)
    }

    fn rule(&self, rule: &file::Rule, local: &Local, source: &mut Source) -> Option<Rule> {
        let listener = rule.listener.as_ref().map(|name| local.named(source, name));
        let method = rule.method.as_ref().map(|name| method(name, source));
        let host = rule.host.as_ref().map(|host| {
            let found = HostMatch::new(host.get_ref());
            if found.is_none() {
                let text = format!(
                    "`{}` is no host to compare with; `sip.example.com` or `*.example.com` is right",
                    host.get_ref()
                );
                source.fault(host.span(), text);
            }
            found
        });
        let net = rule
            .source
            .as_ref()
            .map(|net| address::net(net.get_ref()).map_err(|text| source.fault(net.span(), text)).ok());
        let set = self.set_ix(&rule.set, source);
        // A part that is there and wrong must not become a rule that matches more.
        let part = |given: bool, sound: bool| !given || sound;
        let sound = part(listener.is_some(), listener.flatten().is_some())
            && part(method.is_some(), method.flatten().is_some())
            && part(net.is_some(), net.flatten().is_some());
        let host_sound = part(host.is_some(), host.as_ref().is_some_and(Option::is_some));
        (sound && host_sound).then_some(Rule {
            listener: listener.flatten(),
            method: method.flatten(),
            host: host.flatten(),
            source: net.flatten(),
            set: set?,
        })
    }

    /// Where requests go that no rule matches: the listener's set, else the only one there is.
    fn default_rules(&mut self, file: &File, local: &Local, source: &mut Source) {
        let all = |listener, set| Rule { listener, method: None, host: None, source: None, set };
        let named: HashMap<&str, &Text> = file
            .listener
            .iter()
            .filter_map(|listener| Some((listener.get_ref().name.get_ref().as_str(), listener.get_ref().set.as_ref()?)))
            .collect();
        for (port, at) in
            local.ports.iter().zip(0..).filter(|(port, _)| port.edge && port.local.role == PortRole::Listener)
        {
            if let Some(set) = named.get(port.name.as_str()).and_then(|name| self.set_ix(name, source)) {
                self.rules.push(all(Some(PortId(at)), set));
            }
        }
        if self.sets.len() == 1 {
            self.rules.push(all(None, SetIx(0)));
        }
    }
}

fn names_of(addresses: &[(Host, u16, Fault)]) -> impl Iterator<Item = &String> {
    addresses.iter().filter_map(|(host, _, _)| match host {
        Host::Name(name) => Some(name),
        Host::Ip(_) => None,
    })
}
