// Single logits that are asked for, behind the candidates that were picked: those which penalties and biases will change.

struct Params {
    // The first word of the places of the logits in `asks`.
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<u32>;
@group(0) @binding(3) var<storage, read> asks: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= asks[0]) {
        return;
    }
    out[asks[1] + index] = logits[asks[params.first + index]];
}
