// Activations to int8, in groups of 32 columns: the form in which quantised weights are multiplied with them. One thread a group.
// Twin: `quantize` of kernels/scalar/matmul.rs, with the rule of `Scales`.
//
// A group is 12 words: 32 levels, scale, the multipliers of its halves (a byte each), the sum of its columns, and that of the
// first half.

struct Params {
    wanted_only: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

const MULTIPLIERS = 64.0;
const FAINT = 1e-30;
const INFINITY_BITS = 0x7f800000u;

// The largest magnitude, as bits: NaN and infinity are above every number.
fn largest(half: u32) -> u32 {
    var most = vec4<u32>(0u);
    for (var i = 0u; i < 4u; i++) {
        most = max(most, bitcast<vec4<u32>>(x[half * 4u + i]) & vec4<u32>(0x7fffffffu));
    }
    return max(max(most.x, most.y), max(most.z, most.w));
}

struct Half {
    levels: vec4<u32>,
    sum: i32,
}

fn levels(half: u32, inverse: f32) -> Half {
    var packed = vec4<u32>(0u);
    var sum = 0;
    for (var i = 0u; i < 4u; i++) {
        let word = pack4xI8(vec4<i32>(round(x[half * 4u + i] * inverse)));
        packed[i] = word;
        sum += dot4I8Packed(word, 0x01010101u);
    }
    return Half(packed, sum);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let group = linear(at, count) * 64u + thread;
    if (group >= rows(params.wanted_only) * (params.columns / 32u)) {
        return;
    }
    let bits = vec2<u32>(largest(2u * group), largest(2u * group + 1u));
    let most_bits = max(bits.x, bits.y);
    let most = bitcast<f32>(most_bits);
    var scale = most / (127.0 * MULTIPLIERS);
    var multipliers = vec2<i32>(1);
    var inverses = vec2<f32>(0.0);
    if (most_bits >= INFINITY_BITS) {
        // Not a number: every product with it shall be none either.
        scale = bitcast<f32>(most_bits | 0x7fc00000u);
    } else if (most < FAINT) {
        scale = 0.0;
    } else {
        let up = MULTIPLIERS / most;
        multipliers = min(vec2<i32>(bitcast<vec2<f32>>(bits) * up) + 1, vec2<i32>(64));
        inverses = (127.0 * MULTIPLIERS) / most / vec2<f32>(multipliers);
    }
    let first = levels(2u * group, inverses.x);
    let second = levels(2u * group + 1u, inverses.y);
    let first_sum = multipliers.x * first.sum;
    let sum = first_sum + multipliers.y * second.sum;
    out[3u * group] = first.levels;
    out[3u * group + 1u] = second.levels;
    out[3u * group + 2u] = vec4<u32>(
        bitcast<u32>(scale),
        u32(multipliers.x) | (u32(multipliers.y) << 8u),
        bitcast<u32>(scale * f32(sum)),
        bitcast<u32>(scale * f32(first_sum)),
    );
}
