//! A step as the shaders see it: `Step` of `shaders/common.wgsl`.

use satchel_gpu::Extent;

use crate::plan::Step;

/// Words of its header.
const HEADER: usize = 9;

/// What stands for a page that a window has passed; nothing looks there.
const PASSED: u32 = 0;

/// The size of a step; `matrices`: prompts are multiplied by cooperative matrices.
pub(super) fn extent(step: &Step, matrices: bool) -> Extent {
    Extent {
        tokens: step.len(),
        lanes: if matrices { step.answers } else { step.len() },
        wanted: step.outputs.len(),
        seen: step.positions.iter().max().map_or(0, |position| position + 1),
    }
}

/// The words of a step of this size over a state of `groups` groups.
pub(super) fn words(step: &Step, of: Extent, groups: usize) -> Vec<u32> {
    let mut data: Vec<u32> = step.positions.iter().map(|at| *at as u32).collect();
    let sequences = data.len();
    data.extend(step.sequences.iter().map(|at| *at as u32));
    let wanted = data.len();
    data.extend(step.outputs.iter().map(|at| *at as u32));
    let tables = data.len();
    data.resize(tables + groups * step.states.len(), 0);
    for group in 0..groups {
        for (sequence, pages) in step.states.iter().enumerate() {
            data[tables + group * step.states.len() + sequence] = data.len() as u32;
            data.extend(pages[group].iter().map(|page| page.unwrap_or(PASSED)));
        }
    }
    let adapters = data.len();
    for sequence in 0..step.states.len() {
        let set = step.adapters.get(sequence).map_or(0, |set| set.number());
        data.extend([set as u32, (set >> 32) as u32]);
    }
    let header: [usize; HEADER] =
        [of.tokens, of.wanted, 0, sequences, wanted, tables, step.states.len(), adapters, of.lanes];
    header.into_iter().map(|word| word as u32).chain(data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::AdapterSet;

    #[test]
    fn lists_of_pages_are_found_by_group_and_sequence() {
        let mut step = Step::default();
        step.push(5, 70, 0);
        step.push(6, 3, 1);
        step.outputs = vec![1];
        step.adapters = vec![AdapterSet::default(), AdapterSet::one(2).with(AdapterSet::one(35))];
        step.states = vec![vec![vec![Some(4), Some(9)], vec![None, Some(2)]], vec![vec![Some(7)], vec![Some(1)]]];
        step.answers = 1;
        let words = words(&step, extent(&step, true), 2);
        let data = &words[HEADER..];
        assert_eq!(words[..HEADER], [2, 1, 0, 2, 4, 5, 2, data.len() as u32 - 4, 1]);
        assert_eq!(extent(&step, false).lanes, 2, "without cooperative matrices lanes multiply all rows");
        assert_eq!(data[data.len() - 4..], [0, 0, 1 << 2, 1 << 3]);
        assert_eq!(data[..5], [70, 3, 0, 1, 1]);
        let list = |group: usize, sequence: usize| data[data[5 + 2 * group + sequence] as usize..].to_vec();
        assert_eq!(list(0, 0)[..2], [4, 9]);
        assert_eq!(list(0, 1)[..1], [7]);
        assert_eq!(list(1, 0)[..2], [PASSED, 2]);
        assert_eq!(list(1, 1)[..1], [1]);
    }
}
