@group(0) @binding(4) var<storage, read_write> quantized: array<u32>;

// As int8 (levels.wgsl).
fn write(thread: u32, place: u32, first: u32, last: u32) {
    for (var begin = 0u; begin < VALUE_DIM / 4u; begin += THREADS) {
        let four = begin + thread;
        let inside = four < VALUE_DIM / 4u;
        var value = vec4<f32>(0.0);
        if (inside) {
            value.x = merged(place, 4u * four, first, last);
            value.y = merged(place, 4u * four + 1u, first, last);
            value.z = merged(place, 4u * four + 2u, first, last);
            value.w = merged(place, 4u * four + 3u, first, last);
        }
        write_levels(thread, place * (VALUE_DIM / 4u) + four, inside, value);
    }
}
