// Activations to int8, by the rule of levels.wgsl; one thread four columns.

struct Params {
    wanted_only: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> quantized: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let four = linear(at, count) * THREADS + thread;
    let inside = four < rows(params.wanted_only) * (params.columns / 4u);
    var value = vec4<f32>(0.0);
    if (inside) {
        value = x[four];
    }
    write_levels(thread, four, inside, value);
}
