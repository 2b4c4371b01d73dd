// x = cap * tanh(x / cap). Twin: `softcap` of kernels/scalar/elementwise.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    // Built-in tanh may overflow for large values.
    x[index] = params.cap * tanh(clamp(x[index] / params.cap, -15.0, 15.0));
}
