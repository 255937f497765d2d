//! Any bytes: the scan, the iterators over what it found, and the parsers of single values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipring::packet::{Pool, PoolOptions};
use sipring::sip::{Header, Message, Reply, Span, Watch, headers, reply, scan, scan_in, uri, values};

fn check(bytes: &[u8], watch: &Watch, message: &Message) {
    for span in [message.uri(), message.via.value, message.from.uri, message.to.tag, message.call_id, message.body()] {
        assert!(span.start <= span.end && usize::from(span.end) <= bytes.len());
    }
    let lists = [
        (&message.vias, Header::Via),
        (message.route(), Header::Route),
        (message.record_route(), Header::RecordRoute),
        (message.contact(), Header::Contact),
        (message.path(), Header::Path),
        (message.supported(), Header::Supported),
        (&message.watched()[0], Header::Watched(0)),
    ];
    for (lines, header) in lists {
        for value in values(bytes, lines, header, watch) {
            let text = value.span.of(bytes);
            assert!(!text.is_empty() && value.next <= value.line.next);
            if let Some(found) = uri::name_addr(text) {
                let parts = uri::parse(found.uri.of(text));
                let mut key = [0; 512];
                parts.map(|parts| (uri::normalise_user_host(&parts, &mut key), uri::host_ip(parts.host)));
                uri::param(found.params.of(text), b"expires");
            }
        }
    }
    assert!(headers(bytes, message).all(|line| line.name != Span::NONE));
}

fuzz_target!(|bytes: &[u8]| {
    let watch = Watch::new(&["X-Watched"]).expect("a token");
    let message = scan(bytes, &watch);
    check(bytes, &watch, &message);
    static POOL: std::sync::OnceLock<&'static Pool> = std::sync::OnceLock::new();
    let pool = POOL.get_or_init(|| Pool::new(&PoolOptions { slots: 1, threads: 1 }).expect("a slot"));
    let mut packet = pool.take().expect("it is free again");
    if packet.replace(bytes)
        && let Some(window) = packet.window()
    {
        let mut again = Message::empty();
        scan_in(window, bytes.len(), &watch, &mut again);
        assert_eq!(again, message);
    }
    let mut out = vec![0; 140_000];
    let wanted = Reply {
        code: 400,
        reason: "Bad Request",
        to_tag: Some(b"x"),
        received: Some([192, 0, 2, 1].into()),
        rport: Some(5060),
        extra: b"",
    };
    if message.is_request() {
        let len = reply::write(bytes, &message, &wanted, &mut out).expect("room for twice the request");
        let answer = scan(&out[..len.min(65_000)], &watch);
        assert!(len > 65_000 || answer.code() == Some(400));
        assert!(message.fault.is_some() || len > 65_000 || answer.fault.is_none());
    }
    uri::parse(bytes);
    uri::name_addr(bytes);
});
