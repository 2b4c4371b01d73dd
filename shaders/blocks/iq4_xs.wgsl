// IQ4_XS as it is in the file, 34 words for 256 columns: scale and 16 upper bits of the groups' scales, 32 lower bits of these,
// 128 bytes of nibbles, 16 a group. A group's scale is six bits, less 32.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let block = row + (group / 8u) * 34u;
    let part = group % 8u;
    let facts = word(block);
    let low = (word(block + 1u) >> (4u * part)) & 15u;
    let high = (facts >> (16u + 2u * part)) & 3u;
    let scale = unpack2x16float(facts).x * f32(i32(low | (high << 4u)) - 32);
    return coded_group(four_words(block + 2u + 4u * part), CODES, scale);
}
