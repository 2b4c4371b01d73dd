//! A tiny model's program that breaks down when a test wants it, and notes its steps.

use std::sync::{Arc, Mutex};

use super::stories;
use crate::device::{DeviceError, MemoryUse, PickLimits, Program};
use crate::engine::Loaded;
use crate::kernels;
use crate::plan::{CacheTypes, PageId, Step};
use crate::session::ModelSource;
use crate::session::open::{Compute, load_model};

pub(super) fn loaded() -> Loaded {
    let source = ModelSource::open(Some(&stories())).expect("the model opens");
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    load_model(&source, compute, None).expect("and is loaded")
}

/// The positions of each step, and how many of its rows are answers'.
pub(super) type Seen = Arc<Mutex<Vec<(Vec<usize>, usize)>>>;

/// Fails after so many steps or pages, as often as the list is long; others take over `left` times. Steps are noted.
pub(super) struct Fragile {
    pub(super) program: Box<dyn Program>,
    pub(super) steps: Vec<usize>,
    pub(super) pages: Vec<usize>,
    pub(super) left: usize,
    pub(super) seen: Seen,
}

fn spent(counts: &mut Vec<usize>) -> Result<(), DeviceError> {
    match counts.first_mut() {
        Some(0) => {
            counts.remove(0);
            Err(DeviceError::Failed("the device was lost".to_owned()))
        }
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl Program for Fragile {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.seen.lock().expect("nobody panics").push((step.positions.clone(), step.answers));
        spent(&mut self.steps)?;
        self.program.run(step)
    }
    fn recover(&mut self, _: &DeviceError) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.program = loaded().program;
        true
    }
    fn pick_limits(&self) -> PickLimits {
        PickLimits::default()
    }
    fn output(&self) -> &[f32] {
        self.program.output()
    }
    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        spent(&mut self.pages)?;
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
