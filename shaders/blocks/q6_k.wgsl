// Q6_K, a row in parts: 52 words for 256 columns (128 bytes of nibbles, 64 of bit pairs, 16 signed scales), then a scale for each.
const APART = false;
const HALVES = true;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 52u;
    let half = (group % 8u) / 4u;
    let part = group % 4u;
    let low = block + 16u * half + 8u * (part % 2u);
    let high = block + 32u + 8u * half;
    let shift = vec4<u32>(4u * (part / 2u));
    let pair = vec4<u32>(2u * part);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let pairs = vec4<u32>(0x03030303u);
    let first = ((four_words(low) >> shift) & nibbles) | (((four_words(high) >> pair) & pairs) << vec4<u32>(4u));
    let second = ((four_words(low + 4u) >> shift) & nibbles) | (((four_words(high + 4u) >> pair) & pairs) << vec4<u32>(4u));
    let scales = unpack4xI8(word(block + 48u + (group % 8u) / 2u));
    let multipliers = select(scales.xy, scales.zw, (group & 1u) == 1u);
    let scale = half_at(row + params.columns / 256u * 52u, group / 8u);
    return Group(minus(first, 0x20202020u), minus(second, 0x20202020u), vec2<f32>(scale), multipliers, vec2<f32>(0.0));
}
