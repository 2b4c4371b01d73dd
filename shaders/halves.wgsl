const PAGE = 64u;

// Where a row's position lies in the cache.
fn cache_place(row: u32, group: u32) -> u32 {
    let position = step.data[step.positions + row];
    let pages = step.data[step.tables + group * step.sequences_count + step.data[step.sequences + row]];
    return step.data[pages + position / PAGE] * PAGE + position % PAGE;
}

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
