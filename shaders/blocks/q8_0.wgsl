// Q8_0, a row in parts: the levels of all blocks, then their scales.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 8u;
    let scale = half_at(row + params.columns / 4u, group);
    return Group(four_words(at), four_words(at + 4u), vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
