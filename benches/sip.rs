//! The cost of the language: scan of the messages of a plain call, edit of its INVITE, a reply.
//!
//! Budgets: scan of the INVITE 100 ns, of the others 80; an edit of four insertions 35.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a bench may fail loudly")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sipring::packet::{Packet, Pool, PoolOptions};
use sipring::sip::{Edit, Header, Message, Reply, Span, Watch, reply, scan, uri, values, via_below};

const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 49172 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\n";

fn invite() -> String {
    format!(
        "INVITE sip:+4930123456@sip.example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---8d7f6a5c;rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@sip.example.com>;tag=9fxced76sl\r\n\
         To: <sip:+4930123456@sip.example.com>\r\n\
         Call-ID: 3848276298220188511@192.0.2.10\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:alice@192.0.2.10:5060>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n\
         Supported: replaces\r\n\
         User-Agent: Phone/1.0\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

fn ok() -> String {
    format!(
        "SIP/2.0 200 OK\r\n\
         Via: SIP/2.0/UDP 198.51.100.1:5070;branch=z9hG4bKr0l0-0123456789abcdef-01234567-89ab;rport=5070;received=198.51.100.1\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---8d7f6a5c;rport=5060;received=192.0.2.10\r\n\
         From: \"Alice\" <sip:alice@sip.example.com>;tag=9fxced76sl\r\n\
         To: <sip:+4930123456@sip.example.com>;tag=314159\r\n\
         Call-ID: 3848276298220188511@192.0.2.10\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:+4930123456@198.51.100.20:5060>\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

fn within_dialog(method: &str) -> String {
    format!(
        "{method} sip:+4930123456@198.51.100.20:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---9e8f7a6d;rport\r\n\
         Route: <sip:abcdefghijklmnopqrstuvwxyz012345@192.0.2.1;lr>, <sip:abcdefghijklmnopqrstuvwxyz012345@198.51.100.1;lr>\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@sip.example.com>;tag=9fxced76sl\r\n\
         To: <sip:+4930123456@sip.example.com>;tag=314159\r\n\
         Call-ID: 3848276298220188511@192.0.2.10\r\n\
         CSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn scans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let watch = Watch::new(&["X-Sipring-Source"]).unwrap();
    let messages = [("invite", invite()), ("200", ok()), ("ack", within_dialog("ACK")), ("bye", within_dialog("BYE"))];
    for (name, message) in &messages {
        assert_eq!(scan(message.as_bytes(), &watch).fault, None);
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(*name, |bench| bench.iter(|| scan(black_box(message.as_bytes()), &watch)));
    }
    group.finish();
    criterion.bench_function("uri/parse", |bench| {
        bench.iter(|| uri::parse(black_box(b"sip:+4930123456@sip.example.com:5060;transport=udp")));
    });
    criterion.bench_function("uri/host_ip", |bench| bench.iter(|| uri::host_ip(black_box(b"198.51.100.20"))));
    let bye = within_dialog("BYE");
    let route = *scan(bye.as_bytes(), &watch).route();
    criterion.bench_function("values/route, taken apart", |bench| {
        bench.iter(|| {
            let bytes = black_box(bye.as_bytes());
            let uris = values(bytes, &route, Header::Route, &watch).filter_map(|it| uri::name_addr_in(bytes, it.span));
            uris.filter_map(|it| uri::parse_in(bytes, it.uri)).filter(|it| it.port.is_none()).count()
        });
    });
    let ok = ok();
    let message = scan(ok.as_bytes(), &watch);
    criterion.bench_function("via_below", |bench| {
        bench.iter(|| via_below(black_box(ok.as_bytes()), &message, &watch));
    });
}

/// What forwarding an INVITE changes: a Via, two Record-Routes, Max-Forwards, received, a header.
fn changes(edit: &mut Edit, message: &Message) {
    edit.clear();
    edit.insert(message.via.line.start, |text| {
        text.str("Via: SIP/2.0/UDP 198.51.100.1:5070;rport;branch=z9hG4bKr0l0-0123456789abcdef-01234567-89ab\r\n");
    });
    edit.insert(message.via.value.end, |text| text.str(";received=192.0.2.10"));
    edit.insert(message.from.line.start, |text| {
        text.str(
            "Record-Route: <sip:abcdefghijklmnopqrstuvwxyz012345@198.51.100.1;lr>,\
             <sip:abcdefghijklmnopqrstuvwxyz012345@192.0.2.1;lr>\r\n",
        );
    });
    edit.insert(message.to.line.start, |text| text.str("X-Sipring-Source: 192.0.2.10:5060;listener=phones\r\n"));
}

fn edits(criterion: &mut Criterion) {
    let invite = invite();
    let message = scan(invite.as_bytes(), &Watch::NONE);
    let pool = Pool::new(&PoolOptions { slots: 2048, threads: 1 }).unwrap();
    let fresh = || {
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(invite.as_bytes()));
        packet
    };
    let mut edit = Edit::new();
    let mut group = criterion.benchmark_group("edit");
    group.bench_function("four insertions", |bench| {
        bench.iter_batched_ref(
            fresh,
            |packet: &mut Packet| {
                changes(&mut edit, &message);
                edit.apply(packet).is_ok()
            },
            BatchSize::NumIterations(1000),
        );
    });
    group.bench_function("four insertions, in one packet again and again", |bench| {
        let mut packet = fresh();
        let len = packet.len();
        bench.iter(|| {
            changes(&mut edit, &message);
            let done = edit.apply(black_box(&mut packet)).is_ok();
            done && packet.grow_front(len as isize - packet.len() as isize)
        });
    });
    group.bench_function("one digit", |bench| {
        let mut packet = fresh();
        let span = message.max_forwards.map_or(Span::NONE, |number| number.span);
        bench.iter(|| {
            edit.clear();
            edit.splice(span, |text| text.number(black_box(69)));
            edit.apply(black_box(&mut packet)).is_ok()
        });
    });
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let invite = invite();
    let message = scan(invite.as_bytes(), &Watch::NONE);
    let mut out = vec![0; 65_536];
    let wanted = Reply {
        code: 100,
        reason: "Trying",
        to_tag: None,
        received: Some([192, 0, 2, 10].into()),
        rport: Some(5060),
        extra: b"",
    };
    criterion.bench_function("reply/100", |bench| {
        bench.iter(|| reply::write(black_box(invite.as_bytes()), &message, &wanted, &mut out));
    });
}

criterion_group!(benches, scans, edits, replies);
criterion_main!(benches);
