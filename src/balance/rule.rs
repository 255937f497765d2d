//! Rules: which set a request belongs to, by where it came from and whom it asks for.
//!
//! Filled from the file; the shard asks in order and takes the first that matches. Hosts arrive as
//! bytes of the request-URI; nothing here parses a message.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::PortId;

use super::SetIx;

/// A host name to compare with, regardless of case and of a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMatch {
    /// Lower case, no dot at the end; with its leading dot for a suffix.
    text: Vec<u8>,
    suffix: bool,
}

impl HostMatch {
    /// `host` itself, or every name below `suffix` if the pattern is `*.suffix`; `None` for a
    /// pattern that is empty or has a `*` elsewhere.
    #[must_use]
    pub fn new(pattern: &str) -> Option<Self> {
        let (text, suffix) = match pattern.strip_prefix('*') {
            Some(rest) => (rest.strip_prefix('.').map(|_| rest)?, true),
            None => (pattern, false),
        };
        let text = undotted(text.as_bytes()).to_ascii_lowercase();
        let least = 1 + usize::from(suffix);
        (text.len() >= least && !text.contains(&b'*')).then_some(Self { text, suffix })
    }

    /// Whether `host` matches.
    #[must_use]
    pub fn matches(&self, host: &[u8]) -> bool {
        let host = undotted(host);
        if !self.suffix {
            return host.eq_ignore_ascii_case(&self.text);
        }
        let label = host.len().saturating_sub(self.text.len());
        label > 0 && host.get(label..).is_some_and(|tail| tail.eq_ignore_ascii_case(&self.text))
    }
}

fn undotted(host: &[u8]) -> &[u8] {
    host.strip_suffix(b".").unwrap_or(host)
}

/// What a request must be like, and the set it then belongs to; `None` matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The local port that it arrived at.
    pub listener: Option<PortId>,
    /// Its method's number, as in [`Keys`](super::Keys).
    pub method: Option<u8>,
    /// Host of the request-URI.
    pub host: Option<HostMatch>,
    /// Source address.
    pub source: Option<IpNet>,
    /// The set.
    pub set: SetIx,
}

impl Rule {
    /// Whether all that the rule names is so.
    #[must_use]
    pub fn matches(&self, port: PortId, method: u8, host: &[u8], source: IpAddr) -> bool {
        self.listener.is_none_or(|wanted| wanted == port)
            && self.method.is_none_or(|wanted| wanted == method)
            && self.source.is_none_or(|net| net.contains(&source.to_canonical()))
            && self.host.as_ref().is_none_or(|wanted| wanted.matches(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_matches_itself_in_any_case_and_with_a_dot_at_the_end() {
        let host = HostMatch::new("Sip.Example.com.").unwrap();
        assert!(host.matches(b"sip.example.com") && host.matches(b"SIP.example.COM."));
        assert!(!host.matches(b"a.sip.example.com") && !host.matches(b"sip.example.co") && !host.matches(b""));
    }

    #[test]
    fn a_suffix_matches_every_name_below_it_but_not_itself_nor_a_longer_label() {
        let host = HostMatch::new("*.example.com").unwrap();
        assert!(host.matches(b"a.example.com") && host.matches(b"b.A.EXAMPLE.com."));
        assert!(!host.matches(b"example.com") && !host.matches(b".example.com"));
        assert!(!host.matches(b"badexample.com") && !host.matches(b"a.example.com.evil"));
    }

    #[test]
    fn a_pattern_with_a_star_elsewhere_is_refused() {
        for bad in ["", ".", "*", "*.", "*example.com", "a.*.com", "*.*.com", "a*"] {
            assert_eq!(HostMatch::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_rule_matches_only_if_everything_it_names_does() {
        let rule = Rule {
            listener: Some(PortId(1)),
            method: Some(3),
            host: HostMatch::new("a.b"),
            source: Some("192.0.2.0/24".parse().unwrap()),
            set: SetIx(0),
        };
        let inside: IpAddr = "192.0.2.9".parse().unwrap();
        assert!(rule.matches(PortId(1), 3, b"A.b", inside));
        assert!(rule.matches(PortId(1), 3, b"A.b", "::ffff:192.0.2.9".parse().unwrap()));
        assert!(!rule.matches(PortId(2), 3, b"a.b", inside));
        assert!(!rule.matches(PortId(1), 4, b"a.b", inside));
        assert!(!rule.matches(PortId(1), 3, b"a.c", inside));
        assert!(!rule.matches(PortId(1), 3, b"a.b", "192.0.3.9".parse().unwrap()));
        let any = Rule { listener: None, method: None, host: None, source: None, set: SetIx(0) };
        assert!(any.matches(PortId(2), 4, b"", "::1".parse().unwrap()));
    }
}
