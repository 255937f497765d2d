//! What the scan says of each torture message of RFC 4475: sound or not, and what is wrong.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

use sipring::sip::{Fault, Header, Message, Method, Scheme, Start, Watch, headers, scan, uri, values};

fn load(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/messages/{name}.dat", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn scanned(name: &str) -> (Vec<u8>, Message) {
    let bytes = load(name);
    let message = scan(&bytes, &Watch::NONE);
    (bytes, message)
}

/// Every message and its fault. A scheme that is not forwarded is no fault.
const VERDICTS: [(&str, Option<Fault>); 49] = [
    ("wsinv", None),
    ("intmeth", None),
    ("esc01", None),
    ("escnull", None),
    ("esc02", None),
    ("lwsdisp", None),
    ("longreq", None),
    ("dblreq", None),
    ("semiuri", None),
    ("transports", None),
    ("mpart01", None),
    ("unreason", None),
    ("noreason", None),
    ("badinv01", Some(Fault::Via)),
    ("clerr", Some(Fault::TooShort)),
    ("ncl", Some(Fault::ContentLength)),
    ("scalar02", Some(Fault::CSeq)),
    ("scalarlg", Some(Fault::CSeq)),
    ("quotbal", Some(Fault::To)),
    ("ltgtruri", Some(Fault::Uri)),
    ("lwsruri", Some(Fault::Uri)),
    ("lwsstart", Some(Fault::Uri)),
    ("trws", Some(Fault::StartLine)),
    ("escruri", Some(Fault::Uri)),
    ("baddate", None),
    ("regbadct", None),
    ("badaspec", Some(Fault::To)),
    ("baddn", Some(Fault::From)),
    ("badvers", Some(Fault::Version)),
    ("mismatch01", Some(Fault::CSeqMethod)),
    ("mismatch02", Some(Fault::CSeqMethod)),
    ("bigcode", Some(Fault::StartLine)),
    ("badbranch", Some(Fault::Branch)),
    ("insuf", Some(Fault::Missing(Header::From))),
    ("unkscm", None),
    ("novelsc", None),
    ("unksm2", None),
    ("bext01", None),
    ("invut", None),
    ("regaut01", None),
    ("multi01", Some(Fault::Repeated(Header::CSeq))),
    ("mcl01", Some(Fault::Repeated(Header::ContentLength))),
    ("bcast", None),
    ("zeromf", None),
    ("cparam01", None),
    ("cparam02", None),
    ("regescrt", None),
    ("sdp01", None),
    ("inv2543", None),
];

#[test]
fn each_torture_message_has_its_verdict() {
    for (name, fault) in VERDICTS {
        let (_, message) = scanned(name);
        assert_eq!(message.fault, fault, "{name}");
    }
}

#[test]
fn every_faulty_request_names_what_a_400_copies() {
    for (name, fault) in VERDICTS {
        let (bytes, message) = scanned(name);
        if fault.is_none() || !message.is_request() {
            continue;
        }
        assert!(!message.vias.is_empty() && !message.vias.first.value.is_empty(), "{name}");
        assert!(message.cseq.value.of(&bytes).contains(&b' '), "{name}");
        if name != "insuf" {
            assert!(!message.call_id.is_empty(), "{name}");
            assert!(!message.from.line.value.is_empty() && !message.to.line.value.is_empty(), "{name}");
        }
    }
    assert_eq!(Fault::Version.answer(), 505);
    assert_eq!(Fault::CSeqMethod.answer(), 400);
}

#[test]
fn schemes_that_are_not_forwarded_are_told() {
    assert_eq!(scanned("unkscm").1.scheme, Scheme::Other);
    assert_eq!(scanned("novelsc").1.scheme, Scheme::Other);
    assert_eq!(scanned("wsinv").1.scheme, Scheme::Sip);
}

#[test]
fn white_space_and_folds_are_seen_through() {
    let (bytes, message) = scanned("wsinv");
    assert_eq!(message.method(), Some(Method::Invite));
    assert_eq!(message.uri().of(&bytes), b"sip:vivekg@chair-dnrc.example.com;unknownparam");
    assert_eq!(message.to.uri.of(&bytes), b"sip:vivekg@chair-dnrc.example.com");
    assert_eq!(message.to.tag.of(&bytes), b"1918181833n");
    assert_eq!(message.from.uri.of(&bytes), b"sip:jdrosen@example.com");
    assert_eq!(message.from.tag.of(&bytes), b"98asjd8");
    assert_eq!(message.max_forwards.unwrap().value, 68);
    assert_eq!(message.content_length.unwrap().value, 150);
    assert_eq!((message.cseq.number, message.cseq.method.of(&bytes)), (9, &b"INVITE"[..]));
    assert_eq!(message.via.transport.of(&bytes), b"UDP");
    assert_eq!(message.via.host.of(&bytes), b"192.0.2.2");
    assert_eq!(message.via.branch.of(&bytes), b"390skdjuw");
    let vias: Vec<_> = values(&bytes, &message.vias, Header::Via, &Watch::NONE).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(vias[2].span.of(&bytes), b"SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239");
    assert!(vias[1].first_in_line && !vias[1].last_in_line && vias[2].last_in_line);
    let contact = message.contact().first.value.of(&bytes);
    let found = uri::name_addr(contact).unwrap();
    assert_eq!(found.display.of(contact), br#""Quoted string \"\"""#);
    assert_eq!(uri::param(found.params.of(contact), b"Q"), Some(Some(&b"0.33"[..])));
    assert_eq!(headers(&bytes, &message).count(), 14);
}

#[test]
fn unusual_but_legal_characters_pass() {
    let (bytes, message) = scanned("intmeth");
    let Start::Request { method, name, uri } = message.start else { panic!() };
    assert_eq!((method, name.of(&bytes)), (Method::Unknown, &b"!interesting-Method0123456789_*+`.%indeed'~"[..]));
    let parts = uri::parse(uri.of(&bytes)).unwrap();
    assert_eq!(parts.host, b"example.com");
    assert_eq!(parts.password, Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
    assert_eq!(message.from.tag.of(&bytes), b"_token~1'+`*%!-.");
    assert_eq!(message.call_id.of(&bytes), br#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);
    assert_eq!(message.via.branch.of(&bytes), b"z9hG4bK-.!%66*_+`'~");
    assert_eq!(message.max_forwards.unwrap().value, 255);
}

#[test]
fn escapes_are_not_undone_in_names() {
    let (bytes, message) = scanned("esc02");
    assert_eq!(message.method(), Some(Method::Unknown));
    assert_eq!(message.contact().count, 2);
    assert_eq!(values(&bytes, message.contact(), Header::Contact, &Watch::NONE).count(), 2);
    let (bytes, message) = scanned("semiuri");
    assert_eq!(uri::parse(message.uri().of(&bytes)).unwrap().user, Some(&b"user;par=u%40example.net"[..]));
    let (bytes, message) = scanned("esc01");
    let mut key = [0; 64];
    let len = uri::normalise_user_host(&uri::parse(message.to.uri.of(&bytes)).unwrap(), &mut key).unwrap();
    assert_eq!(&key[..len], b"user@example.com");
    let len = uri::normalise_user_host(&uri::parse(message.uri().of(&bytes)).unwrap(), &mut key).unwrap();
    assert_eq!(&key[..len], b"sips%3Auser%40example.com@example.net");
    let (bytes, message) = scanned("escnull");
    assert_eq!(uri::parse(message.to.uri.of(&bytes)).unwrap().user, Some(&b"null-%00-null"[..]));
}

#[test]
fn octets_behind_the_content_length_are_outside() {
    let (bytes, message) = scanned("dblreq");
    assert_eq!(message.end, message.head_end);
    assert!((message.end as usize) < bytes.len() - 400);
    assert_eq!(message.call_id.of(&bytes), b"dblreq.0ha0isndaksdj99sdfafnl3lk233412");
    let (bytes, message) = scanned("mpart01");
    assert_eq!(message.body().len(), 553);
    assert_eq!(message.end as usize, bytes.len());
}

#[test]
fn an_rfc_2543_message_reaches_to_the_end_of_its_datagram() {
    let (bytes, message) = scanned("inv2543");
    assert_eq!(message.end as usize, bytes.len());
    assert!(message.via.branch.is_empty() && message.from.tag.is_empty());
    assert_eq!((message.content_length, message.max_forwards), (None, None));
}

#[test]
fn long_messages_keep_every_via() {
    let (bytes, message) = scanned("longreq");
    assert_eq!(message.vias.count, 34);
    let vias: Vec<_> = values(&bytes, &message.vias, Header::Via, &Watch::NONE).collect();
    assert_eq!(vias.len(), 34);
    assert_eq!(vias[10].span.of(&bytes), b"SIP/2.0/TCP sip23.example.com");
}

#[test]
fn responses_tell_their_code_and_top_via() {
    let (bytes, message) = scanned("bcast");
    assert_eq!(message.code(), Some(200));
    assert_eq!(message.via.host.of(&bytes), b"192.0.2.198");
    assert_eq!(scanned("noreason").1.code(), Some(100));
    assert_eq!(scanned("unreason").1.code(), Some(200));
    assert_eq!(scanned("bigcode").1.code(), Some(0));
    assert_eq!(scanned("scalarlg").1.code(), Some(503));
}
