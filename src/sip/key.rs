//! The form of a URI by which it is looked up.
//!
//! Driven by the shard through `uri`, with a URI taken apart and room for the key. The only place where
//! escapes are undone, once.

use super::uri::{Scheme, Uri};

/// Writes `user@host` for use as a key and returns its length: escapes of characters that need none
/// are undone, others put in upper case, the host is in lower case, password, port and parameters are
/// gone (RFC 3261 19.1.4). Of tel URIs the number, without visual separators (RFC 3966 5.1.1). None if
/// `out` is too short.
#[must_use]
pub fn normalise_user_host(uri: &Uri<'_>, out: &mut [u8]) -> Option<usize> {
    let mut room = out.iter_mut();
    let mut length = 0;
    let mut put = |byte: u8| {
        *room.next()? = byte;
        length += 1;
        Some(())
    };
    let mut user = uri.user.unwrap_or_default();
    while let [first, rest @ ..] = user {
        user = rest;
        match (uri.scheme, escape(first, rest)) {
            (Scheme::Tel, _) if matches!(first, b'-' | b'.' | b'(' | b')') => {}
            (Scheme::Sip | Scheme::Sips, Some((byte, behind))) => {
                user = behind;
                if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
                    put(byte)?;
                } else {
                    put(b'%')?;
                    rest.iter().take(2).try_for_each(|digit| put(digit.to_ascii_uppercase()))?;
                }
            }
            _ => put(*first)?,
        }
    }
    if !uri.host.is_empty() {
        if uri.user.is_some() {
            put(b'@')?;
        }
        uri.host.iter().try_for_each(|byte| put(byte.to_ascii_lowercase()))?;
    }
    Some(length)
}

/// The byte that an escape stands for, and what follows it.
fn escape<'a>(first: &u8, rest: &'a [u8]) -> Option<(u8, &'a [u8])> {
    let ([high, low], behind) = rest.split_first_chunk().filter(|_| *first == b'%')?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some(((digit(high)? << 4 | digit(low)?) as u8, behind))
}
