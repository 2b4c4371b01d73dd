// F16 and BF16 weights, and activations in f32, as f16.

fn load(row0: u32, token0: u32, tokens: u32, column: u32, thread: u32) {
    let fours = COLUMNS / 4u;
    for (var i = thread; i < ROWS * fours; i += THREADS) {
        let own = column + 4u * (i % fours);
        var four = vec4<f32>();
        if (own < params.columns) {
            // Beyond the last row and token, the last one is multiplied once more and not stored.
            let row = min(row0 + i / fours, params.matrices[MATRIX].rows - 1u);
            four = read_weights(row * params.matrices[MATRIX].row_words, own);
        }
        weight_halves[i / fours * STRIDE + i % fours] = halves(four);
    }
    for (var i = thread; i < TOKENS * fours; i += THREADS) {
        let own = column + 4u * (i % fours);
        var four = vec4<f32>();
        if (own < params.columns) {
            four = read_x(min(token0 + i / fours, tokens - 1u), own);
        }
        token_halves[i / fours * STRIDE + i % fours] = halves(four);
    }
}
