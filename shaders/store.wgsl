// Stores the rows' keys and values in the cache, as f16: `(page, position in the page, head, element)`. One thread two elements.
// Twin: `store` of kernels/scalar/attention.rs, apart from the order in a page.

struct Params {
    group: u32,
    key_columns: u32,
    value_columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> keys: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> key_cache: array<u32>;
@group(0) @binding(5) var<storage, read_write> value_cache: array<u32>;

const PAGE = 64u;

// Two f32 to the nearest f16, ties to even, clamped to the largest: the built-in function may round in any way.
fn two_halves(x: vec2<f32>) -> u32 {
    let clamped = clamp(x, vec2<f32>(-65504.0), vec2<f32>(65504.0));
    return half_bits(clamped.x) | (half_bits(clamped.y) << 16u);
}

fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return sign | 0x7e00u;
    }
    if (size < 0x38800000u) {
        // Below the smallest normal f16: adding 0.5 leaves units of 2^-24 in the lowest bits, rounded to the nearest even.
        return sign | (bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u);
    }
    return sign | ((size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    let pairs = (params.key_columns + params.value_columns) / 2u;
    let row = index / pairs;
    if (row >= step.tokens) {
        return;
    }
    let pair = index % pairs;
    let position = step.data[step.positions + row];
    let pages = step.data[step.tables + params.group * step.sequences_count + step.data[step.sequences + row]];
    let place = step.data[pages + position / PAGE] * PAGE + position % PAGE;
    let key_pairs = params.key_columns / 2u;
    if (pair < key_pairs) {
        key_cache[place * key_pairs + pair] = two_halves(keys[row * key_pairs + pair]);
    } else {
        let value_pairs = params.value_columns / 2u;
        let own = pair - key_pairs;
        value_cache[place * value_pairs + own] = two_halves(values[row * value_pairs + own]);
    }
}
