// Q4_K and Q5_K begin with the same four words: scale and scale of the minimums, and 12 bytes with six bits of scale and six of
// minimum for each of eight groups.
fn k_scales(block: u32, group: u32) -> vec2<f32> {
    let head = four_words(block);
    let facts = unpack2x16float(head.x);
    let scales = head.y;
    let minimums = head.z;
    let nibbles = head.w;
    let low = group < 4u;
    // Of the last four groups, a nibble each and the upper two bits of the first four groups' bytes.
    let scale = select((nibbles & 0x0f0f0f0fu) | ((scales >> 2u) & 0x30303030u), scales & 0x3f3f3f3fu, low);
    let minimum = select(((nibbles >> 4u) & 0x0f0f0f0fu) | ((minimums >> 2u) & 0x30303030u), minimums & 0x3f3f3f3fu, low);
    let shift = 8u * (group % 4u);
    return vec2<f32>(facts.x * f32((scale >> shift) & 255u), -(facts.y * f32((minimum >> shift) & 255u)));
}
