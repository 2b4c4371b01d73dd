// Weights in words.
fn word(at: u32) -> u32 {
    return weights[at];
}

fn four_words(at: u32) -> vec4<u32> {
    return vec4<u32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}
