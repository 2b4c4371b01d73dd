//! Which rows of a step belong to answers: those behind a prompt that was read whole, and they come first.

use std::sync::{Arc, Mutex};

use super::{EngineOptions, request, stories};
use crate::TokenId;
use crate::device::{DeviceError, MemoryUse, PickLimits, Program};
use crate::engine::scheduler::Scheduler;
use crate::engine::{Loaded, Speculate};
use crate::kernels;
use crate::plan::{CacheTypes, PageId, Step};
use crate::session::ModelSource;
use crate::session::open::{Compute, load_model};

/// The positions of each step, and how many of its rows are answers'.
type Steps = Arc<Mutex<Vec<(Vec<usize>, usize)>>>;

/// Notes its steps.
struct Noting {
    program: Box<dyn Program>,
    steps: Steps,
}

impl Program for Noting {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.steps.lock().expect("nobody panics").push((step.positions.clone(), step.answers));
        self.program.run(step)
    }
    fn pick_limits(&self) -> PickLimits {
        PickLimits::default()
    }
    fn output(&self) -> &[f32] {
        self.program.output()
    }
    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.program.allocate(group, page)
    }
    fn free(&mut self, group: usize, page: PageId) {
        self.program.free(group, page);
    }
    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        self.program.copy(group, from, to);
    }
    fn memory(&self) -> MemoryUse {
        self.program.memory()
    }
}

#[test]
fn rows_of_answers_come_first_and_are_told_from_prompts() {
    const LENGTH: usize = 30;
    let source = ModelSource::open(Some(&stories())).expect("the model opens");
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    let Loaded { plan, program } = load_model(&source, compute, None).expect("and is loaded");
    let steps = Steps::default();
    let noting = Box::new(Noting { program, steps: Arc::clone(&steps) });
    let options = EngineOptions {
        context: 200,
        parallel: 4,
        batch_tokens: 9,
        speculate: Speculate::Always,
        ..EngineOptions::default()
    };
    let mut scheduler = Scheduler::new(Loaded { plan, program: noting }, options, Vec::new(), Arc::default());
    let mut events = Vec::new();
    // Prompts of one length, begun at different times; the last finds all but a token of it computed already.
    for (first, turns) in [(1, 3), (2, 5), (3, 30), (2, 120)] {
        let prompt: Vec<TokenId> = (0..LENGTH as TokenId).map(|at| 30 + (first * 50 + at % 7) % 300).collect();
        events.push(scheduler.take(request(&prompt, 0.0, 150)));
        (0..turns).for_each(|_| scheduler.turn());
    }
    let steps = steps.lock().expect("nobody panics");
    for (positions, answers) in steps.iter() {
        let (first, rest) = positions.split_at(*answers);
        assert!(first.iter().all(|position| *position >= LENGTH), "{answers} of {positions:?}");
        assert!(rest.iter().all(|position| *position < LENGTH), "{answers} of {positions:?}");
    }
    let has = |what: &dyn Fn(usize, usize) -> bool| steps.iter().any(|(rows, answers)| what(rows.len(), *answers));
    assert!(has(&|rows, answers| answers > 0 && answers < rows), "answers and prompts share steps");
    assert!(has(&|rows, answers| answers == rows && rows > 4), "guesses are answers' rows, too");
    assert!(has(&|rows, answers| answers < rows && rows - answers == 1), "a prompt's last token alone is no answer's");
}
