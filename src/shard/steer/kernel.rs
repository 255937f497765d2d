//! The program that finds the top Via's branch as a parser does: eight bytes a step.
//!
//! Looks at the first bytes of a datagram only, and makes do with what nearly all write: a Via line
//! named `Via` or `v`, a parameter `;branch=` without white space in it. It never reads what the
//! datagram does not hold, and all its loops are counted, or the kernel would refuse it.

use super::super::owner::{FACTORS, FOLD, LENGTH, MIX};
use super::super::via::PREFIX;
use super::{Facts, SCRATCH, SOCKETS};
use crate::bpf::{Assembler, If, Label, Op, Program, Reg, Size};

use Op::{Add, And, Left, Mod, Move, Mul, Neg, Or, Right, Sub, Xor};
use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};

/// Bytes that are looked at, a power of two.
const SCAN: i32 = 512;
/// Where they begin in the scratch: the byte before an offset can always be read.
const LEAD: i16 = 8;
/// Behind them: what is read from the last offset on.
const BEHIND: usize = 8 * WORDS + 32;
pub(super) const SCRATCH_BYTES: usize = LEAD as usize + SCAN as usize + BEHIND;
/// Words of eight bytes that a branch may have.
const WORDS: usize = FACTORS.len() / 2;
/// No message is shorter.
const SHORTEST: i32 = 64;
/// Steps to find the Via: words, and lines above it.
const LINE_STEPS: i32 = 96;
/// Steps to find the branch in it: words, and parameters above it.
const PARAM_STEPS: i32 = 64;
const UDP_HEADER: i32 = 8;

/// Functions of the kernel.
const LOOK_UP: i32 = 1;
const LOAD_BYTES: i32 = 26;
const SELECT: i32 = 82;
/// What leaves the choice as it is: the socket selected, else the kernel's own.
const PASS: i32 = 1;
/// Where the context says how long the datagram is, UDP header included.
const CONTEXT_LENGTH: i16 = 16;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// What stands where, all the way: R6 the context, R7 the datagram's first byte, R8 the offset, R9
/// the length of what is there.
struct Emitter {
    asm: Assembler,
    pass: Label,
    facts: Facts,
}

pub(super) fn program(facts: Facts) -> Option<Program> {
    let mut asm = Assembler::default();
    let (pass, via, value, own, chosen) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    let mut emitter = Emitter { asm, pass, facts };
    emitter.read();
    emitter.find_via(via);
    emitter.asm.bind(via);
    emitter.find_branch(value);
    emitter.asm.bind(value);
    emitter.at_offset();
    emitter.asm.load(Size::Eight, R1, R7, 0);
    emitter.asm.wide(R2, u64::from_le_bytes(*b"SIP/2.0 "));
    emitter.asm.jump(If::Equal, R1, R2, own);
    emitter.hash();
    emitter.asm.go(chosen);
    emitter.asm.bind(own);
    emitter.own_slot()?;
    emitter.asm.bind(chosen);
    emitter.select();
    emitter.asm.finish()
}

impl Emitter {
    /// Copies the head of the datagram to where it can be read by any offset.
    fn read(&mut self) {
        let (asm, pass) = (&mut self.asm, self.pass);
        let fits = asm.label();
        asm.alu(Move, R6, R1);
        asm.alu(Move, R1, 0);
        asm.store(Size::Four, R10, -4, R1);
        asm.alu(Move, R2, R10);
        asm.alu(Add, R2, -4);
        asm.map(R1, SCRATCH);
        asm.call(LOOK_UP);
        asm.jump(If::Equal, R0, 0, pass);
        asm.alu(Move, R7, R0);
        asm.alu(Add, R7, i32::from(LEAD));
        asm.load(Size::Four, R9, R6, CONTEXT_LENGTH);
        // Zero, as nobody writes there; the kernel's verifier does not know that. So it follows the
        // loops for all offsets at once, not for one after the other.
        asm.load(Size::Eight, R8, R7, -LEAD);
        asm.alu(And, R8, SCAN - 1);
        asm.jump(If::Below, R9, UDP_HEADER + SHORTEST, pass);
        asm.alu(Sub, R9, UDP_HEADER);
        asm.jump(If::AtMost, R9, SCAN, fits);
        asm.alu(Move, R9, SCAN);
        asm.bind(fits);
        asm.alu(Move, R1, R6);
        asm.alu(Move, R2, UDP_HEADER);
        asm.alu(Move, R3, R7);
        asm.alu(Move, R4, R9);
        asm.call(LOAD_BYTES);
        asm.jump(If::Differs, R0, 0, pass);
    }

    /// R3 = the address of the offset; nothing is found where nothing is.
    fn at_offset(&mut self) {
        let (asm, pass) = (&mut self.asm, self.pass);
        asm.jump(If::AtLeast, R8, R9, pass);
        asm.alu(And, R8, SCAN - 1);
        asm.alu(Move, R3, R7);
        asm.alu(Add, R3, R8);
    }

    /// R2 = the highest bit of every byte of R1 that is one of `bytes` or, if asked, a blank or below;
    /// true up to the first such byte. Takes R0 and R4.
    fn marks(&mut self, bytes: &[u8], blanks: bool) {
        let asm = &mut self.asm;
        asm.alu(Move, R2, 0);
        for byte in bytes {
            asm.wide(R4, ONES * u64::from(*byte));
            asm.alu(Xor, R4, R1);
            asm.wide(R0, ONES.wrapping_neg());
            asm.alu(Add, R0, R4);
            asm.alu(Xor, R4, -1);
            asm.alu(And, R0, R4);
            asm.alu(Or, R2, R0);
        }
        if blanks {
            asm.wide(R0, (ONES * 0x21).wrapping_neg());
            asm.alu(Add, R0, R1);
            asm.alu(Move, R4, R1);
            asm.alu(Xor, R4, -1);
            asm.alu(And, R0, R4);
            asm.alu(Or, R2, R0);
        }
        asm.wide(R4, HIGH);
        asm.alu(And, R2, R4);
    }

    /// Adds to the offset what leads behind the first byte that R2 marks.
    fn step_behind(&mut self) {
        let asm = &mut self.asm;
        asm.alu(Move, R4, R2);
        asm.alu(Neg, R4, 0);
        asm.alu(And, R2, R4);
        asm.alu(Sub, R2, 1);
        asm.wide(R4, ONES);
        asm.alu(And, R2, R4);
        asm.alu(Mul, R2, R4);
        asm.alu(Right, R2, 56);
        asm.alu(Add, R8, R2);
    }

    /// Goes on at `via` with the offset behind the name of the first Via line.
    fn find_via(&mut self, via: Label) {
        let (again, line, next) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.alu(Move, R5, LINE_STEPS);
        self.asm.bind(again);
        self.at_offset();
        self.asm.load(Size::Eight, R1, R3, 0);
        self.marks(b"\n", false);
        self.asm.jump(If::Differs, R2, 0, line);
        self.asm.alu(Add, R8, 8);
        self.asm.go(next);
        self.asm.bind(line);
        self.step_behind();
        self.at_offset();
        let asm = &mut self.asm;
        asm.load(Size::Four, R1, R3, 0);
        asm.alu(Or, R1, 0x20);
        asm.alu(Move, R2, R1);
        asm.alu(And, R2, 0xff);
        asm.jump(If::Differs, R2, i32::from(b'v'), next);
        asm.alu(Right, R1, 8);
        self.if_name_ends(via);
        let asm = &mut self.asm;
        asm.alu(Or, R1, 0x2020);
        asm.alu(Move, R2, R1);
        asm.alu(And, R2, 0xffff);
        asm.jump(If::Differs, R2, i32::from(u16::from_le_bytes(*b"ia")), next);
        asm.alu(Right, R1, 16);
        self.if_name_ends(via);
        self.asm.bind(next);
        self.once_more(again);
    }

    /// Goes to `via` if the lowest byte of R1 ends a header's name.
    fn if_name_ends(&mut self, via: Label) {
        self.asm.alu(Move, R2, R1);
        self.asm.alu(And, R2, 0xff);
        for byte in *b": \t" {
            self.asm.jump(If::Equal, R2, i32::from(byte), via);
        }
    }

    /// Counts R5 down, and passes at its end.
    fn once_more(&mut self, again: Label) {
        self.asm.alu(Sub, R5, 1);
        self.asm.jump(If::Differs, R5, 0, again);
        self.asm.go(self.pass);
    }

    /// Goes on at `value` with the offset of the branch's value; the Via ends with its line, if that
    /// is not folded, or at a comma.
    fn find_branch(&mut self, value: Label) {
        let pass = self.pass;
        let (again, stop, semicolon, next) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.alu(Move, R5, PARAM_STEPS);
        self.asm.bind(again);
        self.at_offset();
        self.asm.load(Size::Eight, R1, R3, 0);
        self.marks(b";,\n", false);
        self.asm.jump(If::Differs, R2, 0, stop);
        self.asm.alu(Add, R8, 8);
        self.asm.go(next);
        self.asm.bind(stop);
        self.step_behind();
        self.at_offset();
        let asm = &mut self.asm;
        asm.load(Size::One, R1, R3, -1);
        asm.jump(If::Equal, R1, i32::from(b';'), semicolon);
        asm.jump(If::Equal, R1, i32::from(b','), pass);
        asm.load(Size::One, R1, R3, 0);
        asm.jump(If::Equal, R1, i32::from(b' '), next);
        asm.jump(If::Equal, R1, i32::from(b'\t'), next);
        asm.go(pass);
        asm.bind(semicolon);
        asm.load(Size::Eight, R1, R3, 0);
        asm.wide(R2, 0x0020_2020_2020_2020);
        asm.alu(Or, R1, R2);
        asm.alu(Left, R1, 8);
        asm.wide(R2, u64::from_le_bytes(*b"\0branch="));
        asm.jump(If::Differs, R1, R2, next);
        asm.alu(Add, R8, 7);
        asm.go(value);
        asm.bind(next);
        self.once_more(again);
    }

    /// R5 = the slot of the value at R3. A word at a time, since a loop would have no place for the
    /// factors.
    fn hash(&mut self) {
        let end = self.asm.label();
        self.asm.wide(R5, u64::from(self.facts.seed));
        for (at, [high, low]) in (0..).step_by(8).zip(FACTORS.as_chunks::<2>().0) {
            let whole = self.asm.label();
            self.asm.load(Size::Eight, R1, R3, at);
            self.marks(b";,", true);
            self.asm.jump(If::Equal, R2, 0, whole);
            self.asm.alu32(Move, R0, *high as i32);
            self.asm.alu32(Move, R4, *low as i32);
            self.asm.alu(Move, R7, i32::from(at));
            self.asm.go(end);
            self.asm.bind(whole);
            self.asm.big_endian(R1, 64);
            self.asm.alu32(Move, R0, *high as i32);
            self.asm.alu32(Move, R4, *low as i32);
            self.add_products();
        }
        self.asm.go(self.pass);
        self.asm.bind(end);
        self.add_last();
        let asm = &mut self.asm;
        asm.alu32(Mul, R7, LENGTH as i32);
        asm.alu32(Add, R5, R7);
        asm.alu32(Move, R1, R5);
        asm.alu32(Right, R1, FOLD as i32);
        asm.alu32(Xor, R5, R1);
        asm.alu32(Mul, R5, MIX as i32);
        asm.alu32(Right, R5, 16);
        asm.alu32(Mul, R5, i32::from(self.facts.slots));
        asm.alu32(Right, R5, 16);
    }

    /// R5 += the halves of R1 by the factors in R0 and R4. Takes R2.
    fn add_products(&mut self) {
        let asm = &mut self.asm;
        asm.alu(Move, R2, R1);
        asm.alu(Right, R2, 32);
        asm.alu32(Mul, R2, R0);
        asm.alu32(Add, R5, R2);
        asm.alu32(Mul, R1, R4);
        asm.alu32(Add, R5, R1);
    }

    /// The last word of the value, of which R1 holds more than that: what R2 marks ends it. R7 = the
    /// length of the value, which stood in it without this word; the datagram must hold its end.
    fn add_last(&mut self) {
        let (asm, pass) = (&mut self.asm, self.pass);
        asm.alu(Move, R3, R2);
        asm.alu(Neg, R3, 0);
        asm.alu(And, R3, R2);
        asm.alu(Right, R3, 7);
        asm.alu(Sub, R3, 1);
        asm.alu(And, R1, R3);
        asm.wide(R2, ONES);
        asm.alu(And, R3, R2);
        asm.alu(Mul, R3, R2);
        asm.alu(Right, R3, 56);
        asm.alu(Add, R7, R3);
        asm.alu(Add, R8, R7);
        asm.jump(If::AtLeast, R8, R9, pass);
        asm.jump(If::Equal, R7, 0, pass);
        asm.big_endian(R1, 64);
        self.add_products();
    }

    /// R5 = the slot that a branch of ours at R3 names; in any other it passes.
    fn own_slot(&mut self) -> Option<()> {
        let (asm, pass) = (&mut self.asm, self.pass);
        let (head, rest) = PREFIX.split_first_chunk::<8>()?;
        let [mark] = rest else { return None };
        let digits = PREFIX.len() as i16;
        asm.load(Size::Eight, R1, R3, 0);
        asm.wide(R2, u64::from_le_bytes(*head));
        asm.jump(If::Differs, R1, R2, pass);
        asm.load(Size::One, R1, R3, digits - 1);
        asm.jump(If::Differs, R1, i32::from(*mark), pass);
        asm.alu(Add, R8, i32::from(digits) + 4);
        asm.jump(If::AtLeast, R8, R9, pass);
        asm.load(Size::Four, R5, R3, digits);
        asm.big_endian(R5, 32);
        // Hexadecimal: bit 6 tells letters from digits.
        asm.alu(Move, R1, R5);
        asm.alu(Right, R1, 6);
        asm.alu(And, R1, ONES as i32);
        asm.alu(Mul, R1, 9);
        asm.alu(And, R5, 0x0f0f_0f0f);
        asm.alu(Add, R5, R1);
        asm.alu(Move, R1, R5);
        asm.alu(Right, R1, 4);
        asm.alu(Or, R5, R1);
        asm.alu(And, R5, 0x00ff_00ff);
        asm.alu(Move, R1, R5);
        asm.alu(Right, R1, 8);
        asm.alu(Or, R5, R1);
        asm.alu(And, R5, 0xffff);
        Some(())
    }

    /// Gives the datagram to the worker of the slot in R5.
    fn select(&mut self) {
        let asm = &mut self.asm;
        asm.alu32(Mod, R5, i32::from(self.facts.workers));
        asm.store(Size::Four, R10, -4, R5);
        asm.alu(Move, R1, R6);
        asm.map(R2, SOCKETS);
        asm.alu(Move, R3, R10);
        asm.alu(Add, R3, -4);
        asm.alu(Move, R4, 0);
        asm.call(SELECT);
        asm.bind(self.pass);
        asm.alu(Move, R0, PASS);
        asm.exit();
    }
}
