// Q4_0, a row in parts: 16 bytes of nibbles a block, low ones first, then the scales.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let nibbles = four_words(row + group * 4u);
    let first = minus(nibbles & vec4<u32>(0x0f0f0f0fu), 0x08080808u);
    let second = minus((nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu), 0x08080808u);
    let scale = half_at(row + params.columns / 8u, group);
    return Group(first, second, vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
