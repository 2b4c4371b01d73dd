// Q8_0, a block in nine words: the scale (two bytes of it unused), 32 levels.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 9u;
    let scale = unpack2x16float(weights[at]).x;
    return Group(four_words(at + 1u), four_words(at + 5u), vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
