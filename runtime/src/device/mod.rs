//! Devices execute plans: they load a range of a plan's operations and run steps over it.
//!
//! Where weights and state live (main memory or a GPU's) is up to the device: above it there are only page numbers. What a plan
//! means is not decided here.

use std::ops::Range;

use crate::mapping::MappedFile;
use crate::plan::{PageId, Plan, Slot, Step};

pub mod cpu;
#[cfg(with_gpu)]
pub mod gpu;
mod pick;
mod split;

pub use pick::{PickLimits, Picked, Wish};
pub use split::{Crossing, Split};

/// One file of a model: the mapping, and where the GGUF is in it.
#[derive(Clone, Debug)]
pub struct MappedPart {
    /// The file, which may be a packed executable.
    pub file: MappedFile,
    /// Start of the GGUF in bytes.
    pub start: usize,
    /// Its length in bytes.
    pub length: usize,
}

impl MappedPart {
    /// The GGUF's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.start..self.start + self.length]
    }
}

/// Why a device cannot go on, each as one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The device does not support the plan or an option.
    #[error("{0}")]
    Unsupported(String),
    /// The device broke down.
    #[error("{0}")]
    Failed(String),
    /// Out of memory for a step or a sequence.
    #[error("not enough memory: {bytes} bytes for {what} are not to be had")]
    NoMemory {
        /// What the memory is for.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
}

/// Memory that a program holds besides the mapped weights, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// State of the sequences.
    pub state_bytes: u64,
    /// Activations of the largest step so far, and conversion buffers.
    pub scratch_bytes: u64,
}

/// Something that computes.
pub trait Device: Send {
    /// Name shown to users, e.g. `cpu avx2`.
    fn name(&self) -> String;

    /// Prepares the operations `ops` of `plan` to run. Weights stay mapped wherever the device can read them there.
    ///
    /// # Errors
    /// If the device does not support an operation or a block type, or is out of memory.
    fn load(&self, plan: &Plan, ops: Range<usize>, parts: &[MappedPart]) -> Result<Box<dyn Program>, DeviceError>;
}

/// A loaded plan, and the state of the sequences that run on it.
pub trait Program: Send {
    /// Runs a step and keeps the state of its rows.
    ///
    /// # Errors
    /// If out of memory; the state of the step's sequences must not be used any more.
    fn run(&mut self, step: &Step) -> Result<(), DeviceError>;

    /// The same for a part of a plan: first sets `entering`, which earlier operations would have written, and returns the values
    /// of `leaving`.
    ///
    /// # Errors
    /// As [`Program::run`], or if the device runs whole plans only.
    fn run_between(
        &mut self,
        step: &Step,
        entering: &[Crossing],
        leaving: &[Slot],
    ) -> Result<Vec<Crossing>, DeviceError> {
        match entering.is_empty() && leaving.is_empty() {
            true => self.run(step).map(|()| Vec::new()),
            false => Err(DeviceError::Unsupported("this device does not run parts of a model".to_owned())),
        }
    }

    /// Puts another device in place of one that failed; `false`: there is none. All pages are lost then, as if none had been
    /// allocated.
    fn recover(&mut self, why: &DeviceError) -> bool {
        let _ = why;
        false
    }

    /// The result of the last step, `(wanted rows, columns)`; empty if none was wanted.
    fn output(&self) -> &[f32];

    /// What [`Program::run_picking`] can give of a row. No default, or a program around another would hide what that can do.
    fn pick_limits(&self) -> PickLimits;

    /// Runs a step of a plan that ends in logits, and gives of each wanted row only what is wished of it. `None`: one of its logits
    /// is no finite number, and [`Program::output`] has all of them.
    ///
    /// # Errors
    /// As [`Program::run`], or if the device gives all logits only.
    fn run_picking(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        let _ = (step, wishes);
        Err(DeviceError::Unsupported("this device gives all logits of a row only".to_owned()))
    }

    /// Allocates a zeroed page of state. Numbers may be reused after [`Program::free`].
    ///
    /// # Errors
    /// If out of memory.
    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError>;

    /// Frees a page's memory.
    fn free(&mut self, group: usize, page: PageId);

    /// Copies a whole page.
    fn copy(&mut self, group: usize, from: PageId, to: PageId);

    /// Whether states can be read and written as bytes.
    fn gives_pages(&self) -> bool {
        false
    }

    /// Appends a page's contents to `out`, for [`Program::write_page`] of the same plan on the same kernels and cache types.
    ///
    /// # Errors
    /// If the device cannot.
    fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) -> Result<(), DeviceError> {
        let _ = (group, page, out);
        Err(DeviceError::Unsupported("this device does not give its states to be kept in a file".to_owned()))
    }

    /// Sets an allocated page's contents.
    ///
    /// # Errors
    /// If the device cannot, or these are not the contents of such a page.
    fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> Result<(), DeviceError> {
        let _ = (group, page, contents);
        Err(DeviceError::Unsupported("this device does not take states that were kept in a file".to_owned()))
    }

    /// Current memory use.
    fn memory(&self) -> MemoryUse;
}
