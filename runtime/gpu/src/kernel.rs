//! The shaders: which there are, of which text each is made, and their pipelines, compiled when first used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use satchel_compute::kernels::elementwise::Activation;
use satchel_gguf::TensorType;

use crate::attention;
use crate::product::{self, MOST, Reading, Shape};

/// The text of a file in `shaders/`.
macro_rules! shader {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders/", $name, ".wgsl"))
    };
}
pub(crate) use shader;

mod experts;
mod picking;
mod recurrent;

pub use experts::{ExpertsKernel, MOST_EXPERTS, MOST_USED, Tiling};
pub use picking::{BLOCK, KEEPS, PickKernel};
pub use recurrent::RecurrentKernel;

/// How a matrix lies in a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named like the block types they hold")]
pub enum Form {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
    /// Levels of a byte, scales and offsets in f32: holds every other block type.
    Wide,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 17] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
        Self::Wide,
    ];

    /// The form in which weights of a type are kept.
    pub fn of(ty: TensorType) -> Self {
        match ty {
            TensorType::F32 => Self::F32,
            TensorType::F16 => Self::F16,
            TensorType::BF16 => Self::Bf16,
            TensorType::Q8_0 => Self::Q8_0,
            TensorType::Q4_0 => Self::Q4_0,
            TensorType::Q4_1 => Self::Q4_1,
            TensorType::Q5_0 => Self::Q5_0,
            TensorType::Q5_1 => Self::Q5_1,
            TensorType::Q2_K => Self::Q2K,
            TensorType::Q3_K => Self::Q3K,
            TensorType::Q4_K => Self::Q4K,
            TensorType::Q5_K => Self::Q5K,
            TensorType::Q6_K => Self::Q6K,
            TensorType::IQ4_NL => Self::Iq4Nl,
            TensorType::IQ4_XS => Self::Iq4Xs,
            TensorType::MXFP4 => Self::Mxfp4,
            _ => Self::Wide,
        }
    }

    /// Whether it is multiplied with f32 activations, not int8.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// The columns of a block and its words in memory, where a row is a list of blocks.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (4, 4),
            Self::F16 | Self::Bf16 => (4, 2),
            Self::Iq4Nl | Self::Mxfp4 => (32, 5),
            Self::Q2K => (256, 21),
            Self::Q3K => (256, 28),
            Self::Q4K => (256, 36),
            Self::Q5K => (256, 44),
            Self::Iq4Xs => (256, 34),
            Self::Wide => (32, 12),
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q6K => {
                unreachable!("{self:?} is taken apart by rows")
            }
        }
    }

    /// Whether rows are whole vectors of four words, and read as such.
    pub(crate) fn in_fours(self) -> bool {
        use Form::*;
        matches!(self, Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q4K | Q5K | Q6K | Wide)
    }

    /// Groups of 32 columns that lie in the same bytes and are read together.
    pub(crate) fn unit(self) -> u32 {
        if matches!(self, Self::Q4K | Self::Q5K | Self::Q6K) { 2 } else { 1 }
    }

    /// Whether a unit's groups are two apart.
    pub(crate) fn is_paired(self) -> bool {
        self == Self::Q6K
    }

    /// The declaration of weights for shaders that have one matrix at binding 2.
    pub(crate) fn declared(self) -> String {
        let element = if self.in_fours() { "vec4<u32>" } else { "u32" };
        format!("@group(0) @binding(2) var<storage, read> weights: array<{element}>;\n")
    }

    /// The reader, behind what it reads words with.
    pub(crate) fn files(self) -> Vec<&'static str> {
        let words = if self.in_fours() { shader!("blocks/fours") } else { shader!("blocks/words") };
        let words = (!self.is_plain()).then_some(words);
        words.into_iter().chain(self.reader().iter().copied()).collect()
    }

    pub(crate) fn reader(self) -> &'static [&'static str] {
        match self {
            Self::F32 => &[shader!("plain/f32")],
            Self::F16 => &[shader!("plain/f16")],
            Self::Bf16 => &[shader!("plain/bf16")],
            Self::Q8_0 => &[shader!("blocks/group"), shader!("blocks/scales"), shader!("blocks/q8_0")],
            Self::Q4_0 => &[shader!("blocks/group"), shader!("blocks/scales"), shader!("blocks/q4_0")],
            Self::Q4_1 => &[shader!("blocks/group"), shader!("blocks/q4_1")],
            Self::Q5_0 => {
                &[shader!("blocks/group"), shader!("blocks/scales"), shader!("blocks/fifths"), shader!("blocks/q5_0")]
            }
            Self::Q5_1 => &[shader!("blocks/group"), shader!("blocks/fifths"), shader!("blocks/q5_1")],
            Self::Q2K => &[shader!("blocks/group"), shader!("blocks/q2_k")],
            Self::Q3K => &[shader!("blocks/group"), shader!("blocks/q3_k")],
            Self::Q4K => &[shader!("blocks/group"), shader!("blocks/k_scales"), shader!("blocks/q4_k")],
            Self::Q5K => &[shader!("blocks/group"), shader!("blocks/k_scales"), shader!("blocks/q5_k")],
            Self::Q6K => &[shader!("blocks/group"), shader!("blocks/scales"), shader!("blocks/q6_k")],
            Self::Iq4Nl => &[
                shader!("blocks/group"),
                shader!("blocks/codes"),
                shader!("blocks/iq4_codes"),
                shader!("blocks/iq4_nl"),
            ],
            Self::Iq4Xs => &[
                shader!("blocks/group"),
                shader!("blocks/codes"),
                shader!("blocks/iq4_codes"),
                shader!("blocks/iq4_xs"),
            ],
            Self::Mxfp4 => &[shader!("blocks/group"), shader!("blocks/codes"), shader!("blocks/mxfp4")],
            Self::Wide => &[shader!("blocks/group"), shader!("blocks/wide")],
        }
    }
}

/// What a norm subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "as in plans")]
pub enum Norm {
    Rms,
    Layer,
    L2,
}

/// An activation function, by its number in `activations.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function(u32);

impl Function {
    /// Those that the shader has, in its order.
    pub const ALL: [Activation; 9] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluErf,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
    ];

    /// The shader's number.
    pub fn of(activation: Activation) -> Self {
        let at = Self::ALL.iter().position(|known| *known == activation).expect("the list has all");
        Self(at as u32)
    }
}

/// A shader with the constants that it is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the comment at the top of its file")]
pub enum Kernel {
    Quantize,
    /// Matrices with the same activations, plain ones or block types.
    Product {
        matrices: [Option<Reading>; MOST],
        shape: Shape,
    },
    Norm(Norm),
    NormQuantize(Norm),
    Rope,
    RopeStore,
    Store,
    /// Queries are those of a workgroup.
    Attend {
        key_dim: u32,
        value_dim: u32,
        queries: u32,
        into: attention::Output,
    },
    AttendMerge {
        value_dim: u32,
        quantize: bool,
    },
    Activate(Function),
    Gate(Function),
    /// Whether there is something to multiply with.
    GateQuantize {
        function: Function,
        gated: bool,
    },
    Add,
    Bias,
    Multiply,
    MultiplyVector,
    Scale,
    Softcap,
    Select,
    Split,
    Clamp,
    DivideVector,
    Temperature,
    Join,
    Adapt,
    Experts(ExpertsKernel),
    Recurrent(RecurrentKernel),
    Pick(PickKernel),
    Embed(Form),
}

/// The numbers of tokens that products are compiled for.
pub const TOKENS: [u32; 4] = [1, 2, 4, 8];
/// The numbers of threads that share a weight row.
pub const LANES: [u32; 3] = [8, 16, 32];
/// Rows that a thread of a product for a few tokens has at once, and threads of its workgroup.
pub const ROWS: u32 = 2;
/// See [`ROWS`].
pub const THREADS: u32 = 64;

impl Kernel {
    /// Every shader in every variant; attention with some sizes of heads.
    pub fn all() -> Vec<Self> {
        use Kernel::*;
        let mut all =
            vec![Quantize, Rope, RopeStore, Store, Add, Bias, Multiply, MultiplyVector, Scale, Softcap, Select, Split];
        all.extend([Clamp, DivideVector, Temperature, Join, Adapt]);
        all.extend(ExpertsKernel::all().into_iter().map(Experts));
        all.extend(RecurrentKernel::all().into_iter().map(Recurrent));
        all.extend(PickKernel::all().into_iter().map(Pick));
        let norms = [crate::Norm::Rms, crate::Norm::Layer, crate::Norm::L2];
        all.extend(norms.map(Norm).into_iter().chain(norms.map(NormQuantize)));
        all.extend(Form::ALL.map(Embed));
        for activation in Function::ALL.map(Function::of) {
            all.extend([Activate(activation), Gate(activation)]);
            all.extend([false, true].map(|gated| GateQuantize { function: activation, gated }));
        }
        all.extend(attention::all());
        all.extend(Self::products());
        all
    }

    /// Products of one matrix in every form and shape, of several of one form, and of several forms.
    fn products() -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |matrices: &[Reading]| {
            let mut three = [None; MOST];
            matrices.iter().zip(&mut three).for_each(|(matrix, place)| *place = Some(*matrix));
            let few = TOKENS.map(|tokens| Shape::Lanes { tokens, rows: ROWS, threads: THREADS });
            // As NVIDIA's, and as small as matrices are.
            let large = product::Matrices { size: 16, subgroup: 32, columns: 64 };
            let small = product::Matrices { size: 8, subgroup: 8, columns: 32 };
            let [short, long] = product::Matrices::TOKENS;
            let by_matrices = [(large, short), (large, long), (small, long)];
            let may = product::may_be_halves(matrices.iter().copied());
            let by_matrices = by_matrices.into_iter().filter(|_| may);
            let by_matrices = by_matrices.map(|(of, tokens)| Shape::Matrices { of, tokens });
            all.extend(
                few.into_iter()
                    .chain([Shape::Tile])
                    .chain(by_matrices)
                    .map(|shape| Self::Product { matrices: three, shape }),
            );
        };
        for form in Form::ALL {
            LANES.iter().for_each(|lanes| add(&[Reading { form, lanes: *lanes }]));
            add(&[Reading { form, lanes: LANES[1] }; 2]);
            add(&[Reading { form, lanes: LANES[2] }; 3]);
        }
        let mixed = |forms: [Form; 3]| forms.map(|form| Reading { form, lanes: LANES[2] });
        add(&mixed([Form::Q4K, Form::Q4K, Form::Q6K]));
        add(&mixed([Form::Q5K, Form::Q8_0, Form::Wide]));
        add(&mixed([Form::F16, Form::F32, Form::Bf16]));
        all
    }

    /// The number of buffers that it reads, and that it writes.
    pub fn bindings(self) -> (u32, u32) {
        match self {
            Self::Experts(kernel) => kernel.bindings(),
            Self::Recurrent(kernel) => kernel.bindings(),
            Self::Pick(kernel) => kernel.bindings(),
            Self::Scale | Self::Softcap | Self::Clamp | Self::Temperature | Self::Adapt => (0, 1),
            Self::Quantize
            | Self::Rope
            | Self::Activate(_)
            | Self::Add
            | Self::Bias
            | Self::Multiply
            | Self::MultiplyVector
            | Self::DivideVector
            | Self::Select
            | Self::Split => (1, 1),
            Self::Gate(_) | Self::GateQuantize { .. } | Self::AttendMerge { .. } | Self::Join | Self::Embed(_) => {
                (2, 1)
            }
            Self::Store => (2, 2),
            Self::RopeStore => (3, 3),
            Self::Norm(_) | Self::NormQuantize(_) => (3, 1),
            Self::Product { matrices, .. } => {
                let count = matrices.iter().flatten().count() as u32;
                (1 + 2 * count, count)
            }
            Self::Attend { .. } => (4, 1),
        }
    }

    /// Its whole text.
    pub fn source(self) -> String {
        let (constants, files): (String, Vec<&str>) = match self {
            Self::Quantize => (threads(64), vec![shader!("levels"), shader!("quantize")]),
            Self::Product { matrices, shape } => {
                let matrices: Vec<Reading> = matrices.into_iter().flatten().collect();
                return product::source(&matrices, shape);
            }
            Self::NormQuantize(kind) => (
                format!("{}const KIND = {}u;\n", threads(256), kind as u32),
                vec![shader!("levels"), shader!("norm_quantize")],
            ),
            Self::Norm(kind) => (format!("const KIND = {}u;\n", kind as u32), vec![shader!("norm")]),
            Self::Rope => (String::new(), vec![shader!("rope")]),
            Self::RopeStore => (String::new(), vec![shader!("halves"), shader!("rope_store")]),
            Self::Store => (String::new(), vec![shader!("halves"), shader!("store")]),
            Self::Attend { key_dim, value_dim, queries, into } => {
                return format!("{}{}", shader!("common"), attention::source(key_dim, value_dim, queries, into));
            }
            Self::AttendMerge { value_dim, quantize } => {
                return format!("{}{}", shader!("common"), attention::merge_source(value_dim, quantize));
            }
            Self::Activate(function) => (function_number(function), vec![shader!("activations"), shader!("activate")]),
            Self::Gate(function) => (function_number(function), vec![shader!("activations"), shader!("gate")]),
            Self::GateQuantize { function, gated } => (
                format!("{}{}const GATED = {gated};\n", threads(64), function_number(function)),
                vec![shader!("activations"), shader!("levels"), shader!("gate_quantize")],
            ),
            Self::Add => (String::new(), vec![shader!("add")]),
            Self::Bias => (String::new(), vec![shader!("bias")]),
            Self::Multiply => (String::new(), vec![shader!("multiply")]),
            Self::MultiplyVector => (String::new(), vec![shader!("multiply_vector")]),
            Self::Scale => (String::new(), vec![shader!("scale")]),
            Self::Softcap => (String::new(), vec![shader!("softcap")]),
            Self::Select => (String::new(), vec![shader!("select")]),
            Self::Split => (String::new(), vec![shader!("split")]),
            Self::Clamp => (String::new(), vec![shader!("clamp")]),
            Self::DivideVector => (String::new(), vec![shader!("divide_vector")]),
            Self::Temperature => (String::new(), vec![shader!("temperature")]),
            Self::Join => (String::new(), vec![shader!("join")]),
            Self::Adapt => (String::new(), vec![shader!("adapt")]),
            Self::Experts(kernel) => kernel.parts(),
            Self::Recurrent(kernel) => kernel.parts(),
            Self::Pick(kernel) => kernel.parts(),
            Self::Embed(form) => {
                let own = if form.is_plain() { shader!("embed_plain") } else { shader!("embed_blocks") };
                (form.declared(), form.files().into_iter().chain([own, shader!("embed")]).collect())
            }
        };
        format!("{constants}{}{}", shader!("common"), files.concat())
    }
}

fn threads(count: u32) -> String {
    format!("const THREADS = {count}u;\n")
}

fn function_number(function: Function) -> String {
    format!("const FUNCTION = {}u;\n", function.0)
}

/// Pipelines, compiled when first used, and the layouts of their buffers.
pub(crate) struct Pipelines {
    layouts: Mutex<HashMap<(u32, u32), wgpu::BindGroupLayout>>,
    compiled: Mutex<HashMap<Kernel, wgpu::ComputePipeline>>,
    device: wgpu::Device,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        Self { layouts: Mutex::default(), compiled: Mutex::default(), device: device.clone() }
    }

    /// Parameters, step, buffers to read, buffers to write.
    pub(crate) fn layout(&self, (reads, writes): (u32, u32)) -> wgpu::BindGroupLayout {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = layouts.entry((reads, writes)).or_insert_with(|| {
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let kinds = [wgpu::BufferBindingType::Uniform, storage(true)].into_iter();
            let kinds = kinds.chain((0..reads).map(|_| storage(true))).chain((0..writes).map(|_| storage(false)));
            let entries: Vec<_> = kinds
                .zip(0..)
                .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
                    binding,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                    count: None,
                })
                .collect();
            let description = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            self.device.create_bind_group_layout(&description)
        });
        made.clone()
    }

    /// A kernel's pipeline. An error in it is the device's, which [`crate::Gpu::check`] reports.
    pub(crate) fn get(&self, kernel: Kernel) -> wgpu::ComputePipeline {
        let compiled = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled().get(&kernel) {
            return known.clone();
        }
        // Others are compiled meanwhile.
        let made = self.compile(kernel);
        compiled().entry(kernel).or_insert(made).clone()
    }

    /// Compiles pipelines, side by side.
    pub(crate) fn compile_all(&self, kernels: &[Kernel]) {
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                        self.get(*kernel);
                    }
                });
            }
        });
    }

    fn compile(&self, kernel: Kernel) -> wgpu::ComputePipeline {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
        });
        let bindings = self.layout(kernel.bindings());
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // All of a workgroup's memory is written before it is read.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}
