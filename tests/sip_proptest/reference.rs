//! A second parser, as plain and slow as can be: byte by byte, copying, no spans.
//!
//! Says what a message means, for the scan to be compared with.

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// Method name and request-URI of a request.
    pub(crate) request: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) code: Option<u16>,
    pub(crate) head_end: usize,
    pub(crate) end: usize,
    pub(crate) transport: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) port: Option<u16>,
    pub(crate) branch: Vec<u8>,
    pub(crate) received: Vec<u8>,
    /// None: absent; `Some(None)`: asked for.
    pub(crate) rport: Option<Option<u16>>,
    pub(crate) from: (Vec<u8>, Vec<u8>),
    pub(crate) to: (Vec<u8>, Vec<u8>),
    pub(crate) call_id: Vec<u8>,
    pub(crate) cseq: (u32, Vec<u8>),
    pub(crate) max_forwards: Option<u32>,
    pub(crate) content_length: Option<u32>,
    pub(crate) expires: Option<u32>,
    /// Name and values of each header that may hold several.
    pub(crate) lists: Vec<(&'static str, Vec<Vec<u8>>)>,
    pub(crate) header_lines: usize,
}

pub(crate) const LISTS: [&str; 10] =
    ["via", "route", "record-route", "contact", "path", "proxy-require", "supported", "replaces", "join", "x-watched"];

type Found<T> = Option<T>;
/// Lower-case names and values.
type Params = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What `bytes` mean; none if something is wrong with them.
pub(crate) fn parse(bytes: &[u8]) -> Found<Meaning> {
    let (lines, head_end) = lines(bytes)?;
    let (start, headers) = lines.split_first()?;
    let mut meaning = Meaning { head_end, end: bytes.len(), ..Meaning::default() };
    start_line(start, &mut meaning)?;
    let mut named = Vec::new();
    for line in headers {
        named.push(header(line)?);
    }
    meaning.header_lines = named.len();
    let all = |name: &str| -> Vec<Vec<u8>> {
        named.iter().filter(|(own, _)| own == name).map(|(_, value)| value.clone()).collect()
    };
    let once = |name: &str| -> Found<Option<Vec<u8>>> {
        let mut values = all(name);
        if values.len() > 1 { None } else { Some(values.pop()) }
    };
    via(all("via").first()?, &mut meaning)?;
    meaning.from = address(&once("from")??)?;
    meaning.to = address(&once("to")??)?;
    meaning.call_id = once("call-id")??;
    if meaning.call_id.is_empty() || meaning.call_id.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return None;
    }
    meaning.cseq = cseq(&once("cseq")??)?;
    if let Some(value) = once("max-forwards")? {
        meaning.max_forwards = Some(number(&value).filter(|number| *number <= 255)? as u32);
    }
    if let Some(value) = once("content-length")? {
        let length = number(&value).filter(|number| *number <= (bytes.len() - head_end) as u128)?;
        meaning.content_length = Some(length as u32);
        meaning.end = head_end + length as usize;
    }
    meaning.expires = all("expires").iter().find_map(|value| number(value)).map(|it| it.min(u32::MAX.into()) as u32);
    if meaning.request.as_ref().is_some_and(|(method, _)| *method != meaning.cseq.1) {
        return None;
    }
    for name in LISTS {
        let brackets = !["via", "proxy-require", "supported"].contains(&name);
        meaning.lists.push((name, all(name).iter().flat_map(|line| split(line, brackets)).collect()));
    }
    Some(meaning)
}

/// Start line and header lines with their folds, and where the body begins.
fn lines(bytes: &[u8]) -> Found<(Vec<Vec<u8>>, usize)> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
                at += 2;
                let folded = !lines.is_empty() && !line.is_empty() && matches!(bytes.get(at), Some(b' ' | b'\t'));
                if folded {
                    line.extend(b"\r\n");
                } else if line.is_empty() && !lines.is_empty() {
                    return Some((lines, at));
                } else {
                    lines.push(std::mem::take(&mut line));
                }
            }
            b'\r' | b'\n' => return None,
            byte => {
                line.push(*byte);
                at += 1;
            }
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

fn is_space(byte: u8) -> bool {
    b" \t\r\n".contains(&byte)
}

fn trim(mut value: &[u8]) -> Vec<u8> {
    while let Some((first, rest)) = value.split_first().filter(|(first, _)| is_space(**first)) {
        let _ = first;
        value = rest;
    }
    while let Some((_, rest)) = value.split_last().filter(|(last, _)| is_space(**last)) {
        value = rest;
    }
    value.to_vec()
}

fn start_line(line: &[u8], meaning: &mut Meaning) -> Found<()> {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        if line.len() < 11 || !line[..8].eq_ignore_ascii_case(b"SIP/2.0 ") || (line.len() > 11 && line[11] != b' ') {
            return None;
        }
        let code = number(&line[8..11])?;
        meaning.code = Some(code as u16);
        return (100..700).contains(&code).then_some(());
    }
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, uri, version] = parts[..] else { return None };
    let sound = !method.is_empty() && method.iter().all(|byte| is_token(*byte));
    if !sound || !version.eq_ignore_ascii_case(b"SIP/2.0") || !request_uri(uri) {
        return None;
    }
    meaning.request = Some((method.to_vec(), uri.to_vec()));
    Some(())
}

fn request_uri(uri: &[u8]) -> bool {
    let Some(colon) = uri.iter().position(|byte| *byte == b':') else { return false };
    let (scheme, rest) = (&uri[..colon], &uri[colon + 1..]);
    let letters = scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let unsound = |byte: &u8| *byte <= b' ' || *byte == 0x7f || b"<>\"".contains(byte);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !letters || rest.is_empty() || rest.iter().any(unsound) {
        return false;
    }
    if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
        return true;
    }
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'@').collect();
    let host = match parts[..] {
        [host] => host,
        [user, host] if !user.is_empty() => host,
        _ => return false,
    };
    let mut eat = Eat { bytes: host, at: 0 };
    if eat.host().is_none() || (eat.next_is(b':') && eat.port().is_none()) {
        return false;
    }
    let tail = &host[eat.at..];
    tail.is_empty() || (tail[0] == b';' && !tail.contains(&b'?'))
}

/// Long lower-case name and trimmed value of a header line.
fn header(line: &[u8]) -> Found<(String, Vec<u8>)> {
    let name: Vec<u8> = line.iter().copied().take_while(|byte| is_token(*byte)).collect();
    let mut at = name.len();
    while matches!(line.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    if name.is_empty() || line.get(at) != Some(&b':') {
        return None;
    }
    let value = &line[at + 1..];
    if value.first().is_some_and(|byte| byte.is_ascii_control() && !is_space(*byte)) {
        return None;
    }
    let name = String::from_utf8(name).unwrap().to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "l" => "content-length",
        "k" => "supported",
        other => other,
    };
    Some((long.to_owned(), trim(value)))
}

fn number(value: &[u8]) -> Found<u128> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u128, |number, digit| (number * 10 + u128::from(digit - b'0')).min(1 << 100)))
}

struct Eat<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Eat<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn while_is(&mut self, is: impl Fn(u8) -> bool) -> Vec<u8> {
        let from = self.at;
        while self.peek().is_some_and(&is) {
            self.at += 1;
        }
        self.bytes[from..self.at].to_vec()
    }

    fn some(&mut self, is: impl Fn(u8) -> bool) -> Found<Vec<u8>> {
        Some(self.while_is(is)).filter(|found| !found.is_empty())
    }

    fn spaces(&mut self) -> bool {
        !self.while_is(is_space).is_empty()
    }

    fn host(&mut self) -> Found<Vec<u8>> {
        if self.next_is(b'[') {
            let inside = self.some(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))?;
            return (self.next_is(b']') && inside.len() > 1).then(|| [b"[", &inside[..], b"]"].concat());
        }
        self.some(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    }

    fn port(&mut self) -> Found<u16> {
        let digits = self.while_is(|byte| byte.is_ascii_digit());
        number(&digits).filter(|port| (1..65_536).contains(port)).map(|port| port as u16)
    }

    fn quoted(&mut self) -> Found<Vec<u8>> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break self.at += 1,
                _ => self.at += 1,
            }
        }
        Some(self.bytes.get(from..self.at)?.to_vec())
    }

    /// The parameters up to the end or a comma: lower-case name and value.
    fn params(&mut self) -> Found<Params> {
        let mut params = Vec::new();
        loop {
            self.spaces();
            if self.peek().is_none() || self.peek() == Some(b',') {
                return Some(params);
            }
            if !self.next_is(b';') {
                return None;
            }
            self.spaces();
            if self.peek().is_none() || self.peek() == Some(b',') {
                return Some(params);
            }
            let name = self.some(is_token)?.to_ascii_lowercase();
            self.spaces();
            let mut value = None;
            if self.next_is(b'=') {
                self.spaces();
                value = Some(match self.peek() {
                    Some(b'"') => self.quoted()?,
                    _ => self.while_is(is_loose),
                });
            }
            params.push((name, value));
        }
    }
}

fn is_loose(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b";,\"<>\\".contains(&byte)
}

/// The only parameter of this name: none if it stands twice or is empty, `Some(None)` if absent.
fn only(params: &Params, name: &[u8]) -> Found<Option<Vec<u8>>> {
    let mut found = params.iter().filter(|(own, _)| own == name);
    match (found.next(), found.next()) {
        (None, _) => Some(None),
        (Some((_, Some(value))), None) if !value.is_empty() => Some(Some(value.clone())),
        _ => None,
    }
}

fn via(value: &[u8], meaning: &mut Meaning) -> Found<()> {
    let mut eat = Eat { bytes: value, at: 0 };
    for _ in 0..2 {
        eat.some(is_token)?;
        eat.spaces();
        if !eat.next_is(b'/') {
            return None;
        }
        eat.spaces();
    }
    meaning.transport = eat.some(is_token)?;
    if !eat.spaces() {
        return None;
    }
    meaning.host = eat.host()?;
    let before = eat.at;
    eat.spaces();
    if eat.next_is(b':') {
        eat.spaces();
        meaning.port = Some(eat.port()?);
    } else {
        eat.at = before;
    }
    let params = eat.params()?;
    meaning.branch = only(&params, b"branch")?.unwrap_or_default();
    if meaning.branch.eq_ignore_ascii_case(b"z9hG4bK") {
        return None;
    }
    meaning.received = only(&params, b"received")?.unwrap_or_default();
    let mut rports = params.iter().filter(|(name, _)| name == b"rport");
    meaning.rport = match (rports.next(), rports.next()) {
        (None, _) => None,
        (Some((_, None)), None) => Some(None),
        (Some((_, Some(value))), None) if value.is_empty() => Some(Some(0)),
        (Some((_, Some(value))), None) => Some(Some(u16::try_from(number(value)?).ok()?)),
        _ => return None,
    };
    Some(())
}

/// URI and tag of From or To.
fn address(value: &[u8]) -> Found<(Vec<u8>, Vec<u8>)> {
    let mut eat = Eat { bytes: value, at: 0 };
    let token = eat.while_is(is_token);
    let colon = !token.is_empty() && eat.peek() == Some(b':');
    eat.at = 0;
    eat.while_is(|byte| is_loose(byte) || is_space(byte));
    let bare = colon && eat.peek() != Some(b'<');
    eat.at = 0;
    let uri = if bare {
        let uri = eat.while_is(is_loose);
        (!uri.ends_with(b":")).then_some(uri)?
    } else {
        if eat.peek() == Some(b'"') {
            eat.quoted()?;
            eat.spaces();
        } else {
            eat.while_is(|byte| is_loose(byte) || is_space(byte));
        }
        if !eat.next_is(b'<') {
            return None;
        }
        let uri = eat.some(|byte| byte > b' ' && !b"<>\"\x7f".contains(&byte))?;
        eat.next_is(b'>').then_some(uri)?
    };
    let params = eat.params()?;
    if eat.peek().is_some() {
        return None;
    }
    let mut tags = params.into_iter().filter(|(name, _)| name == b"tag");
    match (tags.next(), tags.next()) {
        (None, _) => Some((uri, Vec::new())),
        (Some((_, Some(tag))), None) => Some((uri, tag)),
        _ => None,
    }
}

fn cseq(value: &[u8]) -> Found<(u32, Vec<u8>)> {
    let mut eat = Eat { bytes: value, at: 0 };
    let digits = eat.while_is(|byte| byte.is_ascii_digit());
    let number = u32::try_from(number(&digits)?).ok()?;
    if !eat.spaces() {
        return None;
    }
    let method = eat.some(is_token)?;
    eat.peek().is_none().then_some((number, method))
}

/// The values of one line.
fn split(line: &[u8], brackets: bool) -> Vec<Vec<u8>> {
    let mut values = vec![Vec::new()];
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for byte in line {
        if *byte == b',' && !quoted && !bracketed {
            values.push(Vec::new());
            continue;
        }
        if quoted {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            quoted = !ends;
        } else if bracketed {
            bracketed = *byte != b'>';
        } else {
            quoted = *byte == b'"';
            bracketed = *byte == b'<' && brackets;
        }
        values.last_mut().unwrap().push(*byte);
    }
    values.iter().map(|value| trim(value)).filter(|value| !value.is_empty()).collect()
}
