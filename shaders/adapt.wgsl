// Scales the rows whose sequence uses an adapter, and clears the others. Twin: `adapt` of device/cpu/elementwise.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    adapter: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    let row = index / params.columns;
    let token = select(row, step.data[step.wanted + min(row, step.outputs - 1u)], params.wanted_only != 0u);
    let place = step.adapters + 2u * step.data[step.sequences + token] + params.adapter / 32u;
    let uses = ((step.data[place] >> (params.adapter % 32u)) & 1u) == 1u;
    x[index] = select(0.0, x[index] * params.scale, uses);
}
