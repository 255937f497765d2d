//! Classic BPF: the older kind of program, which needs no capability to attach.
//!
//! One accumulator of 32 bits, an index register, sixteen words of store; jumps lead forward only, and
//! conditional ones at most 255 instructions far. Loads beyond the datagram end the program with 0.

use super::Label;

/// One instruction, as the kernel takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    /// What it does.
    pub code: u16,
    /// How many instructions are passed over if its condition holds.
    pub holds: u8,
    /// And if it does not.
    pub fails: u8,
    /// Its number.
    pub number: u32,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classic {
    steps: Vec<Filter>,
}

impl Classic {
    /// Its instructions.
    #[must_use]
    pub fn steps(&self) -> &[Filter] {
        &self.steps
    }
}

/// Conditions on the accumulator, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of comparisons")]
pub enum Cond {
    Equal = 0x15,
    Above = 0x25,
    AtLeast = 0x35,
}

/// Which of an instruction's ways leads to a label.
#[derive(Clone, Copy, Debug)]
enum Way {
    Always,
    Holds,
    Fails,
}

/// Puts a program together. `a` is the accumulator, `x` the index register.
#[derive(Debug, Default)]
pub struct ClassicAssembler {
    steps: Vec<Filter>,
    jumps: Vec<(usize, Way, Label)>,
    labels: Vec<Option<usize>>,
}

impl ClassicAssembler {
    fn put(&mut self, code: u16, number: u32) {
        self.steps.push(Filter { code, number, ..Filter::default() });
    }

    /// a = four bytes at `at`, the first highest.
    pub fn word(&mut self, at: u32) {
        self.put(0x20, at);
    }

    /// a = four bytes at x + `at`, the first highest.
    pub fn word_from_x(&mut self, at: u32) {
        self.put(0x40, at);
    }

    /// a = the byte at x + `at`.
    pub fn byte_from_x(&mut self, at: u32) {
        self.put(0x50, at);
    }

    /// a = the datagram's length.
    pub fn length(&mut self) {
        self.put(0x80, 0);
    }

    /// a = `number`.
    pub fn number(&mut self, number: u32) {
        self.put(0x00, number);
    }

    /// x = `number`.
    pub fn number_to_x(&mut self, number: u32) {
        self.put(0x01, number);
    }

    /// Word `place` of the store = a.
    pub fn keep(&mut self, place: u32) {
        self.put(0x02, place);
    }

    /// a = word `place` of the store.
    pub fn kept(&mut self, place: u32) {
        self.put(0x60, place);
    }

    /// x = word `place` of the store.
    pub fn kept_to_x(&mut self, place: u32) {
        self.put(0x61, place);
    }

    /// x = a.
    pub fn a_to_x(&mut self) {
        self.put(0x07, 0);
    }

    /// a = x.
    pub fn x_to_a(&mut self) {
        self.put(0x87, 0);
    }

    /// a = a op `number`.
    pub fn alu(&mut self, op: super::Op, number: u32) {
        self.put(0x04 | op as u16, number);
    }

    /// a = a op x.
    pub fn alu_x(&mut self, op: super::Op) {
        self.put(0x0c | op as u16, 0);
    }

    /// Ends with a.
    pub fn answer(&mut self) {
        self.put(0x16, 0);
    }

    /// Ends with `number`.
    pub fn answer_number(&mut self, number: u32) {
        self.put(0x06, number);
    }

    /// A place to be bound later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The place of `label` is here.
    pub fn bind(&mut self, label: Label) {
        let here = self.steps.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    /// Jumps to `label`, however far.
    pub fn go(&mut self, label: Label) {
        self.jumps.push((self.steps.len(), Way::Always, label));
        self.put(0x05, 0);
    }

    /// Jumps to `label` if a compares so with `number`.
    pub fn jump(&mut self, when: Cond, number: u32, label: Label) {
        self.jumps.push((self.steps.len(), Way::Holds, label));
        self.put(when as u16, number);
    }

    /// Jumps to `label` if it does not.
    pub fn jump_unless(&mut self, when: Cond, number: u32, label: Label) {
        self.jumps.push((self.steps.len(), Way::Fails, label));
        self.put(when as u16, number);
    }

    /// The program; none if a label was not bound, lies behind its jump, or too far ahead.
    #[must_use]
    pub fn finish(mut self) -> Option<Classic> {
        for (at, way, label) in self.jumps {
            let place = self.labels.get(label.0).copied().flatten()?;
            let distance = place.checked_sub(at + 1)?;
            let step = self.steps.get_mut(at)?;
            match way {
                Way::Always => step.number = u32::try_from(distance).ok()?,
                Way::Holds => step.holds = u8::try_from(distance).ok()?,
                Way::Fails => step.fails = u8::try_from(distance).ok()?,
            }
        }
        Some(Classic { steps: self.steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_the_instructions_that_they_pass_over() {
        let mut asm = ClassicAssembler::default();
        let (end, far) = (asm.label(), asm.label());
        asm.word(4);
        asm.jump(Cond::Equal, 9, end);
        asm.jump_unless(Cond::Above, 3, end);
        asm.go(far);
        asm.bind(end);
        asm.answer();
        asm.bind(far);
        asm.answer_number(1);
        let step = |code, holds, fails, number| Filter { code, holds, fails, number };
        assert_eq!(
            asm.finish().unwrap().steps(),
            [
                step(0x20, 0, 0, 4),
                step(0x15, 2, 0, 9),
                step(0x25, 0, 1, 3),
                step(0x05, 0, 0, 1),
                step(0x16, 0, 0, 0),
                step(0x06, 0, 0, 1)
            ]
        );
    }

    #[test]
    fn a_label_behind_its_jump_or_too_far_ahead_gives_no_program() {
        let mut asm = ClassicAssembler::default();
        let back = asm.label();
        asm.bind(back);
        asm.go(back);
        assert_eq!(asm.finish(), None);
        let mut asm = ClassicAssembler::default();
        let end = asm.label();
        asm.jump(Cond::Equal, 0, end);
        (0..256).for_each(|_| asm.answer());
        asm.bind(end);
        assert_eq!(asm.finish(), None);
    }
}
