//! Programs that the kernel runs for us: their instructions, put together without a toolchain.
//!
//! Owns the encoding (RFC 9669) and the jumps; what a program means is for whoever emits it, loading
//! it for the datapath. Pure: knows maps by number only, and performs no system call.

mod classic;

pub use classic::{Classic, ClassicAssembler, Cond, Filter};

/// A register: `R0` holds results, `R1` to `R5` arguments, which calls destroy, `R6` to `R9` are
/// kept, `R10` points behind the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of registers")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// What an instruction takes in beside its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Another register.
    Reg(Reg),
    /// A number, sign-extended where 64 bits are computed.
    Number(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of operations")]
pub enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Left = 0x60,
    Right = 0x70,
    Neg = 0x80,
    Mod = 0x90,
    Xor = 0xa0,
    Move = 0xb0,
}

/// When a jump is taken; comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of comparisons")]
pub enum If {
    Equal = 0x10,
    Above = 0x20,
    AtLeast = 0x30,
    Differs = 0x50,
    Below = 0xa0,
    AtMost = 0xb0,
}

/// How many bytes are loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of sizes")]
pub enum Size {
    Four = 0x00,
    Two = 0x08,
    One = 0x10,
    Eight = 0x18,
}

/// A place that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A map, by a number that the emitter and the loader agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map(pub u8);

/// A program, ready but for its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    steps: Vec<u64>,
    maps: Vec<(usize, Map)>,
}

impl Program {
    /// The instructions, with the descriptors of the maps put in; none if a map has none.
    #[must_use]
    pub fn linked(&self, descriptor: impl Fn(Map) -> Option<i32>) -> Option<Vec<u64>> {
        let mut steps = self.steps.clone();
        for (at, map) in &self.maps {
            let number = descriptor(*map)?;
            *steps.get_mut(*at)? |= u64::from(number as u32) << 32;
        }
        Some(steps)
    }

    /// How many instructions it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no program is empty")]
    pub fn len(&self) -> usize {
        self.steps.len()
    }
}

/// What gives each datagram of a group of sockets to one of them: programs of both kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// For whoever may load one.
    pub program: Program,
    /// Its map of sockets, by worker.
    pub sockets: Map,
    /// Its scratch, one value a cpu.
    pub scratch: Map,
    /// How long that value is.
    pub scratch_bytes: u32,
    /// For everybody else: answers with the place of a socket in its group.
    pub classic: Classic,
}

const EXIT: u8 = 0x95;
const CALL: u8 = 0x85;
const GO: u8 = 0x05;
const WIDE: u8 = 0x18;
const TO_BIG_ENDIAN: u8 = 0xdc;
/// The operand is a register.
const BY_REG: u8 = 0x08;
/// The number of a wide load is a map's descriptor.
const PSEUDO_MAP: u8 = 1;

/// Puts a program together, one instruction a call.
#[derive(Debug, Default)]
pub struct Assembler {
    steps: Vec<u64>,
    maps: Vec<(usize, Map)>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<Option<usize>>,
}

impl Assembler {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: i16, number: i32) {
        let word = u64::from(code)
            | u64::from(to | from << 4) << 8
            | u64::from(offset as u16) << 16
            | u64::from(number as u32) << 32;
        self.steps.push(word);
    }

    fn with(&mut self, code: u8, to: Reg, operand: Operand, offset: i16) {
        match operand {
            Operand::Reg(from) => self.put(code | BY_REG, to as u8, from as u8, offset, 0),
            Operand::Number(number) => self.put(code, to as u8, 0, offset, number),
        }
    }

    /// Arithmetic in 64 bits: `to = to op operand`.
    pub fn alu(&mut self, op: Op, to: Reg, operand: impl Into<Operand>) {
        self.with(0x07 | op as u8, to, operand.into(), 0);
    }

    /// Arithmetic in 32 bits; the upper half becomes zero.
    pub fn alu32(&mut self, op: Op, to: Reg, operand: impl Into<Operand>) {
        self.with(0x04 | op as u8, to, operand.into(), 0);
    }

    /// A number of 64 bits.
    pub fn wide(&mut self, to: Reg, number: u64) {
        self.put(WIDE, to as u8, 0, 0, number as i32);
        self.put(0, 0, 0, 0, (number >> 32) as i32);
    }

    /// The address of a map, for calls.
    pub fn map(&mut self, to: Reg, map: Map) {
        self.maps.push((self.steps.len(), map));
        self.put(WIDE, to as u8, PSEUDO_MAP, 0, 0);
        self.put(0, 0, 0, 0, 0);
    }

    /// `to` = what lies at `from + offset`.
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.put(0x61 | size as u8, to as u8, from as u8, offset, 0);
    }

    /// What lies at `to + offset` = `from`.
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.put(0x63 | size as u8, to as u8, from as u8, offset, 0);
    }

    /// The lowest 32 or 64 bits of a register as a big-endian number.
    pub fn big_endian(&mut self, reg: Reg, bits: i32) {
        self.put(TO_BIG_ENDIAN, reg as u8, 0, 0, bits);
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

    /// Jumps to `label` if `reg` compares so with the operand, in 64 bits.
    pub fn jump(&mut self, when: If, reg: Reg, operand: impl Into<Operand>, label: Label) {
        self.jumps.push((self.steps.len(), label));
        self.with(0x05 | when as u8, reg, operand.into(), 0);
    }

    /// Jumps to `label`.
    pub fn go(&mut self, label: Label) {
        self.jumps.push((self.steps.len(), label));
        self.put(GO, 0, 0, 0, 0);
    }

    /// Calls a function of the kernel by its number.
    pub fn call(&mut self, function: i32) {
        self.put(CALL, 0, 0, 0, function);
    }

    /// Ends the program with what is in `R0`.
    pub fn exit(&mut self) {
        self.put(EXIT, 0, 0, 0, 0);
    }

    /// The program; none if a label was not bound or lies too far for a jump.
    #[must_use]
    pub fn finish(mut self) -> Option<Program> {
        for (at, label) in self.jumps {
            let place = self.labels.get(label.0).copied().flatten()?;
            let distance = i16::try_from(place as i64 - at as i64 - 1).ok()?;
            *self.steps.get_mut(at)? |= u64::from(distance as u16) << 16;
        }
        Some(Program { steps: self.steps, maps: self.maps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        let mut asm = Assembler::default();
        let end = asm.label();
        asm.alu(Op::Move, Reg::R6, Reg::R1);
        asm.alu32(Op::Add, Reg::R6, -1);
        asm.load(Size::Eight, Reg::R1, Reg::R7, 16);
        asm.store(Size::Four, Reg::R10, -4, Reg::R5);
        asm.jump(If::Equal, Reg::R1, 9, end);
        asm.wide(Reg::R2, 0x1122_3344_5566_7788);
        asm.map(Reg::R1, Map(3));
        asm.big_endian(Reg::R2, 64);
        asm.call(1);
        asm.bind(end);
        asm.exit();
        let linked = asm.finish().unwrap().linked(|map| (map == Map(3)).then_some(7)).unwrap();
        assert_eq!(
            linked,
            [
                0x0000_0000_0000_16bf,
                0xffff_ffff_0000_0604,
                0x0000_0000_0010_7179,
                0x0000_0000_fffc_5a63,
                0x0000_0009_0006_0115,
                0x5566_7788_0000_0218,
                0x1122_3344_0000_0000,
                0x0000_0007_0000_1118,
                0,
                0x0000_0040_0000_02dc,
                0x0000_0001_0000_0085,
                0x0000_0000_0000_0095,
            ]
        );
    }

    #[test]
    fn a_label_that_is_nowhere_or_too_far_gives_no_program() {
        let mut asm = Assembler::default();
        let end = asm.label();
        asm.go(end);
        assert_eq!(asm.finish(), None);
        let mut asm = Assembler::default();
        let end = asm.label();
        asm.go(end);
        (0..40_000).for_each(|_| asm.exit());
        asm.bind(end);
        assert_eq!(asm.finish(), None);
    }

    #[test]
    fn a_map_without_a_descriptor_gives_no_program() {
        let mut asm = Assembler::default();
        asm.map(Reg::R1, Map(0));
        assert_eq!(asm.finish().unwrap().linked(|_| None), None);
    }
}
