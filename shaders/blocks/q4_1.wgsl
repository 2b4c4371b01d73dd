// Q4_1, a block in five words: scale and minimum, 16 bytes of nibbles, low ones first.
const APART = false;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 5u;
    let facts = unpack2x16float(weights[at]);
    let nibbles = four_words(at + 1u);
    let first = nibbles & vec4<u32>(0x0f0f0f0fu);
    let second = (nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    return Group(first, second, vec2<f32>(facts.x), vec2<i32>(1), vec2<f32>(facts.y));
}
