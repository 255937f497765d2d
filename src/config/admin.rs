//! `[admin]`: where the admin side listens, and the token that it asks for.
//!
//! Whoever can reach it can stop nodes, so beyond this machine a token is required, in a file that
//! only its owner can read. The token never reaches a log or a debug print.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::fault::Source;
use super::file::{self, Text};
use crate::control::{AdminOptions, Token};

/// Where it listens if the file does not say.
const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8060);
/// Shortest token, bytes.
const TOKEN_MIN: usize = 16;
/// Longest token, bytes.
const TOKEN_MAX: usize = 256;

pub(super) fn read(admin: &file::Admin, path: &Path, source: &mut Source) -> AdminOptions {
    let bind = match &admin.bind {
        None => Some(BIND),
        Some(text) if text.get_ref() == "off" => None,
        Some(text) => match text.get_ref().parse::<SocketAddr>() {
            Ok(bind) if bind.port() > 0 => Some(bind),
            _ => {
                let word = text.get_ref();
                let fault =
                    format!("`{word}` is no address with a port; `127.0.0.1:8060`, `[::1]:8060` or `off` is right");
                source.fault(text.span(), fault);
                None
            }
        },
    };
    let token = admin.token_file.as_ref().and_then(|file| token(file, path, source));
    if let Some(bind) = bind.filter(|bind| !bind.ip().to_canonical().is_loopback())
        && admin.token_file.is_none()
    {
        let at = admin.bind.as_ref().map_or(0..0, toml::Spanned::span);
        source.fault(at, format!("{bind} is reachable from outside and nothing is asked for; a `token_file` is right"));
    }
    AdminOptions { bind, token }
}

/// The token in a file beside the configuration.
fn token(text: &Text, path: &Path, source: &mut Source) -> Option<Token> {
    let file = path.parent().unwrap_or(Path::new("")).join(text.get_ref());
    let shown = file.display();
    let meta = fs::metadata(&file).map_err(|error| format!("{shown}: cannot be read: {error}"));
    let found = meta.and_then(|meta| {
        if meta.mode() & 0o077 != 0 {
            return Err(format!("{shown}: others can read it (mode {:o}); mode 600 is right", meta.mode() & 0o777));
        }
        let text = fs::read_to_string(&file).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
        let word = text.trim();
        let sound = (TOKEN_MIN..=TOKEN_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic());
        if sound {
            return Ok(Token::new(word));
        }
        Err(format!("{shown}: this is no token; {TOKEN_MIN} to {TOKEN_MAX} visible characters are right"))
    });
    found.map_err(|fault| source.fault(text.span(), fault)).ok()
}
