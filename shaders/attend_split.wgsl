@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// Writes the sums of a segment.
fn write_segment(thread: u32, kv_head: u32, item0: u32, queries: u32, segment: u32) {
    for (var i = thread; i < queries * VALUE_DIM; i += THREADS) {
        let place = place_of(item0 + i / VALUE_DIM, kv_head) * params.segments + segment % params.segments;
        out[place * (VALUE_DIM + 2u) + i % VALUE_DIM] = folded[i];
    }
    if (thread < queries) {
        let place = place_of(item0 + thread, kv_head) * params.segments + segment % params.segments;
        out[place * (VALUE_DIM + 2u) + VALUE_DIM] = most[thread];
        out[place * (VALUE_DIM + 2u) + VALUE_DIM + 1u] = sums[thread];
    }
}

fn write(thread: u32, kv_head: u32, item0: u32, queries: u32) {}
