// Q3_K, 28 words for 256 columns: 32 bytes of third bits (bit n of each is group n's), 64 bytes of bit pairs, of which 32 hold four
// groups, 12 bytes of scales, a scale (two bytes of it unused). Half n has a scale of six bits, less 32: of the first eight bytes
// the low nibbles are those of halves 0 to 7, the high ones of 8 to 15; of the last four, each has a bit pair of four halves.
const APART = false;
const HALVES = true;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 28u;
    let part = group % 8u;
    let at = block + 8u + 8u * (part / 4u);
    let shift = vec4<u32>(2u * (part % 4u));
    let bit = vec4<u32>(part);
    let pairs = vec4<u32>(0x03030303u);
    let bits = vec4<u32>(0x01010101u);
    let first = ((four_words(at) >> shift) & pairs) | (((four_words(block) >> bit) & bits) << vec4<u32>(2u));
    let second = ((four_words(at + 4u) >> shift) & pairs) | (((four_words(block + 4u) >> bit) & bits) << vec4<u32>(2u));
    let byte = vec2<u32>(16u * (part % 2u)) + vec2<u32>(0u, 8u);
    let low = (vec2<u32>(word(block + 24u + (part % 4u) / 2u)) >> (byte + vec2<u32>(4u * (part / 4u)))) & vec2<u32>(15u);
    let high = (vec2<u32>(word(block + 26u)) >> (byte + vec2<u32>(2u * (part / 2u)))) & vec2<u32>(3u);
    let multipliers = vec2<i32>(low | (high << vec2<u32>(4u))) - 32;
    let scale = unpack2x16float(word(block + 27u)).x;
    return Group(minus(first, 0x04040404u), minus(second, 0x04040404u), vec2<f32>(scale), multipliers, vec2<f32>(0.0));
}
