// The gated delta rule over the rows of a sequence. LANES threads a column of a head's values, each with some of its KEY_DIM state
// elements, which stay in registers for all rows. Twin: `gated_delta` of kernels/scalar/recurrence.rs.

struct Params {
    group: u32,
    key_heads: u32,
    value_heads: u32,
    value_dim: u32,
    // Adjacent value heads share a key head; otherwise keys repeat.
    interleaved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> queries: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read> decays: array<f32>;
@group(0) @binding(6) var<storage, read> betas: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

const COLUMNS = THREADS / LANES;
const OWN = (KEY_DIM + LANES - 1u) / LANES;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let columns = params.value_heads * params.value_dim;
    let blocks = (columns + COLUMNS - 1u) / COLUMNS;
    let index = linear(at, count);
    let first = index / blocks;
    if (first >= step.tokens) {
        return;
    }
    if (!is_first(first)) {
        return;
    }
    let lane = thread % LANES;
    let wanted = (index % blocks) * COLUMNS + thread / LANES;
    // Beyond the last column, that one is computed once more and not stored.
    let column = min(wanted, columns - 1u);
    let head = column / params.value_dim;
    let adjacent = head / (params.value_heads / params.key_heads);
    let key_head = select(head % params.key_heads, adjacent, params.interleaved != 0u);
    let page = page_of(first, params.group);
    let place = (page * params.value_heads + head) * KEY_DIM * params.value_dim + column % params.value_dim;
    var s: array<f32, OWN>;
    for (var own = 0u; own < OWN; own++) {
        let k = own * LANES + lane;
        if (k < KEY_DIM) {
            s[own] = state[place + k * params.value_dim];
        }
    }
    let sequence = sequence_of(first);
    for (var row = first; row < step.tokens && sequence_of(row) == sequence; row++) {
        let decay = exp(decays[row * params.value_heads + head]);
        let key = (row * params.key_heads + key_head) * KEY_DIM;
        var found = 0.0;
        for (var own = 0u; own < OWN; own++) {
            let k = own * LANES + lane;
            if (k < KEY_DIM) {
                s[own] *= decay;
                found = fma(s[own], keys[key + k], found);
            }
        }
        found = sum_of_lanes(thread, found);
        let delta = (values[row * columns + column] - found) * betas[row * params.value_heads + head];
        var sum = 0.0;
        for (var own = 0u; own < OWN; own++) {
            let k = own * LANES + lane;
            if (k < KEY_DIM) {
                s[own] = fma(keys[key + k], delta, s[own]);
                sum = fma(s[own], queries[key + k], sum);
            }
        }
        let result = sum_of_lanes(thread, sum);
        if (lane == 0u && wanted == column) {
            out[row * columns + column] = result;
        }
    }
    for (var own = 0u; own < OWN; own++) {
        let k = own * LANES + lane;
        if (k < KEY_DIM && wanted == column) {
            state[place + k * params.value_dim] = s[own];
        }
    }
}
