@group(0) @binding(6) var<storage, read_write> quantized: array<u32>;

// Writes the results of a tile as int8 (levels.wgsl).
fn write(thread: u32, kv_head: u32, item0: u32, queries: u32) {
    const FOURS = VALUE_DIM / 4u;
    for (var begin = 0u; begin < QUERIES * FOURS; begin += THREADS) {
        let i = begin + thread;
        let inside = i < queries * FOURS;
        var value = vec4<f32>(0.0);
        var four = 0u;
        if (inside) {
            value = vec4<f32>(folded[4u * i], folded[4u * i + 1u], folded[4u * i + 2u], folded[4u * i + 3u]);
            four = place_of(item0 + i / FOURS, kv_head) * FOURS + i % FOURS;
        }
        write_levels(thread, four, inside, value);
    }
}

fn write_segment(thread: u32, kv_head: u32, item0: u32, queries: u32, segment: u32) {}
