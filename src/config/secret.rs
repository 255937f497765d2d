//! The cluster's secret: the hash key that all instances share, and the keys of the cookies.
//!
//! Reads and checks the file, or makes one from the system's random source that only its owner can
//! read. There is no built-in secret, and keys never reach a log or a debug print.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::Deserialize;

use super::fault::{Fault, Faults, Source};
use super::file::{Number, Text};
use crate::balance::CookieKey;

/// What the file holds.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret {
    /// What all keys but the cookies' are derived from.
    pub hash: [u8; 32],
    /// Id and key of every cookie key, in file order; all verify.
    pub cookies: Vec<(u8, [u8; 16])>,
    /// Id of the one that signs.
    pub signer: u8,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hash: Text,
    #[serde(default)]
    cookie: Vec<Cookie>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cookie {
    id: Number,
    key: Text,
    sign: Option<toml::Spanned<bool>>,
}

impl ClusterSecret {
    /// Reads the file, with warnings; none if there is no such file.
    pub(super) fn read(file: &Path) -> Result<(Option<Self>, Vec<Fault>), Faults> {
        let meta = match fs::metadata(file) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
            Err(error) => return Err(Fault::of_file(file, format!("cannot be read: {error}")).into()),
        };
        let mut source = Source::read(file)?;
        let secret = Self::check(&source.parse()?, &mut source);
        let mut warnings = source.verdict()?;
        if meta.mode() & 0o077 != 0 {
            let text = format!("others can read it (mode {:o}); mode 600 is right", meta.mode() & 0o777);
            warnings.push(Fault::of_file(file, text));
        }
        Ok((secret, warnings))
    }

    fn check(file: &File, source: &mut Source) -> Option<Self> {
        let hash = hex::<32>(&file.hash, "hash", source);
        let mut cookies: Vec<(u8, [u8; 16])> = Vec::with_capacity(file.cookie.len());
        let mut signer = None;
        for cookie in &file.cookie {
            let id = source.within("id", &cookie.id, 0..256).and_then(|id| u8::try_from(id).ok());
            let key = hex::<16>(&cookie.key, "key", source);
            let (Some(id), Some(key)) = (id, key) else { continue };
            if cookies.iter().any(|(other, _)| *other == id) {
                source
                    .fault(cookie.id.span(), format!("there is a cookie key {id} already; an id of its own is right"));
            }
            cookies.push((id, key));
            if let Some(sign) = cookie.sign.as_ref().filter(|sign| *sign.get_ref())
                && let Some(first) = signer.replace(id)
            {
                let text = format!("cookie key {first} signs already; `sign = true` on exactly one is right");
                source.fault(sign.span(), text);
            }
        }
        if signer.is_none() && source.is_sound() {
            source.fault(0..0, "no cookie key signs; `sign = true` on exactly one `[[cookie]]` is right");
        }
        Some(Self { hash: hash?, cookies, signer: signer? })
    }

    /// Makes a new secret and writes it to `file`, mode 0600. If another process was faster, its
    /// secret is taken.
    ///
    /// # Errors
    /// When the file cannot be written, or the system has no random bytes.
    pub fn create(file: &Path) -> Result<Self, Faults> {
        let fault = |error: &dyn fmt::Display| Fault::of_file(file, format!("cannot be created: {error}"));
        let (mut hash, mut key) = ([0; 32], [0; 16]);
        getrandom::fill(&mut hash).and_then(|()| getrandom::fill(&mut key)).map_err(|error| fault(&error))?;
        let text = format!(
            "# The secret of a cluster, the same on all its instances. `hash` never changes in service. To change the\n\
             # cookie key: add a second one everywhere, then move `sign = true` to it, then remove the first.\n\
             hash = \"{}\"\n\n[[cookie]]\nid = 0\nkey = \"{}\"\nsign = true\n",
            text_of(&hash),
            text_of(&key)
        );
        let mut draft = file.as_os_str().to_owned();
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| fault(&error))?;
        draft.push(format!(".{}", text_of(&suffix)));
        let draft = Path::new(&draft);
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).and_then(|mut out| {
                out.write_all(text.as_bytes())?;
                out.sync_all()
            });
        // A link never replaces a file, unlike a rename: the first instance wins.
        let linked = written.map_err(|error| fault(&error)).map(|()| fs::hard_link(draft, file));
        let _ = fs::remove_file(draft);
        match linked? {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fault(&error).into()),
            _ => {}
        }
        let (secret, _) = Self::read(file)?;
        secret.ok_or_else(|| fault(&"it is gone again").into())
    }

    /// The cookie keys as `balance` takes them.
    #[must_use]
    pub fn cookie_keys(&self) -> Vec<CookieKey> {
        self.cookies.iter().map(|(id, key)| CookieKey { id: *id, key: *key }).collect()
    }
}

fn hex<const N: usize>(text: &Text, what: &str, source: &mut Source) -> Option<[u8; N]> {
    let digits: Option<Vec<u8>> = text.get_ref().chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let bytes = digits.filter(|digits| digits.len() == 2 * N).map(|digits| {
        let (pairs, _) = digits.as_chunks::<2>();
        let mut bytes = [0; N];
        bytes.iter_mut().zip(pairs).for_each(|(byte, [high, low])| *byte = high << 4 | low);
        bytes
    });
    if bytes.is_none() {
        source.fault(text.span(), format!("`{what}` is not {N} bytes in hex; {} digits 0-9a-f are right", 2 * N));
    }
    bytes
}

fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
