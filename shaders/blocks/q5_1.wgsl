// Q5_1, a block in six words: scale and minimum, 32 fifth bits, 16 bytes of nibbles, low ones first.
const APART = false;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 6u;
    let facts = unpack2x16float(weights[at]);
    let bits = weights[at + 1u];
    let nibbles = four_words(at + 2u);
    let first = (nibbles & vec4<u32>(0x0f0f0f0fu)) | fifths(bits);
    let second = ((nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | fifths(bits >> 16u);
    return Group(first, second, vec2<f32>(facts.x), vec2<i32>(1), vec2<f32>(facts.y));
}
