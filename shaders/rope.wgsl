// Rotates pairs of each head's columns by the rows' positions, in place; one thread a pair. The angles' cosines and sines are
// computed once a step on the CPU, in f64: `(rows, pairs of cosines, pairs of sines)`.
// Twins: `rope_normal`, `rope_neox` of kernels/elementwise/lanes.rs.

struct Params {
    columns: u32,
    heads: u32,
    // The first rotated element of a head, and the number of pairs.
    first: u32,
    pairs: u32,
    // Pairs are (2i, 2i + 1) instead of (i, i + pairs).
    adjacent: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> angles: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    let row = index / (params.heads * params.pairs);
    if (row >= step.tokens) {
        return;
    }
    let head = (index / params.pairs) % params.heads;
    let pair = index % params.pairs;
    let start = row * params.columns + head * (params.columns / params.heads) + params.first;
    let a = start + select(pair, 2u * pair, params.adjacent != 0u);
    let b = select(a + params.pairs, a + 1u, params.adjacent != 0u);
    let cosine = angles[row * 2u * params.pairs + pair];
    let sine = angles[row * 2u * params.pairs + params.pairs + pair];
    let x_a = x[a];
    let x_b = x[b];
    x[a] = fma(x_a, cosine, -(x_b * sine));
    x[b] = fma(x_a, sine, x_b * cosine);
}
