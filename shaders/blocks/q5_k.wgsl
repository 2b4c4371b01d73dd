// Q5_K as it is in the file, 44 words for 256 columns: four words of scales, 32 bytes of fifth bits (bit n of each is group n's),
// 128 bytes of nibbles, of which 32 hold two groups.
const APART = false;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 44u;
    let part = group % 8u;
    let facts = k_scales(block, part);
    let at = block + 12u + 8u * (part / 2u);
    let shift = vec4<u32>(4u * (part % 2u));
    let bit = vec4<u32>(part);
    let fifth_first = ((four_words(block + 4u) >> bit) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);
    let fifth_second = ((four_words(block + 8u) >> bit) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);
    let first = ((four_words(at) >> shift) & vec4<u32>(0x0f0f0f0fu)) | fifth_first;
    let second = ((four_words(at + 4u) >> shift) & vec4<u32>(0x0f0f0f0fu)) | fifth_second;
    return Group(first, second, vec2<f32>(facts.x), vec2<i32>(1), vec2<f32>(facts.y));
}
