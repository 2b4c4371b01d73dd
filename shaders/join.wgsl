// Concatenates two parts of each head; y is shared by all heads if it is one head wide. Twin: `join` of device/cpu/rows.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    heads: u32,
    // Columns of a head of x, and of one of y.
    x_width: u32,
    y_width: u32,
    shared_y: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= rows(params.wanted_only) * params.columns) {
        return;
    }
    let width = params.x_width + params.y_width;
    let head = index / width;
    let column = index % width;
    if (column < params.x_width) {
        out[index] = x[head * params.x_width + column];
    } else {
        let part = select(head, head / params.heads, params.shared_y != 0u);
        out[index] = y[part * params.y_width + column - params.x_width];
    }
}
