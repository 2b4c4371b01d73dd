// Q5_0, a row in parts: 16 bytes of nibbles a block, low ones first, then 32 fifth bits a block, then the scales.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let bits = word(row + params.columns / 8u + group);
    let nibbles = four_words(row + group * 4u);
    let first = (nibbles & vec4<u32>(0x0f0f0f0fu)) | fifths(bits);
    let second = ((nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | fifths(bits >> 16u);
    let scale = half_at(row + params.columns / 8u + params.columns / 32u, group);
    return Group(minus(first, 0x10101010u), minus(second, 0x10101010u), vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
