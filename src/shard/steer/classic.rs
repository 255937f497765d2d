//! The program for those who may load none: it takes the first `z9hG4bK` for the top Via's branch.
//!
//! So a message whose top Via bears no such branch is guessed wrong where one below does; the owner
//! gets it by mail. No loops and 32 bits: everything stands here once for each offset.

use super::super::owner::{FACTORS, FOLD, LENGTH, MIX};
use super::super::via::PREFIX;
use super::Facts;
use crate::bpf::{Classic, ClassicAssembler, Cond, Label, Op};

/// Where the first branch may stand: `ACK a: SIP/2.0`, and the shortest of Vias before it.
const FIRST: u32 = 36;
/// Offsets that are looked at.
const LAST: u32 = 548;
/// Offsets whose jumps reach the same place.
const GROUP: u32 = 64;
/// A value that is longer is not looked at: the program would outgrow what a socket may keep.
const VALUE_MAX: u32 = 64;
/// No choice of ours: the kernel's own holds.
const PASS: u32 = u32::MAX;
/// Words of the store: the sum so far, and where the value begins.
const SUM: u32 = 0;
const START: u32 = 1;

pub(super) fn program(facts: Facts) -> Option<Classic> {
    let mut asm = ClassicAssembler::default();
    let (found, pass, own, mixed) = (asm.label(), asm.label(), asm.label(), asm.label());
    search(&mut asm, found);
    asm.answer_number(PASS);
    asm.bind(found);
    let (looked, cookie, request) = (asm.label(), asm.label(), asm.label());
    // A load beyond the end would mean the first worker.
    asm.length();
    asm.alu_x(Op::Sub);
    asm.jump(Cond::AtLeast, VALUE_MAX + 4, looked);
    asm.answer_number(PASS);
    asm.bind(looked);
    asm.word_from_x(0);
    asm.jump_unless(Cond::Equal, u32::from_be_bytes(*b"z9hG"), pass);
    asm.word_from_x(3);
    asm.jump(Cond::Equal, u32::from_be_bytes(*b"G4bK"), cookie);
    asm.bind(pass);
    asm.answer_number(PASS);
    asm.bind(cookie);
    asm.word(0);
    asm.jump_unless(Cond::Equal, u32::from_be_bytes(*b"SIP/"), request);
    asm.go(own);
    asm.bind(request);
    hash(&mut asm, facts, mixed);
    asm.answer_number(PASS);
    asm.bind(mixed);
    asm.keep(SUM);
    asm.alu(Op::Right, FOLD);
    asm.kept_to_x(SUM);
    asm.alu_x(Op::Xor);
    asm.alu(Op::Mul, MIX);
    asm.alu(Op::Right, 16);
    asm.alu(Op::Mul, u32::from(facts.slots));
    asm.alu(Op::Right, 16);
    answer(&mut asm, facts);
    asm.bind(own);
    own_slot(&mut asm, facts)?;
    asm.finish()
}

/// The worker of the slot in a.
fn answer(asm: &mut ClassicAssembler, facts: Facts) {
    asm.alu(Op::Mod, u32::from(facts.workers));
    asm.answer();
}

/// Goes to `found` with x at the first place where four of the seven letters stand. Of every four
/// offsets one is looked at: one of the four words of the cookie lies there.
fn search(asm: &mut ClassicAssembler, found: Label) {
    let words = [*b"z9hG", *b"9hG4", *b"hG4b", *b"G4bK"].map(u32::from_be_bytes);
    for group in (FIRST..LAST).step_by(GROUP as usize) {
        let (reaches, next) = (asm.label(), asm.label());
        asm.length();
        asm.jump(Cond::AtLeast, group + GROUP + 4, reaches);
        asm.answer_number(PASS);
        asm.bind(reaches);
        let hits = words.map(|_| asm.label());
        for at in (group..group + GROUP).step_by(4) {
            asm.number_to_x(at);
            asm.word(at);
            words.iter().zip(hits).for_each(|(word, hit)| asm.jump(Cond::Equal, *word, hit));
        }
        asm.go(next);
        for (hit, back) in hits.into_iter().zip(0..) {
            asm.bind(hit);
            asm.x_to_a();
            asm.alu(Op::Sub, back);
            asm.a_to_x();
            asm.go(found);
        }
        asm.bind(next);
    }
}

/// Goes to `mixed` with the sum of the value at x in a; falls through if it has no end.
fn hash(asm: &mut ClassicAssembler, facts: Facts, mixed: Label) {
    asm.x_to_a();
    asm.keep(START);
    asm.number(facts.seed);
    asm.keep(SUM);
    for at in 0..=VALUE_MAX {
        let (inside, ended) = (asm.label(), asm.label());
        asm.byte_from_x(at);
        asm.jump(Cond::Above, u32::from(b';'), inside);
        asm.jump(Cond::Equal, u32::from(b';'), ended);
        asm.jump(Cond::Equal, u32::from(b','), ended);
        asm.jump(Cond::Above, u32::from(b' '), inside);
        asm.bind(ended);
        match at % 4 {
            0 => asm.number(0),
            bytes => product(asm, at - bytes, u32::MAX << (8 * (4 - bytes))),
        }
        asm.kept_to_x(SUM);
        asm.alu_x(Op::Add);
        asm.alu(Op::Add, at.wrapping_mul(LENGTH));
        asm.go(mixed);
        asm.bind(inside);
        if at % 4 == 3 {
            product(asm, at - 3, u32::MAX);
            asm.kept_to_x(SUM);
            asm.alu_x(Op::Add);
            asm.keep(SUM);
            asm.kept_to_x(START);
        }
    }
}

/// a = the bytes of `mask` of the word at x + `at`, by its factor.
fn product(asm: &mut ClassicAssembler, at: u32, mask: u32) {
    let factor = FACTORS.get(at as usize / 4).copied().unwrap_or(1);
    asm.word_from_x(at);
    if mask != u32::MAX {
        asm.alu(Op::And, mask);
    }
    asm.alu(Op::Mul, factor);
}

/// Ends with the worker that a branch of ours at x names.
fn own_slot(asm: &mut ClassicAssembler, facts: Facts) -> Option<()> {
    let (pass, ours) = (asm.label(), asm.label());
    let [_, _, _, _, head @ .., mark] = PREFIX else { return None };
    asm.word_from_x(4);
    asm.jump_unless(Cond::Equal, u32::from_be_bytes(*head.as_array()?), pass);
    asm.byte_from_x(PREFIX.len() as u32 - 1);
    asm.jump(Cond::Equal, u32::from(*mark), ours);
    asm.bind(pass);
    asm.answer_number(PASS);
    asm.bind(ours);
    asm.word_from_x(PREFIX.len() as u32);
    asm.keep(SUM);
    // Hexadecimal: bit 6 tells letters from digits.
    asm.alu(Op::Right, 6);
    asm.alu(Op::And, 0x0101_0101);
    asm.alu(Op::Mul, 9);
    asm.a_to_x();
    asm.kept(SUM);
    asm.alu(Op::And, 0x0f0f_0f0f);
    asm.alu_x(Op::Add);
    for (shift, mask) in [(4, 0x00ff_00ff), (8, 0xffff)] {
        asm.a_to_x();
        asm.alu(Op::Right, shift);
        asm.alu_x(Op::Or);
        asm.alu(Op::And, mask);
    }
    answer(asm, facts);
    Some(())
}
