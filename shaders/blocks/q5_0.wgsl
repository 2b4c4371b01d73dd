// Q5_0, a block in six words: the scale (two bytes of it unused), 32 fifth bits, 16 bytes of nibbles, low ones first.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 6u;
    let bits = weights[at + 1u];
    let nibbles = four_words(at + 2u);
    let first = (nibbles & vec4<u32>(0x0f0f0f0fu)) | fifths(bits);
    let second = ((nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | fifths(bits >> 16u);
    let scale = unpack2x16float(weights[at]).x;
    return Group(minus(first, 0x10101010u), minus(second, 0x10101010u), vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
