// Q4_0, a block in five words: the scale (two bytes of it unused), 16 bytes of nibbles, low ones first.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 5u;
    let nibbles = four_words(at + 1u);
    let first = minus(nibbles & vec4<u32>(0x0f0f0f0fu), 0x08080808u);
    let second = minus((nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu), 0x08080808u);
    return Group(first, second, vec2<f32>(unpack2x16float(weights[at]).x), vec2<i32>(1), vec2<f32>(0.0));
}
