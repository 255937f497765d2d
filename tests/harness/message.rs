//! A SIP message as the user agents of the tests read and write it: plain, slow, and not the product's parser.

use std::net::{IpAddr, SocketAddr};

/// Headers by their long names, unfolded, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn request(method: &str, uri: &str) -> Self {
        Self { start: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: Vec::new() }
    }

    /// A response to `request`, with what 8.2.6.2 copies; `tag` completes the To.
    pub(crate) fn response(request: &Self, code: u16, reason: &str, tag: &str) -> Self {
        let mut response = Self { start: format!("SIP/2.0 {code} {reason}"), headers: Vec::new(), body: Vec::new() };
        for (name, value) in &request.headers {
            if matches!(name.as_str(), "Via" | "From" | "Call-ID" | "CSeq") {
                response.headers.push((name.clone(), value.clone()));
            } else if name == "To" {
                let tagged = tag.is_empty() || parameter(value, "tag").is_some();
                let value = if tagged { value.clone() } else { format!("{value};tag={tag}") };
                response.headers.push((name.clone(), value));
            }
        }
        response
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(bytes.get(..end)?).replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.push((long(name.trim()), value.trim().to_owned()));
        }
        Some(Self { start, headers, body: bytes.get(end + 4..)?.to_vec() })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "Content-Length") {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    pub(crate) fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// All values of a header that is a list, one each, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(have, _)| have == name).flat_map(|(_, value)| list(value)).collect()
    }

    pub(crate) fn call_id(&self) -> &str {
        self.header("Call-ID")
    }

    pub(crate) fn cseq(&self) -> (u32, &str) {
        let mut parts = self.header("CSeq").split_whitespace();
        (parts.next().and_then(|n| n.parse().ok()).unwrap_or(0), parts.next().unwrap_or_default())
    }

    pub(crate) fn tag(&self, header: &str) -> Option<String> {
        parameter(self.header(header), "tag")
    }

    pub(crate) fn via(&self) -> String {
        self.values("Via").into_iter().next().unwrap_or_default()
    }

    /// What 17.2.3 matches a server transaction by, but for the method.
    pub(crate) fn transaction(&self) -> (String, String) {
        let via = self.via();
        (parameter(&via, "branch").unwrap_or_default(), sent_by(&via).to_owned())
    }

    /// Does what 18.2.1 and RFC 3581 ask of who received this request from `source`.
    pub(crate) fn mark_received(&mut self, source: SocketAddr) {
        let Some((_, value)) = self.headers.iter_mut().find(|(name, _)| name == "Via") else { return };
        let mut values = list(value);
        let Some(top) = values.first_mut() else { return };
        let asked = top.split(';').any(|part| part.trim().eq_ignore_ascii_case("rport"));
        if asked {
            let parts: Vec<String> = top.split(';').map(|part| filled(part, source.port())).collect();
            *top = parts.join(";");
        }
        if asked || address(sent_by(top), 5060).map(|a| a.ip()) != Some(source.ip()) {
            top.push_str(&format!(";received={}", source.ip()));
        }
        *value = values.join(", ");
    }

    /// Where 18.2.2 and RFC 3581 send the response to this request.
    pub(crate) fn answer_to(&self) -> Option<SocketAddr> {
        let via = self.via();
        let mut to = address(sent_by(&via), 5060)?;
        if let Some(ip) = parameter(&via, "received").and_then(|ip| ip.trim_matches(['[', ']']).parse::<IpAddr>().ok())
        {
            to.set_ip(ip);
        }
        if let Some(port) = parameter(&via, "rport").and_then(|port| port.parse().ok()) {
            to.set_port(port);
        }
        Some(to)
    }
}

fn filled(part: &str, port: u16) -> String {
    if part.trim().eq_ignore_ascii_case("rport") { format!("rport={port}") } else { part.to_owned() }
}

fn long(name: &str) -> String {
    let known = [
        ("v", "Via"),
        ("f", "From"),
        ("t", "To"),
        ("i", "Call-ID"),
        ("m", "Contact"),
        ("l", "Content-Length"),
        ("c", "Content-Type"),
        ("k", "Supported"),
    ];
    let canonical =
        ["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Content-Length", "Route", "Record-Route", "Path"];
    let short = known.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).map(|(_, long)| *long);
    let same = canonical.iter().find(|long| long.eq_ignore_ascii_case(name)).copied();
    short.or(same).unwrap_or(name).to_owned()
}

/// The values of a comma-separated list; commas in quotes and angle brackets part nothing.
pub(crate) fn list(value: &str) -> Vec<String> {
    let (mut values, mut current) = (Vec::new(), String::new());
    let (mut quoted, mut angle, mut escaped) = (false, false, false);
    for c in value.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ',' if !quoted && !angle => {
                values.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        current.push(c);
    }
    values.push(current.trim().to_owned());
    values.retain(|value| !value.is_empty());
    values
}

/// A parameter behind the angle brackets of a header value (or of a value without any).
pub(crate) fn parameter(value: &str, name: &str) -> Option<String> {
    let parameters = value.rsplit_once('>').map_or(value, |(_, behind)| behind);
    let mut pairs = parameters.split(';').skip(1).map(|part| part.split_once('=').unwrap_or((part, "")));
    pairs.find(|(have, _)| have.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// The URI of a header value, with its parameters where it stands in angle brackets.
pub(crate) fn uri(value: &str) -> &str {
    match (value.find('<'), value.find('>')) {
        (Some(open), Some(close)) if open < close => value.get(open + 1..close).unwrap_or_default(),
        _ => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// Host and port of a SIP URI whose host is an address.
pub(crate) fn host_port(uri: &str) -> Option<SocketAddr> {
    let rest = uri.split_once(':')?.1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    address(rest.split([';', '?']).next()?, 5060)
}

fn sent_by(via: &str) -> &str {
    via.split(';').next().unwrap_or_default().split_whitespace().nth(1).unwrap_or_default()
}

fn address(host_port: &str, default: u16) -> Option<SocketAddr> {
    let text = host_port.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, default))
}

#[test]
fn values_parameters_and_addresses_are_read_as_written() {
    let text = "INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP [::1]:5070;branch=z9hG4bKx;rport , SIP/2.0/UDP h;branch=y\r\n\
                Record-Route: <sip:x,y@[fd00::1]:5060;lr>,\r\n <sip:c@10.0.0.1;lr>\r\nf: \"a, <b\" <sip:q@r;tag=no>;tag=yes\r\n\r\nbody";
    let mut message = Message::parse(text.as_bytes()).expect("a message");
    assert_eq!(message.transaction(), ("z9hG4bKx".into(), "[::1]:5070".into()));
    assert_eq!(message.values("Record-Route"), ["<sip:x,y@[fd00::1]:5060;lr>", "<sip:c@10.0.0.1;lr>"]);
    assert_eq!(message.tag("From"), Some("yes".into()));
    assert_eq!(host_port(uri(&message.values("Record-Route")[0])), "[fd00::1]:5060".parse().ok());
    assert_eq!(host_port("sip:c@10.0.0.1;lr"), "10.0.0.1:5060".parse().ok());
    message.mark_received("[fd00::9]:4444".parse().expect("an address"));
    assert_eq!(message.answer_to(), "[fd00::9]:4444".parse().ok());
    assert_eq!(message.values("Via").len(), 2);
    assert_eq!(message.body, b"body");
}
