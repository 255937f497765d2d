use super::*;
use crate::packet::{Pool, PoolOptions};
use crate::sip::{Header, Watch, scan, values};

fn packet(bytes: &[u8]) -> Packet {
    let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
    let mut packet = pool.take().unwrap();
    assert!(packet.replace(bytes));
    packet
}

fn span(start: u16, end: u16) -> Span {
    Span { start, end }
}

#[test]
fn splices_apply_whatever_the_order_of_the_calls() {
    let mut packet = packet(b"0123456789");
    let mut edit = Edit::new();
    edit.splice(span(8, 9), |text| text.str("eight"));
    edit.remove(span(3, 5));
    let insert = edit.insert(2, |text| text.str("<<"));
    edit.insert(2, |text| text.str(">>"));
    let at_end = edit.insert(10, |text| text.number(42));
    assert_eq!(edit.growth(), 4 - 2 + 4 + 2);
    let applied = edit.apply(&mut packet).unwrap();
    assert_eq!((applied.at(insert), applied.at(at_end)), (2, 16));
    assert_eq!(packet.bytes(), b"01<<>>2567eight942");
}

#[test]
fn only_bytes_in_front_of_the_last_change_move() {
    let mut packet = packet(b"head|body");
    let at = packet.bytes().as_ptr() as usize + 5;
    let mut edit = Edit::new();
    edit.insert(4, |text| text.str("er"));
    edit.apply(&mut packet).unwrap();
    assert_eq!(packet.bytes(), b"header|body");
    assert_eq!(packet.bytes().as_ptr() as usize + 7, at);
    edit.clear();
    edit.remove(span(0, 4));
    edit.apply(&mut packet).unwrap();
    assert_eq!(packet.bytes(), b"er|body");
    assert_eq!(packet.bytes().as_ptr() as usize + 3, at);
}

#[test]
fn an_edit_that_cannot_be_applied_changes_nothing() {
    let mut packet = packet(b"0123456789");
    let refused = |fill: &dyn Fn(&mut Edit), packet: &mut Packet| {
        let mut edit = Edit::new();
        fill(&mut edit);
        let error = edit.apply(packet).unwrap_err();
        assert_eq!(packet.bytes(), b"0123456789");
        assert_eq!(packet.head_room(), crate::packet::HEAD_ROOM);
        error
    };
    let overlap = |edit: &mut Edit| {
        edit.remove(span(2, 5));
        edit.remove(span(4, 6));
    };
    assert_eq!(refused(&overlap, &mut packet), EditError::Overlap);
    let inside = |edit: &mut Edit| {
        edit.remove(span(2, 5));
        edit.insert(3, |text| text.str("x"));
    };
    assert_eq!(refused(&inside, &mut packet), EditError::Overlap);
    assert_eq!(refused(&|edit| edit.remove(span(9, 11)), &mut packet), EditError::Overlap);
    assert_eq!(refused(&|edit| edit.remove(span(6, 3)), &mut packet), EditError::Overlap);
    let many = |edit: &mut Edit| {
        for at in 0..=SPLICES_MAX as u16 {
            edit.insert(at / 2, |text| text.str("x"));
        }
    };
    assert_eq!(refused(&many, &mut packet), EditError::TooManySplices);
    let long = |edit: &mut Edit| {
        edit.insert(1, |text| text.fill(b'x', TEXT_MAX + 1));
    };
    assert_eq!(refused(&long, &mut packet), EditError::TextTooLong);
    let room = |edit: &mut Edit| {
        edit.insert(1, |text| text.fill(b'x', crate::packet::HEAD_ROOM + 1));
    };
    assert_eq!(refused(&room, &mut packet), EditError::NoHeadRoom);
}

#[test]
fn an_edit_may_fill_the_head_room_to_its_last_byte() {
    let mut packet = packet(b"0123456789");
    let mut edit = Edit::new();
    edit.insert(5, |text| text.fill(b'x', crate::packet::HEAD_ROOM));
    edit.apply(&mut packet).unwrap();
    assert_eq!(packet.len(), crate::packet::HEAD_ROOM + 10);
    assert!(packet.bytes().starts_with(b"01234xx") && packet.bytes().ends_with(b"x56789"));
}

fn popped(header: &str, count: usize) -> String {
    let message = format!("OPTIONS sip:a@b SIP/2.0\r\n{header}X: y\r\n\r\n");
    let found = scan(message.as_bytes(), &Watch::NONE);
    let mut edit = Edit::new();
    let mut packet = packet(message.as_bytes());
    for value in values(packet.bytes(), found.route(), Header::Route, &Watch::NONE).take(count) {
        edit.pop(&value);
    }
    edit.apply(&mut packet).unwrap();
    String::from_utf8(packet.bytes()[25..].to_vec()).unwrap()
}

#[test]
fn popped_values_take_their_commas_and_empty_lines_along() {
    let one_line = "Route: <sip:a;lr>, <sip:b;lr> ,<sip:c;lr>\r\n";
    assert_eq!(popped(one_line, 1), "Route: <sip:b;lr> ,<sip:c;lr>\r\nX: y\r\n\r\n");
    assert_eq!(popped(one_line, 2), "Route: <sip:c;lr>\r\nX: y\r\n\r\n");
    assert_eq!(popped(one_line, 3), "X: y\r\n\r\n");
    let lines = "Route: <sip:a;lr>\r\nTo: x\r\nRoute: <sip:b;lr>,\r\n <sip:c;lr>\r\n";
    assert_eq!(popped(lines, 1), "To: x\r\nRoute: <sip:b;lr>,\r\n <sip:c;lr>\r\nX: y\r\n\r\n");
    assert_eq!(popped(lines, 2), "To: x\r\nRoute: <sip:c;lr>\r\nX: y\r\n\r\n");
    assert_eq!(popped(lines, 3), "To: x\r\nX: y\r\n\r\n");
    assert_eq!(popped("Route: ,, <sip:a>,, <sip:b>\r\n", 1), "Route: <sip:b>\r\nX: y\r\n\r\n");
}
