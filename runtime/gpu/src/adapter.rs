//! Finding GPUs, and opening one.
//!
//! Whatever is called here runs a driver's code in this process, which may crash or hang: the runtime looks for adapters in a child
//! process and opens here only one that passed.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::GpuError;
use crate::call::Counts;
use crate::choice::Choice;
use crate::kernel::Pipelines;
use crate::product::Matrices;

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card with its own memory.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A part of a GPU in a virtual machine.
    Virtual,
    /// A program that takes a GPU's place (llvmpipe, WARP): of use for tests only.
    Software,
    /// Not said.
    Other,
}

impl Kind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        }
    }
}

/// An adapter, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFacts {
    /// Its name, e.g. `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The interface: `vulkan`, `dx12` or `metal`.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
    /// The most bytes that a shader can address in one buffer.
    pub binding_bytes: u64,
    /// Its memory; `None` if its driver does not say.
    pub memory_bytes: Option<u64>,
}

impl AdapterFacts {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => Kind::Other,
        };
        Self {
            kind,
            interface: info.backend.to_str().to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            binding_bytes: binding_bytes(&adapter.limits()),
            memory_bytes: memory_bytes(adapter),
            name: info.name,
        }
    }

    /// Whether this is the adapter that a user means by a name: any part of it, in any case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.to_lowercase().contains(&name.to_lowercase())
    }
}

fn binding_bytes(limits: &wgpu::Limits) -> u64 {
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
}

/// The largest heap of the device's own memory.
#[cfg(any(target_os = "linux", windows))]
#[allow(unsafe_code, reason = "wgpu does not say how much memory there is; only Vulkan's own handles do")]
fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handle is only read from, while the adapter lives.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: instance and physical device belong together and are valid as long as the adapter.
    let properties = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    // `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT` is 1.
    let heaps = &properties.memory_heaps[..properties.memory_heap_count as usize];
    heaps.iter().filter(|heap| heap.flags.as_raw() & 1 == 1).map(|heap| heap.size).max()
}

#[cfg(not(any(target_os = "linux", windows)))]
fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// The value of a future that needs nothing but polling, as all of wgpu's do outside of browsers.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let mut options = wgpu::InstanceDescriptor::new_without_display_handle();
    // Debug layers are for those who write shaders; an adapter is the same without them.
    options.flags = wgpu::InstanceFlags::empty();
    // Those compiled in.
    options.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(options);
    ready(instance.enumerate_adapters(wgpu::Backends::all()))
}

/// Every adapter that a driver shows, in the order that [`Gpu::open`] counts them.
pub fn list() -> Vec<AdapterFacts> {
    adapters().iter().map(AdapterFacts::of).collect()
}

/// What a device must have for products, with or without cooperative matrices.
#[allow(
    unsafe_code,
    reason = "wgpu asks for it where it does not vouch for a feature; a probe tries this one in a process of its own"
)]
fn features(matrices: bool) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    match matrices {
        false => (wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled()),
        // SAFETY: shaders multiply cooperative matrices in uniform control flow, and within the memory that they declare.
        true => (MATRICES, unsafe { wgpu::ExperimentalFeatures::enabled() }),
    }
}

const MATRICES: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::SUBGROUP).union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// The cooperative matrices that products can use: square ones of f16 with sums in f32, where all subgroups have one size.
fn matrices_of(adapter: &wgpu::Adapter, limits: &wgpu::Limits) -> Option<Matrices> {
    let info = adapter.get_info();
    if !adapter.features().contains(MATRICES) || info.subgroup_min_size != info.subgroup_max_size {
        return None;
    }
    let kinds = adapter.cooperative_matrix_properties();
    let has = |size: u32| {
        kinds.iter().any(|kind| {
            (kind.m_size, kind.n_size, kind.k_size) == (size, size, size)
                && kind.ab_type == wgpu::CooperativeScalarType::F16
                && kind.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    let size = [16, 8].into_iter().find(|size| has(*size))?;
    let of = |columns| Matrices { size, subgroup: info.subgroup_max_size, columns };
    let fits = |of: &Matrices| {
        of.workgroup_bytes() <= limits.max_compute_workgroup_storage_size
            && of.threads() <= limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x)
    };
    [64, 32].map(of).into_iter().find(fits)
}

/// An opened GPU.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    pub(crate) counts: Mutex<Counts>,
    pub(crate) choice: Choice,
    facts: AdapterFacts,
    limits: wgpu::Limits,
    /// How prompts are multiplied, if by cooperative matrices.
    matrices: Option<Matrices>,
    /// Whether the adapter offers such.
    offers_matrices: bool,
    /// What the driver complained of first.
    failure: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the adapter at `index` of [`list`]; `matrices`: with its cooperative matrices, if it has any that can be used.
    ///
    /// # Errors
    /// If there is none, or its driver refuses.
    pub fn open(index: usize, matrices: bool) -> Result<Self, GpuError> {
        let adapter = adapters().into_iter().nth(index);
        Self::of(&adapter.ok_or_else(|| GpuError::Unusable(format!("there is no GPU {index}")))?, matrices)
    }

    /// Opens the first adapter with this in its name, as [`Gpu::open`].
    ///
    /// # Errors
    /// If there is none, or its driver refuses.
    pub fn open_named(name: &str, matrices: bool) -> Result<Self, GpuError> {
        let adapter = adapters().into_iter().find(|adapter| AdapterFacts::of(adapter).is_named(name));
        Self::of(&adapter.ok_or_else(|| GpuError::Unusable(format!("there is no GPU named `{name}`")))?, matrices)
    }

    fn of(adapter: &wgpu::Adapter, matrices: bool) -> Result<Self, GpuError> {
        let limits = adapter.limits();
        let offered = matrices_of(adapter, &limits);
        let matrices = offered.filter(|_| matrices);
        let (required_features, experimental_features) = features(matrices.is_some());
        let description = wgpu::DeviceDescriptor {
            label: None,
            required_features,
            // What is not asked for is far less than what there is.
            required_limits: limits.clone(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        let facts = AdapterFacts::of(adapter);
        let (device, queue) = ready(adapter.request_device(&description))
            .map_err(|error| GpuError::Unusable(format!("{}: {}", facts.name, one_line(&error.to_string()))))?;
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = Arc::clone(failure);
            move |what: String| {
                failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(one_line(&what));
            }
        };
        let (on_error, on_loss) = (note(&failure), note(&failure));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error(error.to_string())));
        device.set_device_lost_callback(move |reason, what| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_loss(format!("the device was lost: {what}"));
            }
        });
        let pipelines = Pipelines::new(&device);
        Ok(Self {
            device,
            queue,
            pipelines,
            counts: Mutex::default(),
            choice: Choice::default(),
            facts,
            limits,
            matrices,
            offers_matrices: offered.is_some(),
            failure,
        })
    }

    /// What it is.
    pub fn facts(&self) -> &AdapterFacts {
        &self.facts
    }

    /// How it multiplies cooperative matrices, if it was opened with them.
    pub fn matrices(&self) -> Option<Matrices> {
        self.matrices
    }

    /// Whether it can be opened with cooperative matrices, as far as its driver says.
    pub fn offers_matrices(&self) -> bool {
        self.offers_matrices
    }

    /// The most workgroups in one dimension.
    pub(crate) fn most_workgroups(&self) -> u32 {
        self.limits.max_compute_workgroups_per_dimension
    }

    /// The most buffers that one shader reads and writes.
    pub fn most_buffers(&self) -> u32 {
        self.limits.max_storage_buffers_per_shader_stage
    }

    /// Bytes that the threads of a workgroup can share.
    pub(crate) fn workgroup_bytes(&self) -> u32 {
        self.limits.max_compute_workgroup_storage_size
    }

    /// Multiplies prompts of so many tokens and more by tiles; for tests.
    pub fn tile_from(&self, tokens: usize) {
        [false, true].into_iter().for_each(|is_plain| self.choice.tile_from(is_plain, tokens));
    }

    /// The most bytes that a shader can address in one buffer.
    pub fn binding_bytes(&self) -> u64 {
        binding_bytes(&self.limits)
    }

    /// Submits a tenth at once of what it does otherwise: what a driver took for hung may then be done in time.
    pub fn submit_less(&self) {
        self.choice.submit_less();
    }

    /// Takes buffers to hold no more than this, as on a smaller GPU; for tests.
    pub fn limit_buffers(&mut self, bytes: u64) {
        self.limits.max_storage_buffer_binding_size = bytes;
        self.limits.max_buffer_size = bytes;
    }

    /// An error if the driver has complained since this GPU was opened.
    ///
    /// # Errors
    /// What it complained of first.
    pub fn check(&self) -> Result<(), GpuError> {
        let failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.clone().map_or(Ok(()), |what| Err(GpuError::Failed(what)))
    }

    /// A zeroed buffer of at least `bytes` for shaders.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn buffer(&self, what: &'static str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.buffer_for(what, bytes, usage)
    }

    pub(crate) fn buffer_for(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.make_buffer(what, bytes, usage, false)
    }

    /// A buffer that is mapped already.
    pub(crate) fn mapped_buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.make_buffer(what, bytes, usage, true)
    }

    fn make_buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, GpuError> {
        // Whole vectors, and never empty: drivers refuse bindings of no size.
        let bytes = bytes.max(16).next_multiple_of(16);
        if bytes > self.limits.max_buffer_size {
            return Err(GpuError::NoMemory { what, bytes });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let description = wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation };
        let buffer = self.device.create_buffer(&description);
        match ready(scope.pop()) {
            None => self.check().map(|()| buffer),
            Some(_) => Err(GpuError::NoMemory { what, bytes }),
        }
    }

    /// Writes to a buffer before anything that is submitted later; whole words.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.queue.write_buffer(buffer, offset, bytes);
        }
    }

    /// Lets what was written go on its way, so that copies of it do not pile up.
    pub fn flush(&self) {
        self.queue.submit([]);
        // A lost device is reported by `check`.
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }

    /// Loses the device, for tests of what happens then.
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

/// Drivers' and compilers' messages are paragraphs.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
