// The most likely tokens of each block of a row's logits; see pick.wgsl. `asks` says which tokens take part.

struct Params {
    // Logits of a row, and its blocks.
    columns: u32,
    blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
// How many single logits are asked for, where these go, for each row the place of its bit mask of tokens (NONE: all take part).
@group(0) @binding(3) var<storage, read> asks: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec2<u32>>;

// Grows with the logit; 0 and -0 are the same, NaN is above all.
fn key_of(logit: f32) -> u32 {
    var bits = bitcast<u32>(logit);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0xffffffffu;
    }
    if (bits == 0x80000000u) {
        bits = 0u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = linear(at, count);
    let row = block / params.blocks;
    if (row >= step.outputs) {
        return;
    }
    let mask = asks[2u + row];
    let first = (block % params.blocks) * BLOCK;
    for (var i = thread; i < BLOCK; i += THREADS) {
        let token = first + i;
        var key = 0u;
        if (token < params.columns) {
            key = key_of(logits[row * params.columns + token]);
            if (mask != NONE && ((asks[mask + token / 32u] >> (token % 32u)) & 1u) == 0u) {
                key = 0u;
            }
        }
        keys[i] = key;
        tokens[i] = select(token, NONE, key == 0u);
    }
    keep(thread, block);
}
