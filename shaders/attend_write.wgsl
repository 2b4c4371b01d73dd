@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// Writes the results of a tile.
fn write(thread: u32, kv_head: u32, item0: u32, queries: u32) {
    for (var i = thread; i < queries * VALUE_DIM; i += THREADS) {
        out[place_of(item0 + i / VALUE_DIM, kv_head) * VALUE_DIM + i % VALUE_DIM] = folded[i];
    }
}

fn write_segment(thread: u32, kv_head: u32, item0: u32, queries: u32, segment: u32) {}
