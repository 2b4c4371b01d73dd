// Scales queries with the logarithm of their position. Twin: `temperature` of device/cpu/attend.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    scale: f32,
    length: f32,
    offset: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    let position = step.data[step.positions + index / params.columns];
    let periods = floor((f32(position) + params.offset) / params.length);
    x[index] *= 1.0 + params.scale * log(1.0 + periods);
}
