//! Takes our values off Route and puts the request-URI right (16.4, 16.6 item 6), value by value.
//!
//! For what is not plain: Routes of others, strict routers, Contacts that were rewritten.

use crate::sip::{self, Edit, Header, Span, Value, uri};

use super::request::{Incoming, NewUri};
use super::respond::written;
use super::rewrite::{Draft, Unwritten};
use super::verdict::Tally;

/// Route values that an edit looks at one by one; a strict router's repair needs the last.
const ROUTES_MAX: usize = 64;

impl Draft<'_> {
    /// Route and request-URI.
    pub(super) fn request_line(&self, edit: &mut Edit) -> Result<(), Unwritten> {
        let Incoming { bytes, message, .. } = *self.incoming;
        if let NewUri::Restored { user, original, replaced } = self.course.uri {
            edit.splice(replaced, |text| {
                if !user.is_empty() {
                    text.bytes(user.of(bytes));
                    text.str("@");
                }
                written(text, original);
            });
        }
        if let Some(lines) = self.course.own_lines {
            edit.remove(lines);
            return Ok(());
        }
        let pops = self.course.pops;
        if pops == 0 && matches!(self.course.uri, NewUri::Keep | NewUri::Restored { .. }) {
            return Ok(());
        }
        let values = sip::values(bytes, message.route(), Header::Route, &self.shard.watch);
        let count = match self.course.uri {
            NewUri::Keep | NewUri::Restored { .. } => pops,
            NewUri::LastRoute | NewUri::StrictHop => values.clone().count(),
        };
        if count > ROUTES_MAX {
            return Err(Unwritten::TooMany);
        }
        match self.course.uri {
            NewUri::Keep | NewUri::Restored { .. } => remove_values(edit, values, |place| place >= pops),
            NewUri::LastRoute => {
                let last = values.clone().last().filter(|_| count > pops);
                if let Some(uri) = last.and_then(|value| uri_of(bytes, &value)) {
                    edit.splice(message.uri(), |text| text.bytes(uri.of(bytes)));
                }
                remove_values(edit, values, |place| place >= pops && place + 1 < count);
                self.shard.counters.tally(Tally::StrictRepaired);
            }
            NewUri::StrictHop => {
                let Some(next) = values.clone().nth(pops).and_then(|value| uri_of(bytes, &value)) else {
                    return Err(Unwritten::TooMany);
                };
                let end = message.route().end;
                edit.splice(message.uri(), |text| text.bytes(next.of(bytes)));
                remove_values(edit, values, |place| place > pops);
                edit.insert(end, |text| {
                    text.str("Route: <");
                    text.bytes(message.uri().of(bytes));
                    text.str(">\r\n");
                });
            }
        }
        Ok(())
    }
}

/// The URI inside a Route value, as a span of the datagram.
fn uri_of(bytes: &[u8], value: &Value) -> Option<Span> {
    uri::name_addr(value.span.of(bytes)).map(|address| address.uri.offset(value.span.start))
}

/// Removes the values of a header that `keep` does not want, and with them lines and commas that
/// nothing is left of.
fn remove_values(edit: &mut Edit, values: impl Iterator<Item = Value>, keep: impl Fn(usize) -> bool) {
    // Since the line began: has a value been kept, and where does the gap to be removed begin?
    let mut kept: Option<u16> = None;
    let mut gap: Option<u16> = None;
    for (place, value) in values.enumerate() {
        if value.first_in_line {
            (kept, gap) = (None, None);
        }
        if keep(place) {
            if let Some(start) = gap.take() {
                edit.remove(Span { start, end: value.span.start });
            }
            kept = Some(value.span.end);
        } else if gap.is_none() {
            gap = Some(value.span.start);
        }
        if value.last_in_line && gap.is_some() {
            match kept {
                Some(end) => edit.remove(Span { start: end, end: value.span.end }),
                None => edit.remove(Span { start: value.line.start, end: value.line.next }),
            };
        }
    }
}
