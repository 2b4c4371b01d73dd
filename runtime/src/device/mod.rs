//! Devices carry plans out: they load a range of a plan's operations and run steps over it.
//!
//! Where weights and state live (memory the processor reads, or a GPU's) is the device's affair: above this line there are only
//! numbers of pages. What a plan means is not decided here.

use std::ops::Range;

use crate::mapping::MappedFile;
use crate::plan::{PageId, Plan, Step};

pub mod cpu;

/// One file of a model: what is mapped, and where in it the GGUF lies.
#[derive(Clone, Debug)]
pub struct MappedPart {
    /// The file, which may be a packed executable.
    pub file: MappedFile,
    /// Where the GGUF begins, bytes.
    pub start: usize,
    /// How long it is, bytes.
    pub length: usize,
}

impl MappedPart {
    /// The GGUF's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.start..self.start + self.length]
    }
}

/// Why a device cannot go on. Each is one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The plan, or what was asked for beside it, is nothing this device can do.
    #[error("{0}")]
    Unsupported(String),
    /// No memory for what a step or a sequence takes.
    #[error("not enough memory: {bytes} bytes for {what} are not to be had")]
    NoMemory {
        /// What it is for.
        what: &'static str,
        /// How much.
        bytes: u64,
    },
}

/// Memory that a program holds beside the mapped weights, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What sequences keep.
    pub state_bytes: u64,
    /// Activations of the largest step so far, and what converts them.
    pub scratch_bytes: u64,
}

/// Something that computes.
pub trait Device: Send {
    /// What people see, e.g. `cpu avx2`.
    fn name(&self) -> String;

    /// Makes the operations `ops` of `plan` ready to run. The weights stay where they are mapped wherever the device can read
    /// them there.
    ///
    /// # Errors
    /// Where the device does not have an operation or a block type, or no memory for it.
    fn load(&self, plan: &Plan, ops: Range<usize>, parts: &[MappedPart]) -> Result<Box<dyn Program>, DeviceError>;
}

/// A loaded plan, and the state of the sequences that run on it.
pub trait Program: Send {
    /// Carries a step out; state of its rows is kept afterwards.
    ///
    /// # Errors
    /// Where memory is missing; the state of the step's sequences is not to be used any more.
    fn run(&mut self, step: &Step) -> Result<(), DeviceError>;

    /// The result of the last step, `(wanted rows, columns)`; empty where none was wanted.
    fn output(&self) -> &[f32];

    /// Makes room for a page of state, zeroed. The same number may come again after [`Program::free`].
    ///
    /// # Errors
    /// Where memory is missing.
    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError>;

    /// Gives a page's memory back.
    fn free(&mut self, group: usize, page: PageId);

    /// Copies a whole page.
    fn copy(&mut self, group: usize, from: PageId, to: PageId);

    /// What it holds now.
    fn memory(&self) -> MemoryUse;
}
