//! Which loops are laid out several times in a row, so that one check serves several rounds.
//!
//! In a loop of a few instructions a check in every round is a good part of the work. Such a loop becomes one whose body is there up to
//! [`MOST_COPIES`] times: the way back to the start of a round leads to the next copy, and only that of the last one to the check. What a round does and
//! in which order is as it was.
//!
//! Only where it pays: not where the loop calls or moves many bytes, which takes longer than a check by far, and not in functions that are large already,
//! since code that is made larger takes longer to compile.

use std::collections::HashMap;

use wasmparser::{BlockType, Operator};

/// Copies of a loop's body, at most.
const MOST_COPIES: u32 = 4;

/// Instructions of all copies together, at most.
const MOST_INSTRUCTIONS: u32 = 256;

/// Bytes of a function's body from which its loops stay as they are.
const LARGE: usize = 64 << 10;

/// Loops of a function from which those that contain others stay as they are: so the checks of all copies have addresses enough
/// (see [`SITES`](super::SITES)), since one loop laid out has no more than [`MOST_INSTRUCTIONS`] of them.
const MANY: usize = super::SITES / MOST_INSTRUCTIONS as usize;

/// A loop that is laid out more than once.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    /// The index of the instruction that ends the loop.
    pub(super) end: usize,
    pub(super) copies: u32,
}

/// A block that is open.
#[derive(Default)]
struct Open {
    /// Where it starts, if it is a loop that hands no values from round to round: they would have to be handed from copy to copy.
    start: Option<usize>,
    is_loop: bool,
    /// Whether something in it takes longer than a check by far.
    long: bool,
    /// Instructions so far, with inner loops as often as they are laid out.
    size: u32,
    /// Loops so far.
    inner: usize,
}

/// The loops of a function to lay out more than once, by the index of the instruction that starts each.
///
/// `parameters` tells how many values a block of this type takes.
pub(super) fn plan(
    operators: &[Operator<'_>],
    bytes: usize,
    parameters: impl Fn(&BlockType) -> u32,
) -> HashMap<usize, Rounds> {
    let mut plan = HashMap::new();
    if bytes > LARGE {
        return plan;
    }
    let is_loop = |operator: &&Operator<'_>| matches!(operator, Operator::Loop { .. });
    let many = operators.iter().filter(is_loop).count() > MANY;
    // The function itself is the outermost block.
    let mut open = vec![Open::default()];
    for (index, operator) in operators.iter().enumerate() {
        let Some(top) = open.last_mut() else {
            break;
        };
        match operator {
            Operator::Block { .. } | Operator::If { .. } => open.push(Open::default()),
            Operator::Loop { blockty } => open.push(Open {
                start: Some(index).filter(|_| parameters(blockty) == 0),
                is_loop: true,
                ..Open::default()
            }),
            Operator::End => {
                let Some(mut block) = open.pop() else {
                    break;
                };
                // The loop's own instruction, and so never none.
                block.size += 1;
                if let Some(start) = block.start.filter(|_| !block.long)
                    && (block.inner == 0 || !many)
                {
                    let copies = (MOST_INSTRUCTIONS / block.size).min(MOST_COPIES);
                    if copies > 1 {
                        plan.insert(start, Rounds { end: index, copies });
                        block.size *= copies;
                    }
                }
                if let Some(outer) = open.last_mut() {
                    outer.long |= block.long;
                    outer.size += block.size;
                    outer.inner += block.inner + usize::from(block.is_loop);
                }
            }
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::MemoryGrow { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableGrow { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. } => top.long = true,
            _ => top.size += 1,
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each loop of the only function, in order, how often it is laid out.
    fn copies(body: &str) -> Vec<u32> {
        let text = format!("(module (memory 1) (func $f (param $i i32) {body}))");
        let bytes = wat::parse_str(&text).unwrap();
        let body = wasmparser::Parser::new(0)
            .parse_all(&bytes)
            .find_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CodeSectionEntry(body) => Some(body),
                _ => None,
            })
            .unwrap();
        let operators: Vec<_> = body
            .get_operators_reader()
            .unwrap()
            .into_iter()
            .collect::<wasmparser::Result<_>>()
            .unwrap();
        let plan = plan(&operators, body.as_bytes().len(), |ty| {
            u32::from(matches!(ty, BlockType::FuncType(_)))
        });
        let loops = operators
            .iter()
            .enumerate()
            .filter(|(_, operator)| matches!(operator, Operator::Loop { .. }));
        loops
            .map(|(index, _)| plan.get(&index).map_or(1, |rounds| rounds.copies))
            .collect()
    }

    #[test]
    fn short_loops_are_laid_out_and_long_ones_are_not() {
        let short = "(loop $l (br_if $l (i32.load (local.get $i))))";
        assert_eq!(copies(short), [MOST_COPIES]);
        let work = "(local.set $i (i32.add (local.get $i) (i32.const 1)))";
        assert_eq!(copies(&format!("(loop {})", work.repeat(20))), [3]);
        assert_eq!(copies(&format!("(loop {})", work.repeat(40))), [1]);
        assert_eq!(
            copies(&format!("(loop $o {short} (br $o))")),
            [MOST_COPIES, MOST_COPIES]
        );
        // All loops of a nest together are what may be so large.
        let nest = format!("(loop {short} {} )", work.repeat(20));
        assert_eq!(copies(&nest), [2, MOST_COPIES]);
    }

    #[test]
    fn what_takes_long_anyway_stays_as_it_is() {
        let short = "(loop $l (br_if $l (i32.load (local.get $i))))";
        assert_eq!(copies("(loop $l (call $f (i32.const 1)) (br $l))"), [1]);
        assert_eq!(
            copies(&format!(
                "(loop $l (block {short} (call $f (i32.const 1))))"
            )),
            [1, MOST_COPIES],
            "what is around a call"
        );
        assert_eq!(
            copies("(i32.const 1) (loop $l (param i32) (br $l (i32.const 1)))"),
            [1],
            "values are handed on"
        );
        let many = short.repeat(LARGE / 6);
        assert!(copies(&many).iter().all(|&copies| copies == 1), "large");
    }
}
