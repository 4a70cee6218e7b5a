//! One function's body: capped while it is validated.
//!
//! How long the compiler takes over a function, and how much memory, is not told by its length. Twelve kilobytes of loops, one inside the
//! other, that set many locals in the innermost keep it busy for minutes: at the head of each loop, and wherever a block ends, a local that
//! was used inside may become a value of its own, and putting the values of one local together again takes the square of their number. So
//! it is counted what may become blocks and values, before the compiler makes them.

use wasmparser::{
    FuncToValidate, FuncValidatorAllocations, FunctionBody, ModuleArity, Operator,
    ValidatorResources,
};

use super::{Vetting, invalid, within};
use crate::error::PoolError;
use crate::instrument::SITES;

impl Vetting<'_> {
    /// The next function.
    pub(super) fn body(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        allocations: FuncValidatorAllocations,
    ) -> Result<FuncValidatorAllocations, PoolError> {
        let caps = self.caps;
        let index = self.facts.functions;
        self.facts.functions += 1;
        // Asked several times for each instruction, so the text is made only where it is told.
        let cap = |what: &str, count: usize, cap: usize| {
            if count <= cap {
                return Ok(());
            }
            within(&format!("{what} in function {index}"), count, cap)
        };
        cap("bytes", body.as_bytes().len(), caps.body_bytes)?;
        let mut validator = function.into_validator(allocations);
        let mut locals = validator.len_locals() as usize;
        for group in body.get_locals_reader().map_err(invalid)? {
            locals = locals.saturating_add(group.map_err(invalid)?.0 as usize);
            cap("parameters and locals", locals, caps.locals)?;
        }
        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader).map_err(invalid)?;
        let mut operators = body.get_operators_reader().map_err(invalid)?;
        let (mut loops, mut branches, mut targets) = (0, 0, 0);
        let (mut block_values, mut call_values) = (0, 0);
        let mut joins = Joins::new(locals);
        // Beyond this the leash has no address left for another check.
        let most_loops = caps.loops.min(SITES - 1);
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
            // What an instruction takes and leaves is told by the blocks that are open before it.
            let values = values(&operator, &validator);
            // Validating a table takes each target with all its values.
            if let Operator::BrTable { targets: table } = &operator {
                targets += table.len() as usize;
                cap("branch targets", targets, caps.branch_targets)?;
            }
            validator.op(offset, &operator).map_err(invalid)?;
            match &operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    branches += 1;
                    loops += usize::from(matches!(operator, Operator::Loop { .. }));
                    cap("loops", loops, most_loops)?;
                    block_values += values;
                    joins.open();
                    let height = validator.control_stack_height() as usize;
                    cap("nested blocks", height, caps.nesting)?;
                }
                Operator::End => {
                    block_values += values;
                    joins.close();
                }
                Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } | Operator::Return => {
                    branches += 1;
                    block_values += values;
                }
                Operator::BrTable { targets: table } => {
                    branches += 1;
                    block_values += values * (1 + table.len() as usize);
                }
                Operator::Call { .. } | Operator::CallIndirect { .. } => call_values += values,
                Operator::LocalGet { local_index }
                | Operator::LocalSet { local_index }
                | Operator::LocalTee { local_index } => joins.used(*local_index, branches),
                // The rewriting makes blocks of it: a short one is done where it stands, a long one in chunks.
                Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::MemoryInit { .. } => branches += BULK_BRANCHES,
                Operator::TableGrow { .. } => {
                    self.facts.changes_tables = true;
                    self.grows_tables = true;
                }
                Operator::TableSet { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. } => self.facts.changes_tables = true,
                _ => {}
            }
            cap("blocks and branches", branches, caps.branches)?;
            cap(
                "values at blocks and branches",
                block_values,
                caps.block_values,
            )?;
            cap("values at calls", call_values, caps.call_values)?;
            cap("uses of locals across blocks", joins.pairs, caps.joins)?;
            cap(
                "uses of one local with another",
                joins.squares,
                caps.join_squares,
            )?;
            cap(
                "blocks and branches that locals are kept over",
                joins.kept,
                caps.kept,
            )?;
        }
        operators.finish().map_err(invalid)?;
        Ok(validator.into_allocations())
    }
}

/// Blocks and branches that one `memory.copy`, `memory.fill` or `memory.init` becomes.
const BULK_BRANCHES: usize = 3;

/// How many values an instruction takes and leaves, without the condition or index that it looks at itself.
fn values(operator: &Operator<'_>, module: &impl ModuleArity) -> usize {
    let own = match operator {
        Operator::If { .. }
        | Operator::BrIf { .. }
        | Operator::BrTable { .. }
        | Operator::CallIndirect { .. } => 1,
        Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Else
        | Operator::End
        | Operator::Br { .. }
        | Operator::Return
        | Operator::Call { .. } => 0,
        _ => return 0,
    };
    // Of an instruction that is not valid nothing need be known: it is refused next.
    let (taken, left) = operator.operator_arity(module).unwrap_or_default();
    (taken + left).saturating_sub(own) as usize
}

/// Counts the pairs of a block and a local that is used in it, or in a block inside it.
struct Joins {
    /// When each block that is open was opened, outermost first.
    opened: Vec<u32>,
    /// When each local was used last, and how many pairs it is in.
    locals: Vec<(u32, usize)>,
    now: u32,
    pairs: usize,
    /// The squares of each local's pairs, all together.
    squares: usize,
    /// How many blocks and branches each local has been used behind, and that for all of them together.
    reach: Vec<usize>,
    kept: usize,
}

impl Joins {
    fn new(locals: usize) -> Self {
        Self {
            opened: Vec::new(),
            locals: vec![(0, 0); locals],
            now: 0,
            pairs: 0,
            squares: 0,
            reach: vec![0; locals],
            kept: 0,
        }
    }

    fn open(&mut self) {
        self.now += 1;
        self.opened.push(self.now);
    }

    fn close(&mut self) {
        self.opened.pop();
    }

    /// A block that is open, and was so when the local was used last, has been counted with it already.
    ///
    /// The compiler walks back over all blocks between two uses, wherever they stand, and remembers at each which value the local has.
    fn used(&mut self, local: u32, branches: usize) {
        let reach = &mut self.reach[local as usize];
        self.kept += branches - *reach;
        *reach = branches;
        let (last, pairs) = &mut self.locals[local as usize];
        let counted = self.opened.partition_point(|opened| opened <= last);
        let new = self.opened.len() - counted;
        *last = self.now;
        self.squares += new * (2 * *pairs + new);
        *pairs += new;
        self.pairs += new;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open,
        Close,
        Use(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Open),
            Just(Step::Close),
            (0..4u32).prop_map(Step::Use)
        ]
    }

    proptest! {
        #[test]
        fn pairs_are_counted_once_each(steps in prop::collection::vec(step(), 0..200)) {
            let mut joins = Joins::new(4);
            let mut blocks = 0;
            let mut open = Vec::new();
            let mut pairs: HashSet<(usize, u32)> = HashSet::new();
            let mut reach = [0; 4];
            for step in steps {
                match step {
                    Step::Open => {
                        joins.open();
                        open.push(blocks);
                        blocks += 1;
                    }
                    Step::Close => {
                        joins.close();
                        open.pop();
                    }
                    Step::Use(local) => {
                        joins.used(local, blocks);
                        reach[local as usize] = blocks;
                        pairs.extend(open.iter().map(|&block| (block, local)));
                    }
                }
            }
            let of = |local| pairs.iter().filter(|(_, other)| *other == local).count();
            prop_assert_eq!(joins.pairs, pairs.len());
            prop_assert_eq!(joins.kept, reach.iter().sum::<usize>());
            prop_assert_eq!(joins.squares, (0..4).map(|local| of(local).pow(2)).sum::<usize>());
        }
    }
}
