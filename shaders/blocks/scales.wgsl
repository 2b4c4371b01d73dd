// One of a row's scales, which lie behind its levels as f16, two a word.
fn half_at(begin: u32, at: u32) -> f32 {
    let two = unpack2x16float(word(begin + at / 2u));
    return select(two.x, two.y, (at & 1u) == 1u);
}
