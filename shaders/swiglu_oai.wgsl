// out = gate * sigmoid(alpha * gate) * (up + 1), both within a limit. Twin: `swiglu_oai` of kernels/scalar/elementwise.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    alpha: f32,
    limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    let g = min(gate[index], params.limit);
    let u = clamp(up[index], -params.limit, params.limit);
    out[index] = g / (1.0 + exp(-params.alpha * g)) * (u + 1.0);
}
