// Products of experts' quantised weights with int8 activations; `blocks/TYPE.wgsl` and `experts.wgsl` are put before it.
// Each sum is added in an order that the columns alone decide. Twin: `experts` of kernels/experts.rs.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % LANES;
    let row0 = (linear(at, count) * (THREADS / LANES) + thread / LANES) * ROWS;
    let tile = tile_at(at.z);
    if (tile.pairs == 0u) {
        return;
    }
    let groups = params.columns / 32u;
    var sums: array<f32, SUMS>;
    for (var group = lane; group < groups; group += LANES) {
        var read: array<Group, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            read[r] = read_group(weight_row(tile, row0 + r), group);
        }
        for (var t = 0u; t < TOKENS; t++) {
            let start = (x_row(pair_of(tile, t)) * groups + group) * 3u;
            let first = x[start];
            let second = x[start + 1u];
            let facts = x[start + 2u];
            for (var r = 0u; r < ROWS; r++) {
                let products = vec2<i32>(dot16(read[r].first, first), dot16(read[r].second, second));
                sums[r * TOKENS + t] = add_group(sums[r * TOKENS + t], read[r], products, facts);
            }
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        partial[i * THREADS + thread] = sums[i];
    }
    finish(thread, row0, tile);
}
