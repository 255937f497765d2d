//! Digest authentication (RFC 2617, RFC 7616, RFC 8760): MD5 and SHA-256, with and without `auth`.
//!
//! Answers the challenges of registrars and nodes, and challenges as one. Pure; driven by the agent
//! for requests that were refused, never on the way of the others.

use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest as _, Sha256};
use sipring::sip::{Header, Message, Text, headers};

/// What an answering side of ours calls itself.
const REALM: &str = "sipring-load";

/// The request that is to be sent with credentials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) user: &'a str,
    /// Of one of many users.
    pub(crate) number: Option<u32>,
    pub(crate) password: &'a str,
    pub(crate) client_nonce: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// With whether it is one of `-sess`; MD5 where none is named.
    fn parse(name: &str) -> Option<(Self, bool)> {
        let (name, sess) = match name.len().checked_sub(5).and_then(|at| name.split_at_checked(at)) {
            Some((front, back)) if back.eq_ignore_ascii_case("-sess") => (front, true),
            _ => (name, false),
        };
        let all = [("", Self::Md5), ("MD5", Self::Md5), ("SHA-256", Self::Sha256)];
        let known = all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some((known.1, sess))
    }

    fn hex(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The parameters of a challenge or of credentials.
#[derive(Clone, Debug, Default)]
struct Params<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Params<'a> {
    /// None unless the scheme is Digest.
    fn parse(value: &'a str) -> Option<Self> {
        let (scheme, mut rest) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut pairs = Vec::new();
        while let Some((name, behind)) = rest.split_once('=') {
            let behind = behind.trim_start();
            let (value, next) = match behind.strip_prefix('"') {
                Some(quoted) => {
                    quoted_end(quoted).and_then(|end| Some((quoted.get(..end)?, quoted.get(end + 1..)?)))?
                }
                None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
            };
            pairs.push((name.trim_matches([' ', ',', '\t', '\r', '\n']), value.trim()));
            rest = next;
        }
        Some(Self { pairs })
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Where the quote is that ends a quoted string: the first that is not escaped. What stands before it is
/// used as it is written, escapes and all.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// What the response is computed from.
struct Inputs<'a> {
    algorithm: Algorithm,
    sess: bool,
    user: &'a str,
    realm: &'a str,
    password: &'a str,
    nonce: &'a str,
    /// nc, cnonce and qop, where the challenge asks for them.
    quality: Option<(&'a str, &'a str, &'a str)>,
    method: &'a str,
    uri: &'a str,
}

fn response(of: &Inputs<'_>) -> String {
    let hash = |text: String| of.algorithm.hex(&text);
    let mut secret = hash(format!("{}:{}:{}", of.user, of.realm, of.password));
    if let (true, Some((_, client_nonce, _))) = (of.sess, of.quality) {
        secret = hash(format!("{secret}:{}:{client_nonce}", of.nonce));
    }
    let request = hash(format!("{}:{}", of.method, of.uri));
    match of.quality {
        Some((count, client_nonce, quality)) => {
            hash(format!("{secret}:{}:{count}:{client_nonce}:{quality}:{request}", of.nonce))
        }
        None => hash(format!("{secret}:{}:{request}", of.nonce)),
    }
}

/// The values of all headers of this name.
fn named<'a>(bytes: &'a [u8], message: &Message, name: &str) -> impl Iterator<Item = &'a str> {
    headers(bytes, message)
        .filter(move |line| line.header == Header::Other && line.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
        .filter_map(|line| std::str::from_utf8(line.line.value.of(bytes)).ok())
}

/// Writes the header line that answers the challenge of a 401 or 407; false if it has none that can
/// be answered.
pub(crate) fn answer(bytes: &[u8], message: &Message, code: u16, request: &Request<'_>, into: &mut Vec<u8>) -> bool {
    let (asks, says) =
        if code == 401 { ("WWW-Authenticate", "Authorization") } else { ("Proxy-Authenticate", "Proxy-Authorization") };
    for params in named(bytes, message, asks).filter_map(Params::parse) {
        let Some((algorithm, sess)) = Algorithm::parse(params.value("algorithm").unwrap_or_default()) else { continue };
        let (Some(realm), Some(nonce)) = (params.value("realm"), params.value("nonce")) else { continue };
        let offered = params.value("qop").map(|all| all.split(',').any(|one| one.trim() == "auth"));
        // A session key takes a cnonce, which only qop brings along.
        if offered == Some(false) || (sess && offered.is_none()) {
            continue;
        }
        let user = request.number.map_or_else(|| request.user.to_owned(), |n| format!("{}{n:06}", request.user));
        let client_nonce = String::from_utf8_lossy(request.client_nonce);
        let quality = offered.map(|_| ("00000001", client_nonce.as_ref(), "auth"));
        let (method, uri, password) = (request.method, request.uri, request.password);
        let inputs = Inputs { algorithm, sess, user: &user, realm, password, nonce, quality, method, uri };
        let mut line = format!(
            "{says}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{}\"",
            response(&inputs)
        );
        if let Some(algorithm) = params.value("algorithm") {
            let _ = write!(line, ", algorithm={algorithm}");
        }
        if let Some((count, client_nonce, quality)) = quality {
            let _ = write!(line, ", qop={quality}, nc={count}, cnonce=\"{client_nonce}\"");
        }
        if let Some(opaque) = params.value("opaque") {
            let _ = write!(line, ", opaque=\"{opaque}\"");
        }
        into.extend_from_slice(line.as_bytes());
        into.extend_from_slice(b"\r\n");
        return true;
    }
    false
}

/// Writes the header lines by which an answering side of ours asks for credentials: the stronger first
/// (RFC 8760 2.4).
pub(crate) fn challenge(nonce: u64, text: &mut Text<'_>) {
    for algorithm in ["SHA-256", "MD5"] {
        text.str("WWW-Authenticate: Digest realm=\"");
        text.str(REALM);
        text.str("\", nonce=\"");
        text.hex(nonce);
        text.str("\", algorithm=");
        text.str(algorithm);
        text.str(", qop=\"auth\"\r\n");
    }
}

/// Whether a request bears the credentials that this nonce asks for.
pub(crate) fn verify(bytes: &[u8], message: &Message, password: &str, nonce: u64) -> bool {
    let wanted = format!("{nonce:016x}");
    let method = String::from_utf8_lossy(message.cseq.method.of(bytes));
    named(bytes, message, "Authorization").filter_map(Params::parse).any(|params| {
        let of = |name| params.value(name).unwrap_or_default();
        let Some((algorithm, sess)) = Algorithm::parse(of("algorithm")) else { return false };
        let inputs = Inputs {
            algorithm,
            sess,
            user: of("username"),
            realm: REALM,
            password,
            nonce: &wanted,
            quality: Some((of("nc"), of("cnonce"), "auth")),
            method: &method,
            uri: of("uri"),
        };
        of("nonce") == wanted && of("response") == response(&inputs)
    })
}

#[cfg(test)]
mod tests {
    use sipring::sip::{Watch, scan};

    use super::*;

    const REFUSED: &str = "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n";

    fn line(challenge: &str, request: &Request<'_>) -> Option<String> {
        let text = format!("{REFUSED}{challenge}\r\nContent-Length: 0\r\n\r\n");
        let message = scan(text.as_bytes(), &Watch::NONE);
        let mut line = Vec::new();
        answer(text.as_bytes(), &message, 401, request, &mut line).then(|| String::from_utf8(line).unwrap())
    }

    /// RFC 7616 3.9.1: the same request by both algorithms.
    #[test]
    fn the_answers_are_those_of_the_rfc() {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let request = Request {
            method: "GET",
            uri: "/dir/index.html",
            user: "Mufasa",
            number: None,
            password: "Circle of Life",
            client_nonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        };
        for (algorithm, wanted) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = format!(
                "WWW-Authenticate: Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"{nonce}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let line = line(&challenge, &request).unwrap();
            assert!(line.starts_with("Authorization: Digest username=\"Mufasa\""), "{line}");
            assert!(line.contains(&format!("response=\"{wanted}\"")), "{line}");
            assert!(line.contains("opaque=\"FQhe/"), "{line}");
        }
    }

    /// RFC 2617 has no example without qop; the digest is that of RFC 2069 as corrected by its errata.
    #[test]
    fn a_challenge_without_qop_is_answered_the_old_way() {
        let request = Request {
            method: "GET",
            uri: "/dir/index.html",
            user: "Mufasa",
            number: None,
            password: "CircleOfLife",
            client_nonce: b"x",
        };
        let challenge = "WWW-Authenticate: Digest realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let line = line(challenge, &request).unwrap();
        assert!(line.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{line}");
        assert!(!line.contains("qop"), "{line}");
    }

    #[test]
    fn what_cannot_be_answered_is_passed_over() {
        let request =
            Request { method: "GET", uri: "/", user: "u", number: Some(7), password: "p", client_nonce: b"c" };
        let unknown = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256";
        assert_eq!(line(unknown, &request), None);
        assert_eq!(line("WWW-Authenticate: Basic realm=\"r\"", &request), None);
        let keyless = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess";
        assert_eq!(line(keyless, &request), None, "a session key without qop has no cnonce");
        assert!(line(&format!("{keyless}, qop=\"auth\""), &request).is_some());
        let both = format!("{unknown}\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5");
        assert!(line(&both, &request).unwrap().contains("username=\"u000007\""));
    }

    #[test]
    fn an_escaped_quote_ends_no_value() {
        let request = Request { method: "GET", uri: "/", user: "u", number: None, password: "p", client_nonce: b"c" };
        let challenge = r#"WWW-Authenticate: Digest realm="a \"b\", nonce=\"x\" c\\", nonce="n""#;
        let line = line(challenge, &request).unwrap();
        assert!(line.contains(r#"realm="a \"b\", nonce=\"x\" c\\", nonce="n", uri"#), "{line}");
        // By hand: MD5 of MD5(u:REALM:p):n:MD5(GET:/), escapes included.
        let secret = hex(&Md5::digest(r#"u:a \"b\", nonce=\"x\" c\\:p"#));
        let wanted = hex(&Md5::digest(format!("{secret}:n:{}", hex(&Md5::digest("GET:/")))));
        assert!(line.contains(&format!("response=\"{wanted}\"")), "{line}");
    }
}
