// Selective state spaces over the rows of a sequence, Mamba and Mamba-2. LANES threads a channel, each with some of its STATES
// elements, which stay in registers for all rows. Twins: `mamba1` (EACH: a decay for every element) and `mamba2` (one for each head)
// of kernels/scalar/recurrence.rs.

struct Params {
    group: u32,
    channels: u32,
    // Channels of a head; heads that share b and c; groups of these.
    head_dim: u32,
    heads_together: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> dt: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> c: array<f32>;
// a, then d.
@group(0) @binding(6) var<storage, read> decays: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

const CHANNELS = THREADS / LANES;
const OWN = (STATES + LANES - 1u) / LANES;

// log(1 + e^x), also where e^x is too small to change 1.
fn softplus(x: f32) -> f32 {
    let e = exp(-abs(x));
    let one = 1.0 + e;
    return max(x, 0.0) + select(log(one) * e / (one - 1.0), e, one == 1.0);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let blocks = (params.channels + CHANNELS - 1u) / CHANNELS;
    let index = linear(at, count);
    let first = index / blocks;
    if (first >= step.tokens) {
        return;
    }
    if (!is_first(first)) {
        return;
    }
    let lane = thread % LANES;
    let wanted = (index % blocks) * CHANNELS + thread / LANES;
    // Beyond the last channel, that one is computed once more and not stored.
    let channel = min(wanted, params.channels - 1u);
    let heads = params.channels / params.head_dim;
    let head = channel / params.head_dim;
    let shared_by = head / params.heads_together;
    let place = (page_of(first, params.group) * params.channels + channel) * STATES;
    let ds = select(heads, params.channels * STATES, EACH);
    var h: array<f32, OWN>;
    var a: array<f32, OWN>;
    for (var own = 0u; own < OWN; own++) {
        let n = own * LANES + lane;
        if (n < STATES) {
            h[own] = state[place + n];
            a[own] = decays[select(head, channel * STATES + n, EACH)];
        }
    }
    let sequence = sequence_of(first);
    for (var row = first; row < step.tokens && sequence_of(row) == sequence; row++) {
        let time = softplus(dt[row * heads + head]);
        let value = x[row * params.channels + channel];
        let scaled = value * time;
        let shares = (row * params.groups + shared_by) * STATES;
        var sum = 0.0;
        for (var own = 0u; own < OWN; own++) {
            let n = own * LANES + lane;
            if (n < STATES) {
                h[own] = fma(h[own], exp(time * a[own]), b[shares + n] * scaled);
                sum = fma(h[own], c[shares + n], sum);
            }
        }
        let result = sum_of_lanes(thread, sum);
        if (lane == 0u && wanted == channel) {
            out[row * params.channels + channel] = fma(decays[ds + head], value, result);
        }
    }
    for (var own = 0u; own < OWN; own++) {
        let n = own * LANES + lane;
        if (n < STATES && wanted == channel) {
            state[place + n] = h[own];
        }
    }
}
