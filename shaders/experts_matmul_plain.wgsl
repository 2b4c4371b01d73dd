// Products of experts' F32, F16 and BF16 weights with f32 activations; `plain/TYPE.wgsl` and `experts.wgsl` are put before it.
// Each sum is added in an order that the columns alone decide. Twin: `experts` of kernels/experts.rs.

@group(0) @binding(3) var<storage, read> x: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % LANES;
    let row0 = (linear(at, count) * (THREADS / LANES) + thread / LANES) * ROWS;
    let tile = tile_at(at.z);
    if (tile.pairs == 0u) {
        return;
    }
    var sums: array<f32, SUMS>;
    for (var column = 4u * lane; column < params.columns; column += 4u * LANES) {
        var read: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            read[r] = read_weights(weight_row(tile, row0 + r), column);
        }
        for (var t = 0u; t < TOKENS; t++) {
            let four = read_x(x_row(pair_of(tile, t)), column);
            for (var r = 0u; r < ROWS; r++) {
                var total = sums[r * TOKENS + t];
                total = fma(read[r].x, four.x, total);
                total = fma(read[r].y, four.y, total);
                total = fma(read[r].z, four.z, total);
                total = fma(read[r].w, four.w, total);
                sums[r * TOKENS + t] = total;
            }
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        partial[i * THREADS + thread] = sums[i];
    }
    finish(thread, row0, tile);
}
