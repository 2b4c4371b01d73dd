//! Every shader in every variant, compiled for Vulkan, DX12 and Metal: no GPU is needed for that.
#![allow(missing_docs)]

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use satchel_gpu::Kernel;
use satchel_gpu::product::Shape;

/// Reading pairs of f16 as f32, which every adapter has that has Vulkan 1.1, DX12 or Metal.
const CAPABILITIES: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
/// What products by cooperative matrices need besides.
const MATRICES: Capabilities =
    Capabilities::SHADER_FLOAT16.union(Capabilities::SUBGROUP).union(Capabilities::COOPERATIVE_MATRIX);

fn by_matrices(kernel: Kernel) -> bool {
    matches!(kernel, Kernel::Product { shape: Shape::Matrices { .. }, .. })
}

/// A shader's module, or the error with the line that it is in.
fn parse(kernel: Kernel, source: &str) -> naga::Module {
    naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(source)))
}

#[test]
fn every_shader_is_valid_and_compiles_for_every_interface() {
    let kernels = Kernel::all();
    for &kernel in &kernels {
        let source = kernel.source();
        let module = parse(kernel, &source);
        let capabilities = if by_matrices(kernel) { CAPABILITIES | MATRICES } else { CAPABILITIES };
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        let validated = validator.validate(&module);
        let info = validated.unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)));
        let words = spv::write_vec(&module, &info, &spv::Options::default(), None);
        let words = words.unwrap_or_else(|error| panic!("{kernel:?} for Vulkan: {error}"));
        assert_eq!(words.first(), Some(&0x0723_0203), "{kernel:?}: SPIR-V begins with its number");
        // DX12 has no cooperative matrices.
        if !by_matrices(kernel) {
            let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
            let mut text = String::new();
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .unwrap_or_else(|error| panic!("{kernel:?} for DX12: {error}"));
            let threads = ["numthreads(64, 1, 1)", "numthreads(256, 1, 1)"];
            assert!(threads.iter().any(|threads| text.contains(threads)), "{kernel:?}: {text}");
        }
        let version = if by_matrices(kernel) { (2, 3) } else { msl::Options::default().lang_version };
        let options = msl::Options { lang_version: version, ..msl::Options::default() };
        let pipeline = msl::PipelineOptions::default();
        let written = msl::write_string(&module, &info, &options, &pipeline);
        let (text, _) = written.unwrap_or_else(|error| panic!("{kernel:?} for Metal: {error}"));
        assert!(text.contains("kernel void"), "{kernel:?}: {text}");
    }
    println!("{} variants", kernels.len());
}

#[test]
fn bindings_are_those_that_shaders_declare() {
    for kernel in Kernel::all() {
        let module = parse(kernel, &kernel.source());
        let storage = |write: bool| {
            let declared = module.global_variables.iter().filter(|(_, variable)| match variable.space {
                naga::AddressSpace::Storage { access } => access.contains(naga::StorageAccess::STORE) == write,
                _ => false,
            });
            declared.filter_map(|(_, variable)| variable.binding).map(|binding| binding.binding).collect::<Vec<_>>()
        };
        let (reads, writes) = kernel.bindings();
        // The step is at 1.
        let mut read: Vec<u32> = storage(false);
        read.sort_unstable();
        assert_eq!(read, (1..reads + 2).collect::<Vec<_>>(), "{kernel:?} reads");
        let mut written = storage(true);
        written.sort_unstable();
        assert_eq!(written, (reads + 2..reads + 2 + writes).collect::<Vec<_>>(), "{kernel:?} writes");
    }
}
