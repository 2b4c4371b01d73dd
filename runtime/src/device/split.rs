//! A plan on several devices: ranges of its operations, each a program, one after the other.
//!
//! A step runs through all of them; what one leaves behind for the next (`Plan::crossing`) goes by way of main memory, for a whole
//! batch at once. State lives where its layer runs, so pages are allocated, freed and copied by every program.

use super::{DeviceError, MemoryUse, PickLimits, Program};
use crate::plan::{PageId, Plan, Slot, Step};

/// A slot's values on the way from one program to the next, `(rows, columns)`.
pub type Crossing = (Slot, Vec<f32>);

/// Programs of the parts of a plan.
pub struct Split {
    programs: Vec<Box<dyn Program>>,
    /// Before each program but the first, what crosses over.
    crossings: Vec<Vec<Slot>>,
    /// Which of them have a row only for each wanted row: of no use to a step that wants none.
    outputs_only: Vec<bool>,
}

impl Split {
    /// Programs of the parts that a plan is cut into before these operations.
    pub fn new(plan: &Plan, cuts: &[usize], programs: Vec<Box<dyn Program>>) -> Self {
        assert_eq!(programs.len(), cuts.len() + 1);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        Self {
            programs,
            crossings: cuts.iter().map(|cut| plan.crossing(*cut)).collect(),
            outputs_only: starts.map(|start| start >= plan.first_output_op).collect(),
        }
    }
}

impl Program for Split {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        let mut crossing: Vec<Crossing> = Vec::new();
        for (at, program) in self.programs.iter_mut().enumerate() {
            if step.outputs.is_empty() && self.outputs_only[at] {
                break;
            }
            let leaving = self.crossings.get(at).map_or(&[][..], |slots| slots);
            crossing = program.run_between(step, &crossing, leaving)?;
        }
        Ok(())
    }

    fn pick_limits(&self) -> PickLimits {
        // The last part would have to pick with what enters it.
        PickLimits::default()
    }

    fn output(&self) -> &[f32] {
        self.programs.last().map_or(&[], |program| program.output())
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.programs.iter_mut().try_for_each(|program| program.allocate(group, page))
    }

    fn free(&mut self, group: usize, page: PageId) {
        self.programs.iter_mut().for_each(|program| program.free(group, page));
    }

    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        self.programs.iter_mut().for_each(|program| program.copy(group, from, to));
    }

    fn memory(&self) -> MemoryUse {
        let each = self.programs.iter().map(|program| program.memory());
        each.fold(MemoryUse::default(), |sum, of| MemoryUse {
            state_bytes: sum.state_bytes + of.state_bytes,
            scratch_bytes: sum.scratch_bytes + of.scratch_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::device::Device;
    use crate::device::cpu::Cpu;
    use crate::engine::{Evaluator, Loaded, Wanted};
    use crate::kernels;
    use crate::plan::CacheTypes;
    use crate::session::ModelSource;
    use crate::session::open::plan_of;

    #[test]
    fn parts_give_the_bits_of_the_whole() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/stories260K-f32.v3.gguf"));
        let source = ModelSource::open(Some(&path)).expect("it opens");
        let plan = plan_of(&source, None).expect("it is a model");
        let cpu = Cpu::new(kernels::best(), 1, CacheTypes::default());
        let logits = |cuts: &[usize]| {
            let starts = std::iter::once(0).chain(cuts.iter().copied());
            let ranges = starts.zip(cuts.iter().copied().chain([plan.ops.len()]));
            let programs = ranges.map(|(start, end)| {
                let part = plan.part(start..end);
                cpu.load(&part, 0..part.ops.len(), &source.mapped_parts()).expect("it is loaded")
            });
            let program = Box::new(Split::new(&plan, cuts, programs.collect()));
            let mut evaluator = Evaluator::new(Loaded { plan: plan.clone(), program }, 80);
            let mut found = Vec::new();
            // More than a page, in steps of several sizes.
            for (chunk, wanted) in [(40, Wanted::Last), (30, Wanted::Last), (1, Wanted::All), (5, Wanted::All)] {
                let tokens: Vec<u32> = (0..chunk).map(|at| 30 + at * 7 % 300).collect();
                found.extend_from_slice(evaluator.append(&tokens, wanted).expect("it runs"));
            }
            found
        };
        let (whole, layers) = (logits(&[]), plan.layers());
        for cuts in [vec![layers[0]], vec![layers[2]], vec![plan.first_output_op], vec![layers[1], layers[3]]] {
            assert!(logits(&cuts) == whole, "cuts at {cuts:?}");
        }
    }
}
