// x = min(max(x, -limit), limit). Twin: `clamp` of kernels/elementwise.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    x[index] = clamp(x[index], -params.limit, params.limit);
}
