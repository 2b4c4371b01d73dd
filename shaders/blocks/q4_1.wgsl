// Q4_1, a row in parts: 16 bytes of nibbles a block, low ones first, then scales and minimums.
const APART = false;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let facts = unpack2x16float(word(row + params.columns / 8u + group));
    let nibbles = four_words(row + group * 4u);
    let first = nibbles & vec4<u32>(0x0f0f0f0fu);
    let second = (nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    return Group(first, second, vec2<f32>(facts.x), vec2<i32>(1), vec2<f32>(facts.y));
}
