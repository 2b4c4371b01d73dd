// A row for each of a token's experts: the token's, multiplied by the expert's weight. Twin: `take_input` of
// kernels/experts/buffers.rs. `columns` are those of a token's rows together.

struct Params {
    wanted_only: u32,
    columns: u32,
    used: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> routes: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    let token = index / params.columns;
    let column = index % params.columns;
    let width = params.columns / params.used;
    let weight = routes[(2u * token + 1u) * params.used + column / width];
    out[index] = weight * x[token * width + column % width];
}
