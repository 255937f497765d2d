//! Any splices on any bytes: applied as rebuilding would, or refused and nothing changed. On a sound
//! message, what is pushed and popped again leaves the bytes as they were.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sipring::packet::{Pool, PoolOptions};
use sipring::sip::{Edit, EditError, Header, Span, Watch, scan, values};

static POOL: LazyLock<&'static Pool> =
    LazyLock::new(|| Pool::new(&PoolOptions { slots: 4, threads: 1 }).expect("a pool"));

fn rebuilt(bytes: &[u8], spans: &[(Span, usize)]) -> Option<Vec<u8>> {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|(at, _)| (at.start, at.end));
    let (mut wanted, mut from) = (Vec::new(), 0);
    for (at, put) in sorted {
        if at.start < from || at.end < at.start {
            return None;
        }
        wanted.extend(bytes.get(from.into()..at.start.into())?);
        wanted.extend(std::iter::repeat_n(b'#', put));
        from = at.end;
    }
    wanted.extend(bytes.get(from.into()..)?);
    Some(wanted)
}

fuzz_target!(|input: (Vec<(u16, u16, u8)>, &[u8])| {
    let (cuts, bytes) = input;
    let Some(mut packet) = POOL.take() else { return };
    if !packet.replace(bytes) || cuts.len() > 16 {
        return;
    }
    let spans: Vec<(Span, usize)> =
        cuts.iter().map(|(start, end, put)| (Span { start: *start, end: *end }, usize::from(*put % 64))).collect();
    let mut edit = Edit::new();
    for (at, put) in &spans {
        edit.splice(*at, |text| text.fill(b'#', *put));
    }
    match edit.apply(&mut packet) {
        Ok(_) => assert_eq!(rebuilt(bytes, &spans).as_deref(), Some(packet.bytes())),
        Err(error) => {
            assert_eq!(packet.bytes(), bytes);
            assert!(error != EditError::Overlap || rebuilt(bytes, &spans).is_none());
        }
    }
    assert!(packet.replace(bytes));
    let message = scan(bytes, &Watch::NONE);
    if message.fault.is_some() {
        return;
    }
    edit.clear();
    edit.insert(message.via.line.start, |text| text.str("v:SIP/2.0/UDP a;branch=z9hG4bKb\r\n"));
    if edit.apply(&mut packet).is_err() {
        return;
    }
    let pushed = scan(packet.bytes(), &Watch::NONE);
    assert_eq!(pushed.vias.count, message.vias.count + 1);
    edit.clear();
    values(packet.bytes(), &pushed.vias, Header::Via, &Watch::NONE).take(1).for_each(|value| edit.pop(&value));
    assert!(edit.apply(&mut packet).is_ok());
    assert_eq!(packet.bytes(), bytes);
});
