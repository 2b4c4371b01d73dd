// The sum of a token's experts, expert by expert, each with its weight. Twin: `sum` of kernels/experts.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    used: u32,
    // Weights multiply; otherwise they have multiplied the input.
    weigh: u32,
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
    var sum = 0.0;
    for (var slot = 0u; slot < params.used; slot++) {
        let weight = select(1.0, routes[(2u * token + 1u) * params.used + slot], params.weigh != 0u);
        sum = fma(weight, x[(token * params.used + slot) * params.columns + column], sum);
    }
    out[index] = sum;
}
