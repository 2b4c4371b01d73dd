// Weights in vectors of four words: one wide read where four narrow ones would be checked and sent one by one.
fn word(at: u32) -> u32 {
    return weights[at / 4u][at % 4u];
}

// Four words, the first of which is the first of a vector.
fn four_words(at: u32) -> vec4<u32> {
    return weights[at / 4u];
}
