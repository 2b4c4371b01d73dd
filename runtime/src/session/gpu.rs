//! Which GPU computes: what the user chose, what a probe found, and a sentence that says so.
//!
//! A driver's code first runs in a child process with a time limit (`probe`), so that one that crashes or hangs takes only that
//! down. A GPU that nobody named is used only if it computed a product right and reads weights faster than this CPU, and any only if
//! it predicts what the CPU predicts (`trial`).

#[cfg(with_gpu)]
mod cache;
#[cfg(with_gpu)]
mod opening;
mod pending;
#[cfg(with_gpu)]
mod presence;
#[cfg(with_gpu)]
mod probe;
#[cfg(with_gpu)]
mod recover;
mod status;
#[cfg(with_gpu)]
mod trial;
#[cfg(with_gpu)]
mod with;
#[cfg(not(with_gpu))]
mod without;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, mpsc};

use serde::{Deserialize, Serialize};

use super::memory::Demand;
use super::open::{Compute, OpenError, OpenOptions};
use super::source::ModelSource;
use crate::device::cpu::Cpu;
use crate::device::{Device, MappedPart, Program};
use crate::engine::Loaded;
use crate::plan::Plan;
use pending::Pending;
pub use status::GpuStatus;

#[cfg(with_gpu)]
pub use presence::none_shown;
#[cfg(with_gpu)]
pub use probe::{find, measure, print_adapters, print_matrices, print_measured};
#[cfg(with_gpu)]
use with::load as load_chosen;
#[cfg(not(with_gpu))]
use without::load as load_chosen;
#[cfg(not(with_gpu))]
pub use without::{find, measure, none_shown, print_adapters, print_matrices, print_measured};

/// An adapter, as the child tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// `vulkan`, `dx12` or `metal`.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
    /// The most bytes that a shader can address in one buffer.
    pub binding_bytes: u64,
    /// Its memory, if its driver says how much that is.
    pub memory_bytes: Option<u64>,
}

impl Adapter {
    /// Whether a user means it by this part of a name, in any case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.to_lowercase().contains(&name.to_lowercase())
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of their numbers.
    pub adapters: Vec<Adapter>,
}

/// What was measured of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The largest error of a product, relative to the sum of its terms' magnitudes; `f32::MAX` if it is NaN.
    pub error: f32,
    /// Bytes of weights per second, in products.
    pub bytes_per_second: f64,
    /// Whether cooperative matrices multiply prompts faster, and right.
    pub matrices: bool,
}

/// What the user chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// The CPU computes.
    #[default]
    None,
    /// Like [`Self::Auto`], but starts no driver unless a GPU is in sight: what happens if the user chooses nothing.
    InSight,
    /// The fastest GPU, if it is faster than the CPU.
    Auto,
    /// By its number in `satchel doctor`.
    Index(usize),
    /// By a part of its name.
    Named(String),
}

impl FromStr for GpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            "" => Err("it must be none, auto, a GPU's number or a part of its name".to_owned()),
            _ => Ok(text.parse().map_or_else(|_| Self::Named(text.to_owned()), Self::Index)),
        }
    }
}

impl std::fmt::Display for GpuChoice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::InSight | Self::Auto => out.write_str("auto"),
            Self::Index(index) => index.fmt(out),
            Self::Named(name) => out.write_str(name),
        }
    }
}

impl GpuChoice {
    /// Whether it names a GPU, so that another, or none, will not do.
    fn is_named(&self) -> bool {
        matches!(self, Self::Index(_) | Self::Named(_))
    }

    /// Whether to tell the user which GPU computes, or why none: if they asked for one, or if there is one.
    pub fn is_told(&self, status: &GpuStatus) -> bool {
        match self {
            Self::None => false,
            Self::InSight => status.is_found(),
            Self::Auto | Self::Index(_) | Self::Named(_) => true,
        }
    }

    /// Embeddings have no shaders yet: an error if a GPU was asked for by name.
    pub(super) fn refuse_for_embeddings(&self) -> Result<(), OpenError> {
        match self.is_named() {
            false => Ok(()),
            true => Err(self.refused("there are no shaders yet for embeddings and scores")),
        }
    }

    fn refused(&self, why: &str) -> OpenError {
        OpenError::Gpu(format!(
            "--gpu {self}: {why}; with --gpu none the CPU computes, `satchel doctor` lists the GPUs"
        ))
    }
}

/// What is to be loaded, and on which GPU.
struct Asked {
    path: PathBuf,
    parts: Vec<MappedPart>,
    plan: Plan,
    compute: Compute,
    /// The load for which memory must suffice.
    #[cfg_attr(not(with_gpu), allow(dead_code, reason = "what fits is asked of GPUs alone"))]
    demand: Demand,
    choice: GpuChoice,
    /// Layers on the GPU; `None`: as many as fit.
    #[cfg_attr(not(with_gpu), allow(dead_code, reason = "without GPUs there are none"))]
    layers: Option<usize>,
    /// Told in one line that a device was lost.
    #[cfg_attr(not(with_gpu), allow(dead_code, reason = "no device can be lost"))]
    tell: fn(&str),
}

impl Asked {
    fn cpu(&self) -> Cpu {
        Cpu::new(self.compute.kernels, self.compute.threads, self.compute.cache)
    }

    /// The whole plan on the CPU.
    fn on_cpu(&self) -> Result<Box<dyn Program>, OpenError> {
        let loaded = self.cpu().load(&self.plan, 0..self.plan.ops.len(), &self.parts);
        loaded.map_err(|error| OpenError::Device { path: self.path.clone(), error })
    }
}

/// Why there is certainly no GPU for this choice, found out at no cost. One that was named is looked for wherever it may be.
fn certainly_none(choice: &GpuChoice) -> Option<&'static str> {
    #[cfg(with_gpu)]
    return match choice {
        GpuChoice::InSight => presence::none_in_sight(),
        GpuChoice::Auto => presence::certainly_none(),
        GpuChoice::None | GpuChoice::Index(_) | GpuChoice::Named(_) => None,
    };
    #[cfg(not(with_gpu))]
    (!choice.is_named()).then_some(without::WHY)
}

/// Loads a plan on the GPU that was chosen as far as it can be used, else on the CPU; the status says which, or why none. With
/// `options.gpu_beside` it is loaded by a thread of its own, and what fails is in the status.
pub(super) fn load(
    source: &ModelSource,
    compute: Compute,
    plan: Plan,
    demand: Demand,
    options: &OpenOptions,
) -> Result<(Loaded, Arc<GpuStatus>), OpenError> {
    let asked = Arc::new(Asked {
        path: source.path.clone(),
        parts: source.mapped_parts(),
        plan,
        compute,
        demand,
        choice: options.gpu.clone(),
        layers: options.gpu_layers,
        tell: options.tell.unwrap_or(|_| {}),
    });
    let loaded = |program: Box<dyn Program>| Loaded { plan: asked.plan.clone(), program };
    match (&options.gpu, options.gpu_layers) {
        (GpuChoice::None, Some(_)) => {
            let line = "--gpu-layers needs a GPU: add --gpu auto, or one that `satchel doctor` lists";
            return Err(OpenError::Gpu(line.to_owned()));
        }
        (GpuChoice::None, None) | (_, Some(0)) => {
            let said = match options.gpu_layers {
                None => "none: none was asked for (--gpu none)",
                Some(_) => "none: no layers were asked for (--gpu-layers 0)",
            };
            return Ok((loaded(asked.on_cpu()?), GpuStatus::settled(said)));
        }
        _ => {}
    }
    if let Some(why) = certainly_none(&options.gpu) {
        let status = GpuStatus::settled(format!("none: {why}"));
        #[cfg(with_gpu)]
        if presence::is_in_dev() {
            status.find();
        }
        return Ok((loaded(asked.on_cpu()?), status));
    }
    let status = Arc::new(GpuStatus::default());
    if !options.gpu_beside {
        let program = load_chosen(&asked, &status)?;
        status.finish();
        return Ok((loaded(program), status));
    }
    let (sender, coming) = mpsc::channel();
    let (of_thread, asked_of_thread) = (Arc::clone(&status), Arc::clone(&asked));
    // wgpu panics on some drivers, and others wait for what is said here.
    let load = move || match catch_unwind(AssertUnwindSafe(|| load_chosen(&asked_of_thread, &of_thread))) {
        Ok(Ok(program)) => {
            let _ = sender.send(program);
            of_thread.finish();
        }
        Ok(Err(error)) => of_thread.fail(error.to_string()),
        Err(_) => of_thread.fail("the GPU's driver broke down while the model was loaded; use --gpu none".to_owned()),
    };
    std::thread::Builder::new().name("gpu".to_owned()).spawn(load).map_err(OpenError::Thread)?;
    Ok((loaded(Box::new(Pending::new(Arc::clone(&status), coming))), status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, choice) in [
            ("none", GpuChoice::None),
            ("auto", GpuChoice::Auto),
            ("1", GpuChoice::Index(1)),
            ("GeForce", GpuChoice::Named("GeForce".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(choice.clone()));
            assert_eq!(choice.to_string(), text);
        }
        assert!("".parse::<GpuChoice>().is_err());
    }
}
