// Q2_K as it is in the file, 21 words for 256 columns: 16 bytes with a nibble of scale and one of minimum for each half of a group,
// 64 bytes of bit pairs, of which 32 hold four groups, the scales of both.
const APART = true;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 21u;
    let part = group % 8u;
    let at = block + 4u + 8u * (part / 4u);
    let shift = vec4<u32>(2u * (part % 4u));
    let first = (four_words(at) >> shift) & vec4<u32>(0x03030303u);
    let second = (four_words(at + 4u) >> shift) & vec4<u32>(0x03030303u);
    let halves = vec2<u32>(word(block + part / 2u) >> (16u * (part % 2u))) >> vec2<u32>(0u, 8u);
    let facts = unpack2x16float(word(block + 20u));
    let scale = facts.x * vec2<f32>(halves & vec2<u32>(15u));
    let offset = -(facts.y * vec2<f32>((halves >> vec2<u32>(4u)) & vec2<u32>(15u)));
    return Group(first, second, scale, vec2<i32>(1), offset);
}
