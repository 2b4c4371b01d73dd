// The most likely tokens of what blocks of a row have kept; see pick.wgsl.

struct Params {
    // Candidates of a row, and the blocks that they are now.
    candidates: u32,
    blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> lists: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec2<u32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = linear(at, count);
    let row = block / params.blocks;
    if (row >= step.outputs) {
        return;
    }
    let first = (block % params.blocks) * BLOCK;
    for (var i = thread; i < BLOCK; i += THREADS) {
        var candidate = vec2<u32>(0u, NONE);
        if (first + i < params.candidates) {
            candidate = lists[row * params.candidates + first + i];
        }
        keys[i] = candidate.x;
        tokens[i] = candidate.y;
    }
    keep(thread, block);
}
