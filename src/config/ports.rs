//! Local ports: listeners, the node side and its worker ports, in the order that numbers them.
//!
//! Checks that they are concrete, do not overlap and can be told apart in cookies for ever; the
//! numbers in cookies come from names and places in the range, so they survive restarts.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use ipnet::IpNet;

use super::address::{self, Host};
use super::fault::Source;
use super::file::{self, File, Text};
use super::size::{self, Face};
use crate::balance::PortTag;
use crate::packet::{LocalPort, PortId, PortRole};
use crate::shard::{ForceRport, NodeSide, Port};

/// Most worker ports of one address family.
const WORKER_PORTS_MAX: usize = 1_024;
/// Longest name of a listener, bytes.
const NAME_MAX: usize = 40;
/// What the node-side listeners are called in logs and rules, IPv4 and IPv6.
const NODE_SIDES: [&str; 2] = ["node_side", "node_side_v6"];

/// The local ports of a configuration.
#[derive(Default)]
pub(super) struct Local {
    pub(super) ports: Vec<Port>,
    pub(super) node_sides: [Option<NodeSide>; 2],
    pub(super) trusted: Vec<IpNet>,
    families: [bool; 2],
    /// Where each listener's bind is written, in [`PortId`] order.
    spans: Vec<Range<usize>>,
}

impl Local {
    pub(super) fn read(file: &File, source: &mut Source, workers: u16) -> Self {
        let mut local = Self::default();
        for listener in &file.listener {
            local.listener(listener.get_ref(), source);
        }
        if file.listener.is_empty() {
            source.fault(0..0, "there is no listener; at least one `[[listener]]` is right");
        }
        if file.node_side.is_empty() {
            source.fault(0..0, "there is no node side; one `[[node_side]]` for each address family is right");
        }
        let homes: Vec<_> = file.node_side.iter().map(|side| local.node_listener(side.get_ref(), source)).collect();
        for (side, home) in file.node_side.iter().zip(homes) {
            if let Some(home) = home {
                local.worker_ports(side.get_ref(), home, source, workers);
            }
        }
        local.tell_apart(source);
        local.sizes(source);
        local
    }

    /// The listener of a name, for rules and sets.
    pub(super) fn named(&self, source: &mut Source, name: &Text) -> Option<PortId> {
        let listeners: Vec<(&str, PortId)> = self
            .ports
            .iter()
            .enumerate()
            .filter(|(_, port)| port.local.role == PortRole::Listener)
            .map(|(at, port)| (port.name.as_str(), PortId(at as u16)))
            .collect();
        source.choice("listener", name, &listeners)
    }

    /// Which families the node side speaks: IPv4, IPv6.
    pub(super) fn families(&self) -> [bool; 2] {
        self.families
    }

    fn listener(&mut self, listener: &file::Listener, source: &mut Source) {
        let name = listener.name.get_ref();
        if let Err(text) = word("listener", name, NAME_MAX) {
            source.fault(listener.name.span(), text);
        }
        if NODE_SIDES.contains(&name.as_str()) {
            source.fault(
                listener.name.span(),
                format!("`{name}` is what the node side is called; another name is right"),
            );
        }
        if self.ports.iter().any(|port| port.name == *name) {
            source.fault(
                listener.name.span(),
                format!("there is a listener `{name}` already; a name of its own is right"),
            );
        }
        let force = [("auto", ForceRport::Auto), ("always", ForceRport::Always), ("never", ForceRport::Never)];
        let force_rport = listener.force_rport.as_ref().and_then(|word| source.choice("force_rport", word, &force));
        let bound = bound(&listener.bind, source);
        // Its name is known all the same, so that one fault is told, not one for every use of it.
        let bind = bound.unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)));
        if let Some(other) = bound.and_then(|bind| self.holder(bind)) {
            let text = format!("{bind} is bound by listener `{other}` already; an address or port of its own is right");
            source.fault(listener.bind.span(), text);
        }
        let port = Port {
            local: LocalPort { bind, role: PortRole::Listener },
            name: name.clone(),
            tag: PortTag::of_listener(name),
            edge: true,
            node: false,
            advertise: advertised(listener.advertise.as_ref(), bind, source),
            aliases: aliases(&listener.aliases, source),
            force_rport: force_rport.unwrap_or_default(),
        };
        self.push(port, listener.bind.span());
    }

    /// The listener port of a node side: of its own, or a listener that serves both sides.
    fn node_listener(&mut self, side: &file::NodeSide, source: &mut Source) -> Option<PortId> {
        for net in &side.trusted {
            match address::net(net.get_ref()) {
                Ok(net) => self.trusted.push(net),
                Err(text) => source.fault(net.span(), text),
            }
        }
        let Some(bind) = bound(&side.bind, source) else {
            // It may be of either family: nodes are not faulted for it.
            self.families = [true; 2];
            return None;
        };
        let [v4, v6] = &mut self.families;
        *(if bind.is_ipv4() { v4 } else { v6 }) = true;
        let advertise = advertised(side.advertise.as_ref(), bind, source);
        if let Some(at) = self.ports.iter().position(|port| port.local.bind == bind) {
            let port = self.ports.get_mut(at)?;
            if side.advertise.is_some() && port.advertise != advertise {
                let text = format!(
                    "listener `{}` has the same bind and advertises `{}`, this side `{advertise}`; the same `advertise` \
                     in both, or a bind of its own, is right",
                    port.name, port.advertise
                );
                source.fault(side.advertise.as_ref()?.span(), text);
            }
            port.node = true;
            return Some(PortId(at as u16));
        }
        let [v4, v6] = NODE_SIDES;
        let name = if bind.is_ipv6() { v6 } else { v4 };
        let port = Port {
            local: LocalPort { bind, role: PortRole::Listener },
            name: name.to_owned(),
            tag: PortTag::of_listener(name),
            edge: false,
            node: true,
            advertise,
            aliases: Vec::new(),
            force_rport: ForceRport::default(),
        };
        Some(self.push(port, side.bind.span()))
    }

    fn worker_ports(&mut self, side: &file::NodeSide, home: PortId, source: &mut Source, workers: u16) {
        let Some(home_port) = self.ports.get(usize::from(home.0)).cloned() else { return };
        let bind = home_port.local.bind;
        let numbers = match address::ports(side.ports.get_ref()) {
            Ok(numbers) => numbers,
            Err(text) => return source.fault(side.ports.span(), text),
        };
        let count = numbers.clone().count();
        let at = side.ports.span();
        if count > WORKER_PORTS_MAX {
            return source.fault(at, format!("{count} worker ports are too many; {WORKER_PORTS_MAX} at most is right"));
        }
        if count < usize::from(workers) {
            source.fault(
                at.clone(),
                format!("{count} worker ports are too few; one for each of {workers} workers is right"),
            );
        } else if !count.is_multiple_of(usize::from(workers.max(1))) {
            let text =
                format!("{count} worker ports over {workers} workers: some workers hold more of them than others");
            source.warn(at.clone(), text);
        }
        let taken = self.ports.iter().map(|port| port.local.bind);
        if let Some(taken) = taken.filter(|addr| addr.ip() == bind.ip()).find(|addr| numbers.contains(&addr.port())) {
            source
                .fault(at, format!("{taken} is bound already; a range free of other ports of {} is right", bind.ip()));
        }
        let source_choices = [("worker", false), ("shared", true)];
        let shared = side.node_source.as_ref().and_then(|word| source.choice("node_source", word, &source_choices));
        let host =
            home_port.advertise.strip_suffix(&format!(":{}", port_in(&home_port.advertise, bind))).map(str::to_owned);
        let host = host.unwrap_or_else(|| home_port.advertise.clone());
        let worker_ports = numbers.zip(0_u16..).map(|(number, index)| {
            let port = Port {
                local: LocalPort { bind: SocketAddr::new(bind.ip(), number), role: PortRole::Worker { index } },
                tag: PortTag::of_worker_port(bind.is_ipv6(), index),
                edge: false,
                node: true,
                advertise: format!("{host}:{number}"),
                aliases: Vec::new(),
                ..home_port.clone()
            };
            self.push(port, side.ports.span())
        });
        let node_side =
            NodeSide { listener: home, worker_ports: worker_ports.collect(), shared: shared.unwrap_or(false) };
        let other = self.node_sides.iter().flatten().map(|side| side.worker_ports.len()).find(|other| *other != count);
        if let Some(other) = other {
            // The owner's place in the range is in every branch, and must mean the same worker in both.
            let text =
                format!("{count} worker ports here and {other} on the other node side; as many in both is right");
            source.fault(side.ports.span(), text);
        }
        let Some(place) = self.node_sides.get_mut(usize::from(bind.is_ipv6())) else { return };
        if place.replace(node_side).is_some() {
            let family = if bind.is_ipv6() { "IPv6" } else { "IPv4" };
            source.fault(side.bind.span(), format!("there is a node side for {family} already; one a family is right"));
        }
    }

    /// Cookies name a listener by 15 bits of its name's hash.
    fn tell_apart(&self, source: &mut Source) {
        let mut seen: HashMap<u16, &str> = HashMap::new();
        for (port, span) in self.ports.iter().zip(&self.spans) {
            if port.local.role != PortRole::Listener {
                continue;
            }
            match seen.insert(port.tag.0, &port.name) {
                Some(other) if other != port.name => source.fault(
                    span.clone(),
                    format!(
                        "listeners `{other}` and `{}` have the same number {} in cookies; another name for one of them \
                         is right",
                        port.name, port.tag.0
                    ),
                ),
                _ => {}
            }
        }
    }

    fn sizes(&self, source: &mut Source) {
        for side in self.node_sides.iter().flatten() {
            let Some(home) = self.ports.get(usize::from(side.listener.0)) else { continue };
            let of = |id: &PortId| self.ports.get(usize::from(id.0)).map_or(0, |port| port.advertise.len());
            let sent_by = side.worker_ports.iter().map(of).max().unwrap_or(0).max(home.advertise.len());
            let node = Face { bind: home.local.bind, advertise: &home.advertise, sent_by };
            for (edge, span) in self.ports.iter().zip(&self.spans).filter(|(port, _)| port.edge) {
                let face = Face { bind: edge.local.bind, advertise: &edge.advertise, sent_by: edge.advertise.len() };
                if let Some(text) = size::excess(face, node) {
                    source.fault(span.clone(), text);
                }
            }
        }
    }

    fn holder(&self, bind: SocketAddr) -> Option<&str> {
        self.ports.iter().find(|port| port.local.bind == bind).map(|port| port.name.as_str())
    }

    fn push(&mut self, port: Port, span: Range<usize>) -> PortId {
        let id = PortId(self.ports.len() as u16);
        self.ports.push(port);
        self.spans.push(span);
        id
    }
}

fn bound(text: &Text, source: &mut Source) -> Option<SocketAddr> {
    address::bind(text.get_ref()).map_err(|fault| source.fault(text.span(), fault)).ok()
}

/// Host and port that messages name; a port is always written, since a name without one means 5060.
fn advertised(text: Option<&Text>, bind: SocketAddr, source: &mut Source) -> String {
    let Some(text) = text else { return bind.to_string() };
    match address::host_port(text.get_ref()) {
        Ok((Host::Ip(ip), _)) if ip.is_unspecified() => {
            source.fault(
                text.span(),
                format!("`{}` names no place to send to; an address or a name is right", text.get_ref()),
            );
            bind.to_string()
        }
        Ok((host, port)) => format!("{host}:{}", port.unwrap_or(bind.port())),
        Err(fault) => {
            source.fault(text.span(), fault);
            bind.to_string()
        }
    }
}

fn port_in(advertise: &str, bind: SocketAddr) -> u16 {
    advertise.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(bind.port())
}

/// Further names of ours, as they are compared.
pub(super) fn aliases(texts: &[Text], source: &mut Source) -> Vec<String> {
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        match address::host_port(text.get_ref()) {
            Ok((host, Some(port))) => names.push(format!("{host}:{port}")),
            Ok((host, None)) => names.push(host.to_string()),
            Err(fault) => source.fault(text.span(), fault),
        }
    }
    names
}

/// A name that can stand in a header parameter, a log line and a metric.
pub(super) fn word(what: &str, name: &str, max: usize) -> Result<(), String> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=max).contains(&name.len()) && name.bytes().all(sound) {
        return Ok(());
    }
    Err(format!("`{name}` is no name for a {what}; 1 to {max} letters, digits, `-`, `_` and `.` are right"))
}
