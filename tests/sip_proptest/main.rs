//! The scan agrees with a plain second parser on whatever bytes, edited messages mean what they
//! should, and what is pushed and popped again leaves the bytes as they were.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

mod reference;

use proptest::prelude::*;
use proptest::sample::select;
use reference::Meaning;
use sipring::packet::{Packet, Pool, PoolOptions};
use sipring::sip::{
    Edit, Header, Lines, Message, Method, Reply, Rport, Span, Start, Watch, headers, reply, scan, scan_in, uri, values,
};

fn watch() -> Watch {
    Watch::new(&["X-Watched"]).unwrap()
}

/// What the scan says, in the second parser's terms.
fn meaning(bytes: &[u8]) -> Option<Meaning> {
    let watch = watch();
    let message = scan(bytes, &watch);
    let mut held = packet(bytes);
    let window = held.window().unwrap();
    let mut again = Message::empty();
    scan_in(window, bytes.len(), &watch, &mut again);
    assert_eq!(again, message, "{}", String::from_utf8_lossy(bytes));
    within(bytes, &message);
    if message.fault.is_some() {
        return None;
    }
    let of = |span: Span| span.of(bytes).to_vec();
    let list = |lines: &Lines, header| -> Vec<Vec<u8>> {
        values(bytes, lines, header, &watch).map(|value| of(value.span)).collect()
    };
    let lists = [
        list(&message.vias, Header::Via),
        list(message.route(), Header::Route),
        list(message.record_route(), Header::RecordRoute),
        list(message.contact(), Header::Contact),
        list(message.path(), Header::Path),
        list(message.proxy_require(), Header::ProxyRequire),
        list(message.supported(), Header::Supported),
        list(message.replaces(), Header::Replaces),
        list(message.join(), Header::Join),
        list(&message.watched()[0], Header::Watched(0)),
    ];
    Some(Meaning {
        request: match message.start {
            Start::Request { method, name, uri } => {
                assert_eq!(method, Method::parse(name.of(bytes)));
                Some((of(name), of(uri)))
            }
            Start::Response { .. } => None,
        },
        code: message.code(),
        head_end: message.head_end.into(),
        end: message.end.into(),
        transport: of(message.via.transport),
        host: of(message.via.host),
        port: message.via.port,
        branch: of(message.via.branch),
        received: of(message.via.received),
        rport: match message.via.rport {
            Rport::Absent => None,
            Rport::Asked { at } => {
                assert!(bytes[..at.into()].to_ascii_lowercase().ends_with(b"rport"));
                Some(None)
            }
            Rport::Value { port, .. } => Some(Some(port)),
        },
        from: (of(message.from.uri), of(message.from.tag)),
        to: (of(message.to.uri), of(message.to.tag)),
        call_id: of(message.call_id),
        cseq: (message.cseq.number, of(message.cseq.method)),
        max_forwards: message.max_forwards.map(|number| number.value),
        content_length: message.content_length.map(|number| number.value),
        expires: message.expires.map(|number| number.value),
        lists: reference::LISTS.into_iter().zip(lists).collect(),
        header_lines: headers(bytes, &message).count(),
    })
}

/// Every span lies within the datagram, whatever is wrong with it.
fn within(bytes: &[u8], message: &Message) {
    let spans = [
        message.uri(),
        message.via.value,
        message.via.sent_by,
        message.from.uri,
        message.to.line.value,
        message.call_id,
        message.cseq.value,
        message.contact().first.value,
        message.body(),
    ];
    for span in spans {
        assert!(span.start <= span.end && usize::from(span.end) <= bytes.len());
    }
    assert!(message.head_end <= message.end && usize::from(message.end) <= bytes.len());
}

/// One header line: names to choose from, and values, some of them wrong.
#[expect(clippy::too_many_lines, reason = "a table")]
fn line() -> impl Strategy<Value = Vec<u8>> {
    let kinds: Vec<(&[&str], &[&str])> = vec![
        (
            &["Via", "v", "VIA", "vIA"],
            &[
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport",
                "SIP/2.0/TCP [2001:db8::1]:5061;rport=5062;received=192.0.2.9;branch=z9hG4bKx",
                "SIP / 2.0 / TLS  host_a.example.com ; BRANCH = z9hG4bK-1 , SIP/2.0/UDP b.example.com;x=\"a,b;\\\"\"",
                "SIP/2.0/UDP 192.0.2.1;;",
                "SIP/2.0/UDP a:70000",
                "SIP/2.0/UDP a;branch=z9hG4bK",
                "SIP/2.0/UDP",
                "SIP/2.0/UDP a;rport;rport=3",
                "SIP/2.0/UDP a ;ttl=1;maddr=192.0.2.3;alias",
                "SIP/2.0/UDP a;rport=x",
                "SIP/2.0/UDP a;branch=z9hG4bKe;rport=",
                "SIP/2.0/UDP a;rport=0;branch=z9hG4bKe;",
                "SIP/2.0/UDP a;rport= ; , SIP/2.0/UDP b;rport=;",
                "SIP/2.0/UDP a : 5060;branch=a;branch=b",
                "SIP/2.0/UDP [::g]",
                "SIP/2.0/UDP a,,",
                "",
            ],
        ),
        (
            &["From", "f", "FROM"],
            &[
                "\"Alice, A; <x>\" <sip:alice@example.com>;tag=1928301774",
                "<sip:a@b;transport=udp>;Tag=x;y=\"q;\"",
                "sip:a@example.com;tag=7",
                "Alice B. <sips:a@b>",
                "\"open <sip:a@b>",
                "Bell, A <sip:a@b>",
                "< sip:a@b>",
                "<sip:a@b",
                "<sip:a@b>;tag=",
                "<sip:a@b>;tag=1;tag=2",
                "\"\\\"\" <tel:+1>;tag=z",
                "<sip:a@b>,<sip:c@d>",
                "AT&T <sip:a@b>;tag=1;",
                "a@b (home) <sip:a@b>;tag=1 ; ",
                "sip:a@b <sip:c@d>",
                "Bob; B <sip:a@b>",
            ],
        ),
        (
            &["To", "t", "TO"],
            &[
                "<sip:bob@example.com>",
                "Bob <sip:bob@example.com>;tag=a6c85cf",
                "sip:bob@example.com",
                "<>",
                "bob",
                "<sip:bob@example.com>;tag=",
                "<sip:bob@example.com>;",
                "sip:bob@example.com;x;tag=;y ;",
                "<sip:bob@example.com>;tag=;tag=1",
            ],
        ),
        (&["Call-ID", "i", "CALL-id"], &["a84b4c76e66710@pc33.example.com", "a b", "x", ")(><:\\/\"][?}{", ""]),
        (
            &["CSeq", "CSEQ"],
            &[
                "314159 INVITE",
                "1 INVITE",
                "0001   ACK",
                "4294967296 INVITE",
                "1INVITE",
                "7 BYE",
                "1 ABCDEFGHIJKLMNOP\0 x x x x x x xy",
            ],
        ),
        (&["Max-Forwards", "MAX-FORWARDS"], &["70", "0", "255", "256", "-1", "007", "x"]),
        (&["Content-Length", "l"], &["0", "5", "99999", "18446744073709551617", "-1", "1 1"]),
        (&["Expires"], &["3600", "99999999999999999999", "never"]),
        (
            &["Route", "ROUTE"],
            &["<sip:a,b@192.0.2.1;lr>", "<sip:p1;lr>, \"x,\" <sip:p2;lr>,<sip:p3>", ",, <sip:p>,", "<sip:open, <x"],
        ),
        (&["Record-Route"], &["<sip:c@192.0.2.1;lr>,<sip:c@198.51.100.1;lr>", "<sip:p;lr>"]),
        (&["Contact", "m"], &["<sip:a@192.0.2.1>", "*", "\"a\\\",\" <sip:a@b>;q=0.1 , sip:c@d"]),
        (&["Supported", "k"], &["path, outbound", "100rel", ""]),
        (&["Path", "Proxy-Require", "Replaces", "Join", "X-Watched"], &["<sip:a;lr>", "a, b", "1;x=\"2,3\""]),
        (
            &["User-Agent", "X", "", "Subject", "s", "Allow_It", "Content-Type", "Contents", "Viaduct", "c", "e"],
            &["plain", "", ";;,\"", "\u{e9}t\u{e9}", "a:b"],
        ),
    ];
    let gap = select(vec![": ", ": ", ": ", ": ", ": ", ": ", ":", " : ", "\t:", ":\r\n ", ":   ", ":\t", " "]);
    (select(kinds), gap, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |((names, bodies), gap, name, value, sound)| {
            let value = if sound { bodies[0] } else { bodies[value.index(bodies.len())] };
            format!("{}{gap}{value}\r\n", names[name.index(names.len())]).into_bytes()
        },
    )
}

fn start() -> impl Strategy<Value = &'static str> {
    select(vec![
        "INVITE sip:bob@biloxi.example.com SIP/2.0",
        "INVITE sip:bob@biloxi.example.com SIP/2.0",
        "INVITE sip:bob;x=1@[2001:db8::1]:5060;lr SIP/2.0",
        "SIP/2.0 200 OK",
        "INVITE tel:+1-201;phone-context=x SIP/2.0",
        "INVITE sip:a@b?x=y SIP/2.0",
        "INVITE sip:a@b@c SIP/2.0",
        "INVITE sip:a@b:99999 SIP/2.0",
        "INVITE  sip:a@b SIP/2.0",
        "INVITE sip:a@b SIP/3.0",
        "ACK urn:service:sos sip/2.0",
        "sip/2.0 699",
        "SIP/2.0 700 x",
        "SIP/2.0 2000 x",
        "BYE SIP/2.0",
    ])
}

/// Mostly sound: each header that must stand, then some more in any order.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let must = [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport\r\n",
        "From: \"A\" <sip:a@example.com>;tag=1\r\n",
        "To: <sip:b@example.com>\r\n",
        "Call-ID: 1@example.com\r\n",
        "CSeq: 1 INVITE\r\n",
    ];
    let must = Just(must.map(|line| line.as_bytes().to_vec()).to_vec());
    let more = prop::collection::vec(line(), 0..8);
    let body = select(vec![&b""[..], b"v=0\r\n", b"0123456789\r\n\r\nVia: x"]);
    (start(), must, any::<u8>(), more, body).prop_flat_map(|(start, mut must, left_out, more, body)| {
        // Each of the lines that must stand is left out now and then.
        must.retain({
            let mut bit = 0;
            move |_| {
                bit += 1;
                left_out >> 5 != bit
            }
        });
        must.extend(more);
        Just(must).prop_shuffle().prop_map(move |lines| {
            let mut bytes = format!("{start}\r\n").into_bytes();
            bytes.extend(lines.concat());
            bytes.extend(b"\r\n");
            bytes.extend(body);
            bytes
        })
    })
}

#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Insert(usize, &'static [u8]),
    Delete(usize),
    Truncate(usize),
    Case(usize),
    /// Folds the line at the next blank.
    Fold(usize),
    /// Puts a copy of the line there behind it.
    Double(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<u16>().prop_map(usize::from);
    let insert = select(vec![
        &b" "[..],
        b"\t",
        b"\r\n ",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b",",
        b";",
        b"\"",
        b"<",
        b">",
        b":",
        b"\\",
        b"\x7f",
        b"@",
        b"=",
        b"\xc3\xa9",
        b"%41",
        b"?",
        b"\r\n\r\n",
        b"/",
        b"[",
    ]);
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        (at.clone(), insert).prop_map(|(at, text)| Change::Insert(at, text)),
        at.clone().prop_map(Change::Delete),
        at.clone().prop_map(Change::Truncate),
        at.clone().prop_map(Change::Case),
        at.clone().prop_map(Change::Fold),
        at.prop_map(Change::Double),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len().max(1);
        match change {
            Change::Flip(at, byte) => bytes.iter_mut().skip(at % len).take(1).for_each(|own| *own = *byte),
            Change::Insert(at, text) => drop(bytes.splice(at % len..at % len, text.iter().copied())),
            Change::Delete(at) if !bytes.is_empty() => drop(bytes.remove(at % len)),
            Change::Delete(_) => {}
            Change::Truncate(at) => bytes.truncate(len - at % len % 64),
            Change::Case(at) => bytes.iter_mut().skip(at % len).take(5).for_each(|own| *own ^= 0x20 & (*own >> 1)),
            Change::Fold(at) => {
                if let Some(blank) = bytes.iter().skip(at % len).position(|byte| *byte == b' ') {
                    drop(bytes.splice(at % len + blank..at % len + blank, *b"\r\n"));
                }
            }
            Change::Double(at) => {
                let line: Vec<u8> = bytes.iter().copied().skip(at % len).collect();
                let ends: Vec<usize> =
                    line.windows(2).enumerate().filter(|it| it.1 == b"\r\n").map(|it| it.0).collect();
                if let [first, second, ..] = ends[..] {
                    let copy = line[first..second].to_vec();
                    drop(bytes.splice(at % len + first..at % len + first, copy));
                }
            }
        }
    }
    bytes
}

fn packet(bytes: &[u8]) -> Packet {
    static POOL: std::sync::OnceLock<&'static Pool> = std::sync::OnceLock::new();
    let pool = POOL.get_or_init(|| Pool::new(&PoolOptions { slots: 64, threads: 1 }).unwrap());
    let mut packet = pool.take().unwrap();
    assert!(packet.replace(bytes));
    packet
}

const OUR_VIA: &str = "Via: SIP/2.0/UDP 198.51.100.1:5070;branch=z9hG4bKours;rport\r\n";
const OUR_ROUTES: &str = "Record-Route: <sip:x@198.51.100.1;lr>, <sip:x@192.0.2.1;lr>\r\n";

/// Puts a Via and two Record-Routes in, as forwarding a request does.
fn push(packet: &mut Packet) {
    let message = scan(packet.bytes(), &watch());
    let mut edit = Edit::new();
    let at = message.via.line.start;
    edit.insert(at, |text| text.str(OUR_VIA));
    let lines = *message.record_route();
    edit.insert(if lines.is_empty() { at } else { lines.first.start }, |text| text.str(OUR_ROUTES));
    edit.apply(packet).unwrap();
}

/// Takes them out again.
fn pop(packet: &mut Packet) {
    let message = scan(packet.bytes(), &watch());
    let mut edit = Edit::new();
    let watch = watch();
    values(packet.bytes(), &message.vias, Header::Via, &watch).take(1).for_each(|value| edit.pop(&value));
    let routes = values(packet.bytes(), message.record_route(), Header::RecordRoute, &watch);
    routes.take(2).for_each(|value| edit.pop(&value));
    edit.apply(packet).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, max_global_rejects: 200_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scan_agrees_with_a_plain_parser(bytes in message()) {
        prop_assert_eq!(meaning(&bytes), reference::parse(&bytes), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_scan_agrees_with_a_plain_parser_on_what_was_changed(
        bytes in message(),
        changes in prop::collection::vec(change(), 1..4),
    ) {
        let bytes = changed(bytes, &changes);
        prop_assert_eq!(meaning(&bytes), reference::parse(&bytes), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn what_is_pushed_and_popped_again_leaves_the_bytes_as_they_were(
        bytes in message(),
        changes in prop::collection::vec(change(), 0..2),
    ) {
        let bytes = changed(bytes, &changes);
        let before = meaning(&bytes);
        prop_assume!(before.is_some());
        let mut packet = packet(&bytes);
        push(&mut packet);
        let pushed = meaning(packet.bytes()).unwrap();
        prop_assert_eq!(&pushed.branch, b"z9hG4bKours");
        let before = before.unwrap();
        prop_assert_eq!(&pushed.lists[0].1[1..], &before.lists[0].1[..]);
        prop_assert_eq!(&pushed.lists[2].1[2..], &before.lists[2].1[..]);
        prop_assert_eq!(&pushed.lists[1], &before.lists[1]);
        prop_assert_eq!((&pushed.call_id, &pushed.cseq), (&before.call_id, &before.cseq));
        prop_assert_eq!(pushed.end - pushed.head_end, before.end - before.head_end);
        pop(&mut packet);
        prop_assert_eq!(packet.bytes(), &bytes[..]);
    }

    #[test]
    fn an_edit_does_what_rebuilding_would(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec((any::<u16>(), 0..20u16, 0..30usize), 0..16),
    ) {
        let len = bytes.len() as u16;
        let mut spans: Vec<(u16, u16, usize)> = cuts.iter().map(|(at, take, put)| {
            let start = at % (len + 1);
            (start, (start + take).min(len), *put)
        }).collect();
        spans.sort_unstable();
        let mut behind = 0;
        spans.retain(|(start, end, _)| {
            let free = *start >= behind;
            behind = if free { *end } else { behind };
            free
        });
        let mut wanted = Vec::new();
        let mut from = 0;
        for (start, end, put) in &spans {
            wanted.extend(&bytes[from..usize::from(*start)]);
            wanted.extend(std::iter::repeat_n(b'#', *put));
            from = usize::from(*end);
        }
        wanted.extend(&bytes[from..]);
        let mut packet = packet(&bytes);
        let mut edit = Edit::new();
        // In an order of calls that is not theirs.
        for (start, end, put) in spans.iter().rev() {
            edit.splice(Span { start: *start, end: *end }, |text| text.fill(b'#', *put));
        }
        prop_assert_eq!(edit.growth(), wanted.len() as isize - bytes.len() as isize);
        prop_assert!(edit.apply(&mut packet).is_ok());
        prop_assert_eq!(packet.bytes(), &wanted[..]);
    }

    #[test]
    fn any_request_however_faulty_is_answered_with_its_own_headers(
        bytes in message(),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        let bytes = changed(bytes, &changes);
        let message = scan(&bytes, &watch());
        prop_assume!(message.is_request());
        let mut out = vec![0; 70_000];
        let wanted = Reply {
            code: 400,
            reason: "Bad Request",
            to_tag: Some(b"ours"),
            received: Some([203, 0, 113, 9].into()),
            rport: Some(40_000),
            extra: b"Retry-After: 5\r\n",
        };
        let len = reply::write(&bytes, &message, &wanted, &mut out).unwrap();
        prop_assert_eq!(reply::write(&bytes, &message, &wanted, &mut vec![0; len - 1]), None);
        let answer = scan(&out[..len], &watch());
        prop_assert_eq!(answer.code(), Some(400));
        prop_assert_eq!(usize::from(answer.head_end), len);
        prop_assert_eq!(answer.call_id.of(&out), message.call_id.of(&bytes));
        if message.fault.is_none() {
            prop_assert_eq!(answer.fault, None);
            prop_assert_eq!(answer.vias.count, message.vias.count);
            prop_assert_eq!(answer.via.received.of(&out), b"203.0.113.9");
            let asked = matches!(answer.via.rport, Rport::Value { port: 40_000, .. });
            prop_assert!(asked);
            prop_assert_eq!(answer.via.branch.of(&out), message.via.branch.of(&bytes));
            let tag = if message.to.tag.is_empty() { b"ours" } else { message.to.tag.of(&bytes) };
            prop_assert_eq!(answer.to.tag.of(&out), tag);
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = meaning(&bytes);
        let _ = (uri::parse(&bytes), uri::name_addr(&bytes), uri::param(&bytes, b"lr"), uri::host_ip(&bytes));
    }
}

#[test]
fn a_second_opinion_on_sound_messages_is_the_same() {
    use rsip::headers::ToTypedHeader;
    use rsip::prelude::{HeadersExt, UntypedHeader};
    let text = "INVITE sip:bob@biloxi.example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.example.com:5066;branch=z9hG4bK776asdhds\r\n\
        Max-Forwards: 70\r\n\
        To: Bob <sip:bob@biloxi.example.com>;tag=abc\r\n\
        From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n\
        Call-ID: a84b4c76e66710@pc33.example.com\r\n\
        CSeq: 314159 INVITE\r\n\
        Contact: <sip:alice@pc33.example.com>\r\n\
        Content-Length: 0\r\n\r\n";
    let other = rsip::Request::try_from(text).unwrap();
    let own = meaning(text.as_bytes()).unwrap();
    let via = other.via_header().unwrap().typed().unwrap();
    assert_eq!(via.branch().unwrap().value().as_bytes(), own.branch);
    assert_eq!(via.uri.host_with_port.to_string(), "pc33.example.com:5066");
    assert_eq!((own.host, own.port), (b"pc33.example.com".to_vec(), Some(5066)));
    assert_eq!(other.call_id_header().unwrap().value().as_bytes(), own.call_id);
    assert_eq!(other.cseq_header().unwrap().typed().unwrap().seq, own.cseq.0);
    assert_eq!(other.from_header().unwrap().tag().unwrap().unwrap().value().as_bytes(), own.from.1);
    assert_eq!(other.to_header().unwrap().typed().unwrap().uri.to_string().as_bytes(), own.to.0);
    assert_eq!(other.max_forwards_header().unwrap().num().unwrap(), own.max_forwards.unwrap());
}

#[test]
fn hostile_datagrams_of_full_length_are_scanned_in_linear_time() {
    let parts: [&[u8]; 12] =
        [b"a:\r\n", b"\r\n ", b"v:", b"\"", b"\\", b"Via: ,\r\n", b";a", b"<", b",", b"%", b"Route: <a>,<b\r\n", b"\r"];
    let head = b"INVITE sip:a@b SIP/2.0\r\nFrom: \"";
    let slowest = |total: usize| {
        parts
            .iter()
            .map(|part| {
                let mut bytes = head.to_vec();
                bytes.extend(part.iter().cycle().take(total - bytes.len()));
                let best = (0..5).map(|_| {
                    #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
                    let from = std::time::Instant::now();
                    let message = scan(&bytes, &Watch::NONE);
                    let _ = values(&bytes, message.route(), Header::Route, &Watch::NONE).count();
                    let _ = values(&bytes, &message.vias, Header::Via, &Watch::NONE).count();
                    from.elapsed()
                });
                best.min().unwrap()
            })
            .max()
            .unwrap()
    };
    let (short, long) = (slowest(4_000), slowest(64_000));
    // Sixteen times the bytes; a quadratic step would take 256 times as long.
    assert!(long < short * 80, "{short:?} {long:?}");
}
