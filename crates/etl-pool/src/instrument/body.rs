//! One function's body, rewritten.
//!
//! Labels move where a loop is laid out more than once: there each copy of the body but the last is a block of its own inside the loop, all of it
//! inside a block that is left where the loop is. So each block that is open in the source knows how deep it lies in what is written.
//!
//! ```text
//! loop $l A (br_if $l) B end     block $out
//!                                  loop $l  check
//!                                    block $1 A (br_if $1) B (br $out) end
//!                                    …
//!                                    A (br_if $l) B
//!                                end end
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BlockType, Function, Instruction as I, ValType};
use wasmparser::{FunctionBody, Operator};

use super::bulk::{Bulk, in_chunks, keep};
use super::checks::{Checks, Work};
use super::headroom;
use super::notes::{note, note_drop, note_range};
use super::rounds::{self, Rounds};
use super::sites::Sites;
use super::stored::{Stored, store};
use super::{Result, Rewriter};

/// A body on its way.
pub(super) struct Body<'a, 'b> {
    rewriter: &'a mut Rewriter,
    operators: Vec<Operator<'b>>,
    /// Loops that are laid out more than once, by the index of the instruction that starts each.
    rounds: HashMap<usize, Rounds>,
    /// For each block that is open in the source, how many blocks are around it in what is written; the function itself is the first.
    labels: Vec<u32>,
    checks: Checks,
    sites: Sites,
    f: Function,
    /// Locals for the operands of a bulk instruction.
    operands: [u32; 3],
    /// Locals for an address, and behind it for a value of each type that may be stored.
    address: u32,
}

impl<'a, 'b> Body<'a, 'b> {
    /// The body of a function with so many parameters.
    pub(super) fn rewrite(
        rewriter: &'a mut Rewriter,
        parameters: u32,
        body: &FunctionBody<'b>,
    ) -> Result<Function> {
        let operators = body
            .get_operators_reader()?
            .into_iter()
            .collect::<wasmparser::Result<Vec<_>>>()?;
        let mut locals = Vec::new();
        // Behind the function's own locals: three for the operands of a bulk instruction, then one for an address and one for each
        // type that may be stored.
        let mut first = parameters;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            first += count;
            locals.push((count, rewriter.val_type(ty)?));
        }
        let operands = [first, first + 1, first + 2];
        if operators.iter().any(is_memory_bulk) {
            locals.push((3, ValType::I32));
            first += 3;
        }
        if rewriter.seen && operators.iter().any(|operator| store(operator).is_some()) {
            locals.push((1, ValType::I32));
            locals.extend(Stored::TYPES.map(|ty| (1, ty)));
        }
        let rounds = rounds::plan(&operators, body.as_bytes().len(), |ty| match ty {
            wasmparser::BlockType::FuncType(index) => rewriter.parameters[*index as usize],
            _ => 0,
        });
        let mut this = Self {
            rewriter,
            rounds,
            labels: vec![0],
            checks: Checks::new(),
            sites: Sites::default(),
            f: Function::new(locals),
            operands,
            address: first,
            operators,
        };
        this.emit(0..this.operators.len())?;
        Ok(this.f)
    }

    fn emit(&mut self, range: Range<usize>) -> Result {
        let mut index = range.start;
        while index < range.end {
            if let Some(&rounds) = self.rounds.get(&index) {
                self.laid_out(index, rounds)?;
                index = rounds.end + 1;
            } else {
                self.one(self.operators[index].clone())?;
                index += 1;
            }
        }
        Ok(())
    }

    /// A loop whose body is there several times.
    fn laid_out(&mut self, start: usize, rounds: Rounds) -> Result {
        let I::Loop(results) = self.rewriter.instruction(self.operators[start].clone())? else {
            return Ok(());
        };
        let out = self.open(&I::Block(results));
        let header = self.looped(&I::Loop(results));
        let body = start + 1..rounds.end;
        for _ in 1..rounds.copies {
            let next = self.open(&I::Block(BlockType::Empty));
            self.labels.push(next);
            self.emit(body.clone())?;
            self.labels.pop();
            self.f.instruction(&I::Br(self.checks.depth() - 1 - out));
            self.checks.branch(out);
            self.checks.leave();
            self.close();
        }
        self.labels.push(header);
        self.emit(body)?;
        self.labels.pop();
        self.close();
        self.close();
        Ok(())
    }

    /// Opens a block and says how many are around it.
    fn open(&mut self, instruction: &I<'_>) -> u32 {
        let depth = self.checks.depth();
        self.f.instruction(instruction);
        self.checks.block(matches!(instruction, I::If(_)));
        depth
    }

    /// Opens a loop, the same way.
    fn looped(&mut self, instruction: &I<'_>) -> u32 {
        let depth = self.checks.depth();
        self.f.instruction(instruction);
        self.sites.in_loop(&mut self.f);
        self.checks.looped();
        depth
    }

    fn close(&mut self) {
        self.f.instruction(&I::End);
        self.checks.end();
    }

    /// Where a branch of the source leads: as it is written, after a note that it leads there.
    fn branch(&mut self, relative: u32) -> u32 {
        let target = self.labels[self.labels.len() - 1 - relative as usize];
        self.checks.branch(target);
        self.checks.depth() - 1 - target
    }

    fn one(&mut self, operator: Operator<'b>) -> Result {
        if self.checks.before(work(&operator)) {
            self.sites.elsewhere(&mut self.f);
        }
        headroom::before(&mut self.f, &operator, self.rewriter.headroom_helper());
        match operator {
            Operator::Block { .. } | Operator::If { .. } => {
                let instruction = self.rewriter.instruction(operator)?;
                let depth = self.open(&instruction);
                self.labels.push(depth);
            }
            Operator::Loop { .. } => {
                let instruction = self.rewriter.instruction(operator)?;
                let depth = self.looped(&instruction);
                self.labels.push(depth);
            }
            Operator::Else => {
                self.checks.otherwise();
                self.f.instruction(&I::Else);
            }
            Operator::End => {
                self.labels.pop();
                self.close();
            }
            Operator::Br { relative_depth } => {
                let depth = self.branch(relative_depth);
                self.f.instruction(&I::Br(depth));
                self.checks.leave();
            }
            Operator::BrIf { relative_depth } => {
                let depth = self.branch(relative_depth);
                self.f.instruction(&I::BrIf(depth));
            }
            Operator::BrTable { targets } => {
                let default = self.branch(targets.default());
                let mut depths = Vec::with_capacity(targets.len() as usize);
                for target in targets.targets() {
                    depths.push(self.branch(target?));
                }
                self.f.instruction(&I::BrTable(Cow::Owned(depths), default));
                self.checks.leave();
            }
            Operator::Return | Operator::Unreachable => {
                self.f.instruction(&self.rewriter.instruction(operator)?);
                self.checks.leave();
            }
            Operator::MemoryCopy { .. } => self.bulk(&Bulk::Copy, self.rewriter.copy_helper()),
            Operator::MemoryFill { .. } => self.bulk(&Bulk::Fill, self.rewriter.fill_helper()),
            Operator::MemoryInit { data_index, .. } => {
                if let Some((init, helper)) = self.rewriter.init_helper(data_index) {
                    self.bulk(&init, helper);
                } else if self.rewriter.seen {
                    keep(&mut self.f, self.operands);
                    self.f.instruction(&self.rewriter.instruction(operator)?);
                    note_range(&mut self.f, self.operands[0], self.operands[2]);
                } else {
                    self.f.instruction(&self.rewriter.instruction(operator)?);
                }
            }
            Operator::DataDrop { .. } | Operator::ElemDrop { .. } if self.rewriter.seen => {
                note_drop(&mut self.f);
                self.f.instruction(&self.rewriter.instruction(operator)?);
            }
            other => match store(&other).filter(|_| self.rewriter.seen) {
                Some((offset, ty)) => {
                    let value = self.address + 1 + ty as u32;
                    self.f
                        .instruction(&I::LocalSet(value))
                        .instruction(&I::LocalTee(self.address))
                        .instruction(&I::LocalGet(value))
                        .instruction(&self.rewriter.instruction(other)?);
                    note(&mut self.f, self.address, offset);
                }
                None => {
                    self.f.instruction(&self.rewriter.instruction(other)?);
                }
            },
        }
        Ok(())
    }

    fn bulk(&mut self, bulk: &Bulk, helper: u32) {
        in_chunks(&mut self.f, bulk, helper, self.rewriter.seen, self.operands);
    }
}

/// Whether its operands need locals.
fn is_memory_bulk(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } | Operator::MemoryInit { .. }
    )
}

fn work(operator: &Operator<'_>) -> Work {
    match operator {
        Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End => {
            Work::None
        }
        Operator::Call { .. } | Operator::CallIndirect { .. } => Work::Call,
        Operator::MemoryGrow { .. }
        | Operator::TableGrow { .. }
        | Operator::TableCopy { .. }
        | Operator::TableFill { .. }
        | Operator::TableInit { .. } => Work::Bulk,
        operator if is_memory_bulk(operator) => Work::Bulk,
        _ => Work::Plain,
    }
}
