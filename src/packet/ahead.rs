//! Asking the cache for bytes that are read soon.
//!
//! What another cpu has written, such as the kernel's half of a bypass, costs as much to read as the rest of a small packet's
//! way; asked for ahead, it comes while something else is worked on. Changes nothing but time.

/// Bytes of a cache line, or of half of what comes at once.
const LINE: usize = 64;
/// Bytes asked for at most: the longest datagrams are mostly body, which nobody reads.
const ASKED_MAX: usize = 1_024;

/// Asks for the lines of `bytes`, of the first ones if they are many.
#[inline]
pub(super) fn ask(bytes: &[u8]) {
    let asked = bytes.get(..ASKED_MAX).unwrap_or(bytes);
    asked.iter().step_by(LINE).for_each(line);
    if let Some(last) = asked.last() {
        line(last);
    }
}

#[inline]
fn line(at: &u8) {
    #[cfg(target_feature = "sse")]
    safe_arch::prefetch_t0(at);
    #[cfg(not(target_feature = "sse"))]
    let _ = at;
}
