//! The admin side of a balancer as a plain HTTP client sees it: one request on each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::namespace::Place;

/// Where the admin side listens if the config does not say.
pub(crate) const DEFAULT_ADMIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8060));

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) struct Admin {
    place: Place,
    at: SocketAddr,
    headers: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// What it says went wrong.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}")).to_owned()
    }

    /// The value of a metric, by its name and labels as they are written.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in {}", self.body))
    }

    /// The sum of all lines whose name and labels contain all of `words`.
    pub(crate) fn sum(&self, words: &[&str]) -> f64 {
        let lines = self.body.lines().filter(|line| !line.starts_with('#'));
        let rows = lines.filter_map(|line| line.rsplit_once(' '));
        rows.filter(|(name, _)| words.iter().all(|word| name.contains(word)))
            .map(|(_, value)| value.parse::<f64>().unwrap_or_else(|e| panic!("{value}: {e}")))
            .sum()
    }
}

impl Admin {
    pub(crate) fn new(place: &Place, at: SocketAddr) -> Self {
        Self { place: place.clone(), at, headers: String::new() }
    }

    /// The same with a header more on every request.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = self.place.connect(self.at).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", self.at));
        stream.set_read_timeout(Some(LIMIT)).unwrap_or_else(|e| panic!("{e}"));
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let host = if self.headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.at) };
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{}Content-Length: {}\r\n\r\n", self.headers, body.len());
        let mut stream = self.connect();
        // A refusal may come, and the connection end, before all is sent.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        reply(&mut stream).unwrap_or_else(|| panic!("{method} {path} got no answer"))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, b"")
    }

    pub(crate) fn post(&self, path: &str) -> Reply {
        self.ask("POST", path, b"")
    }

    pub(crate) fn node(&self, set: &str, name: &str) -> Value {
        let told = self.get(&format!("/sets/{set}")).json();
        let node = told["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["name"] == name)).cloned();
        node.unwrap_or_else(|| panic!("no node {name} in {told}"))
    }
}

/// One answer, to the end of the connection; none if it ended without.
pub(crate) fn reply(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    let mut room = [0; 65_536];
    // A reset behind the answer is no fault of the answer.
    while let Ok(length @ 1..) = stream.read(&mut room) {
        bytes.extend_from_slice(room.get(..length).unwrap_or_default());
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|e| panic!("{e}"));
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
}
