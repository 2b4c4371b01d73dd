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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    let pairs = (params.key_columns + params.value_columns) / 2u;
    let row = index / pairs;
    if (row >= step.tokens) {
        return;
    }
    let pair = index % pairs;
    let place = cache_place(row, params.group);
    let key_pairs = params.key_columns / 2u;
    if (pair < key_pairs) {
        key_cache[place * key_pairs + pair] = two_halves(keys[row * key_pairs + pair]);
    } else {
        let value_pairs = params.value_columns / 2u;
        let own = pair - key_pairs;
        value_cache[place * value_pairs + own] = two_halves(values[row * value_pairs + own]);
    }
}
