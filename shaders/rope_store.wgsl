// What is done between the products of a layer and its attention, at once: rotates queries in place; rotates keys on their way into
// the cache, and puts values there. First a thread for each pair of the queries, then one for two elements of the keys, then of the
// values. Twins: see rope.wgsl and store.wgsl, whose sums these are.

struct Params {
    group: u32,
    heads: u32,
    kv_heads: u32,
    // Columns of a head.
    key_dim: u32,
    value_dim: u32,
    // The first rotated element of a head, and the number of pairs.
    first: u32,
    pairs: u32,
    // Pairs are (2i, 2i + 1) instead of (i, i + pairs).
    adjacent: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> angles: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> queries: array<f32>;
@group(0) @binding(6) var<storage, read_write> key_cache: array<u32>;
@group(0) @binding(7) var<storage, read_write> value_cache: array<u32>;

// The rotated pair of two elements.
fn rotated(row: u32, pair: u32, a: f32, b: f32) -> vec2<f32> {
    let cosine = angles[row * 2u * params.pairs + pair];
    let sine = angles[row * 2u * params.pairs + params.pairs + pair];
    return vec2<f32>(fma(a, cosine, -(b * sine)), fma(a, sine, b * cosine));
}

// The place of a pair's first element among a head's, and of its second.
fn pair_elements(pair: u32) -> vec2<u32> {
    if (params.adjacent != 0u) {
        return params.first + 2u * pair + vec2<u32>(0u, 1u);
    }
    return params.first + pair + vec2<u32>(0u, params.pairs);
}

// An element of a key's head that begins at `start`, rotated if it is among those that are.
fn key_element(row: u32, start: u32, element: u32) -> f32 {
    let at = element - params.first;
    if (element < params.first || at >= 2u * params.pairs) {
        return keys[start + element];
    }
    let pair = select(at % params.pairs, at / 2u, params.adjacent != 0u);
    let second = select(at >= params.pairs, at % 2u == 1u, params.adjacent != 0u);
    let places = start + pair_elements(pair);
    let both = rotated(row, pair, keys[places.x], keys[places.y]);
    return select(both.x, both.y, second);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    let query_pairs = params.heads * params.pairs;
    let key_twos = params.kv_heads * params.key_dim / 2u;
    let value_twos = params.kv_heads * params.value_dim / 2u;
    let row = index / (query_pairs + key_twos + value_twos);
    if (row >= step.tokens) {
        return;
    }
    var own = index % (query_pairs + key_twos + value_twos);
    if (own < query_pairs) {
        let pair = own % params.pairs;
        let places = (row * params.heads + own / params.pairs) * params.key_dim + pair_elements(pair);
        let both = rotated(row, pair, queries[places.x], queries[places.y]);
        queries[places.x] = both.x;
        queries[places.y] = both.y;
        return;
    }
    own -= query_pairs;
    let place = cache_place(row, params.group);
    if (own < key_twos) {
        let element = 2u * own % params.key_dim;
        let start = row * 2u * key_twos + 2u * own - element;
        let two = vec2<f32>(key_element(row, start, element), key_element(row, start, element + 1u));
        key_cache[place * key_twos + own] = two_halves(two);
        return;
    }
    own -= key_twos;
    value_cache[place * value_twos + own] = two_halves(values[row * value_twos + own]);
}
