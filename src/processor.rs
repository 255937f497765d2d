//! Whether this processor knows the instructions that the build was made of.
//!
//! Asked first thing by each program, so that an older machine is told what to do about it instead of
//! being ended by SIGILL. Knows nothing of what the instructions are used for.

use std::io::Write as _;
use std::process::ExitCode;

/// Does what a program was started for, where this processor can; else says what it lacks, and fails. `command` is not
/// to be inlined: nothing of it may run before.
#[inline(never)]
pub fn run(command: fn() -> ExitCode) -> ExitCode {
    let Some(text) = lacks() else { return command() };
    // By the standard library's own code, which is made for any processor.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}

/// What the build needs and this processor lacks, as a line for who starts it. None where all is
/// there.
fn lacks() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    if x86_64::lacks() {
        return Some(
            "this processor lacks instructions of x86-64-v3 (AVX2, BMI, FMA, MOVBE; Intel since Haswell, AMD since \
             Excavator), which this program was built with; build it for any processor by \
             RUSTFLAGS=\"-C target-cpu=x86-64\" cargo build --release --workspace\n",
        );
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::hint::black_box;

    /// What the build may use, bit by bit: nothing is needed that it does not.
    const fn needed(used: bool, bit: u32) -> u32 {
        if used { 1 << bit } else { 0 }
    }

    /// Leaf 1, ECX. OSXSAVE: the kernel keeps the wide registers.
    const FIRST: u32 = needed(cfg!(target_feature = "fma"), 12)
        | needed(cfg!(target_feature = "sse4.2"), 20)
        | needed(cfg!(target_feature = "movbe"), 22)
        | needed(cfg!(target_feature = "popcnt"), 23)
        | needed(cfg!(target_feature = "avx"), 27)
        | needed(cfg!(target_feature = "avx"), 28)
        | needed(cfg!(target_feature = "f16c"), 29);
    /// Leaf 7, EBX.
    const SEVENTH: u32 = needed(cfg!(target_feature = "bmi1"), 3)
        | needed(cfg!(target_feature = "avx2"), 5)
        | needed(cfg!(target_feature = "bmi2"), 8);
    /// Leaf 0x80000001, ECX.
    const EXTENDED: u32 = needed(cfg!(target_feature = "lzcnt"), 5);

    #[inline(never)]
    pub(super) fn lacks() -> bool {
        if __cpuid(0).eax < 7 || __cpuid(0x8000_0000).eax < 0x8000_0001 {
            return SEVENTH != 0;
        }
        let (first, seventh, extended) = (__cpuid(1).ecx, __cpuid_count(7, 0).ebx, __cpuid(0x8000_0001).ecx);
        // In one piece this would be done by an instruction of BMI.
        let has_not = |word: u32, needed: u32| black_box(word & needed) != needed;
        has_not(first, FIRST) || has_not(seventh, SEVENTH) || has_not(extended, EXTENDED)
    }
}
