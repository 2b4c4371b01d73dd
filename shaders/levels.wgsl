// Activations to int8, in groups of 32 columns: the form in which quantised weights are multiplied with them. A thread has four
// columns, eight neighbours a group. Twin: `quantize` of kernels/scalar/matmul.rs, with the rule of `Scales`.
//
// A group is 12 words: 32 levels, scale, the multipliers of its halves (a byte each), the sum of its columns, and that of the
// first half. A shader that writes them declares `quantized` and THREADS.

const MULTIPLIERS = 64.0;
const FAINT = 1e-30;
const INFINITY_BITS = 0x7f800000u;

var<workgroup> magnitudes: array<u32, THREADS>;
var<workgroup> level_sums: array<i32, THREADS>;

// The largest magnitude of four threads, as bits: NaN and infinity are above every number.
fn largest_of(thread: u32) -> u32 {
    let first = max(magnitudes[thread], magnitudes[thread + 1u]);
    return max(first, max(magnitudes[thread + 2u], magnitudes[thread + 3u]));
}

fn sum_of(thread: u32) -> i32 {
    return level_sums[thread] + level_sums[thread + 1u] + level_sums[thread + 2u] + level_sums[thread + 3u];
}

// Writes the four columns at `4 * four` of all rows; every thread of a workgroup calls it, those with nothing to write not `inside`.
// Threads of a group are neighbours, the first at a multiple of eight.
fn write_levels(thread: u32, four: u32, inside: bool, value: vec4<f32>) {
    let sizes = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
    magnitudes[thread] = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
    workgroupBarrier();
    let leader = thread & ~7u;
    let bits = vec2<u32>(largest_of(leader), largest_of(leader + 4u));
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
    let inverse = select(inverses.x, inverses.y, (thread & 4u) != 0u);
    let word = pack4xI8(vec4<i32>(round(value * inverse)));
    level_sums[thread] = dot4I8Packed(word, 0x01010101u);
    workgroupBarrier();
    if (!inside) {
        return;
    }
    let group = four / 8u * 12u;
    quantized[group + four % 8u] = word;
    if (thread == leader) {
        let first_sum = multipliers.x * sum_of(leader);
        let sum = first_sum + multipliers.y * sum_of(leader + 4u);
        quantized[group + 8u] = bitcast<u32>(scale);
        quantized[group + 9u] = u32(multipliers.x) | (u32(multipliers.y) << 8u);
        quantized[group + 10u] = bitcast<u32>(scale * f32(sum));
        quantized[group + 11u] = bitcast<u32>(scale * f32(first_sum));
    }
}
