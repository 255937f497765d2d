//! Instructions of the kernel's virtual machine (eBPF), written down one by one.
//!
//! Owns the list and the jumps whose targets come later; used by `program`, which knows what is to be
//! done. Nothing is optimised, and what is wrong is found by the kernel's verifier.

use std::io;

/// A register, 0 to 10; 10 is the stack's end, 1 to 5 are arguments and lost by a call.
#[derive(Clone, Copy)]
pub(super) struct Reg(pub(super) u8);

/// Bytes of one load or store.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Width {
    Four = 0x00,
    Two = 0x08,
    One = 0x10,
    Eight = 0x18,
}

/// When a jump is taken, comparing unsigned.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum When {
    Equal = 0x10,
    Above = 0x20,
    AtLeast = 0x30,
    NotEqual = 0x50,
}

/// A place that jumps lead to.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

const CLASS_LOAD: u8 = 0x61;
const CLASS_STORE_REG: u8 = 0x63;
const CLASS_STORE_VALUE: u8 = 0x62;
const ADD_VALUE: u8 = 0x07;
const AND_VALUE: u8 = 0x57;
const MOVE_VALUE: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const JUMP: u8 = 0x05;
const JUMP_VALUE: u8 = 0x05;
const JUMP_REG: u8 = 0x0d;
const LOAD_WIDE: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In a wide load: the value is a map's descriptor.
const OF_MAP: u8 = 1;

/// A program in the making.
#[derive(Default)]
pub(super) struct Assembly {
    instructions: Vec<u64>,
    /// By label: where it stands.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembly {
    /// A place that is still to be [`Assembly::here`].
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// `label` stands in front of the next instruction.
    pub(super) fn here(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.instructions.len());
        }
    }

    pub(super) fn load(&mut self, width: Width, to: Reg, from: Reg, offset: i16) {
        self.emit(CLASS_LOAD | width as u8, to, from, offset, 0);
    }

    pub(super) fn store(&mut self, width: Width, to: Reg, offset: i16, from: Reg) {
        self.emit(CLASS_STORE_REG | width as u8, to, from, offset, 0);
    }

    pub(super) fn store_value(&mut self, width: Width, to: Reg, offset: i16, value: i32) {
        self.emit(CLASS_STORE_VALUE | width as u8, to, Reg(0), offset, value);
    }

    pub(super) fn copy(&mut self, to: Reg, from: Reg) {
        self.emit(MOVE_REG, to, from, 0, 0);
    }

    pub(super) fn set(&mut self, to: Reg, value: i32) {
        self.emit(MOVE_VALUE, to, Reg(0), 0, value);
    }

    pub(super) fn add(&mut self, to: Reg, value: i32) {
        self.emit(ADD_VALUE, to, Reg(0), 0, value);
    }

    pub(super) fn and(&mut self, to: Reg, value: i32) {
        self.emit(AND_VALUE, to, Reg(0), 0, value);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JUMP, Reg(0), Reg(0), 0, 0);
    }

    pub(super) fn jump_if(&mut self, left: Reg, when: When, right: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JUMP_VALUE | when as u8, left, Reg(0), 0, right);
    }

    pub(super) fn jump_if_reg(&mut self, left: Reg, when: When, right: Reg, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JUMP_REG | when as u8, left, right, 0, 0);
    }

    /// Loads a map, by its descriptor.
    pub(super) fn map(&mut self, to: Reg, descriptor: i32) {
        self.emit(LOAD_WIDE, to, Reg(OF_MAP), 0, descriptor);
        self.emit(0, Reg(0), Reg(0), 0, 0);
    }

    /// Calls a function of the kernel; the answer is in register 0.
    pub(super) fn call(&mut self, function: i32) {
        self.emit(CALL, Reg(0), Reg(0), 0, function);
    }

    pub(super) fn exit(&mut self) {
        self.emit(EXIT, Reg(0), Reg(0), 0, 0);
    }

    /// The instructions, with all jumps led to their labels.
    pub(super) fn finish(mut self) -> io::Result<Vec<u64>> {
        for (at, label) in self.jumps {
            let target = self.labels.get(label.0).copied().flatten();
            let distance = target.and_then(|target| target.checked_sub(at + 1));
            let distance = distance.and_then(|distance| i16::try_from(distance).ok());
            let (Some(distance), Some(instruction)) = (distance, self.instructions.get_mut(at)) else {
                return Err(io::Error::other("a jump that leads back, too far or nowhere"));
            };
            *instruction |= u64::from(distance as u16) << 16;
        }
        Ok(self.instructions)
    }

    fn emit(&mut self, code: u8, to: Reg, from: Reg, offset: i16, value: i32) {
        let registers = u64::from(to.0 | from.0 << 4);
        let (offset, value) = (u64::from(offset as u16), u64::from(value as u32));
        self.instructions.push(u64::from(code) | registers << 8 | offset << 16 | value << 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_forward_to_their_labels_and_nowhere_else() {
        let mut code = Assembly::default();
        let end = code.label();
        code.jump_if(Reg(1), When::Equal, 7, end);
        code.set(Reg(0), 1);
        code.here(end);
        code.exit();
        assert_eq!(code.finish().unwrap(), [0x0000_0007_0001_0115, 0x0000_0001_0000_00b7, 0x95]);
        for back in [true, false] {
            let mut code = Assembly::default();
            let label = code.label();
            if back {
                code.here(label);
            }
            code.exit();
            code.jump(label);
            assert!(code.finish().is_err());
        }
    }
}
