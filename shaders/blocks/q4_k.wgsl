// Q4_K as it is in the file, 36 words for 256 columns: four words of scales, 128 bytes of nibbles, of which 32 hold two groups.
const APART = false;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 36u;
    let part = group % 8u;
    let facts = k_scales(block, part);
    let at = block + 4u + 8u * (part / 2u);
    let shift = vec4<u32>(4u * (part % 2u));
    let first = (four_words(at) >> shift) & vec4<u32>(0x0f0f0f0fu);
    let second = (four_words(at + 4u) >> shift) & vec4<u32>(0x0f0f0f0fu);
    return Group(first, second, vec2<f32>(facts.x), vec2<i32>(1), vec2<f32>(facts.y));
}
