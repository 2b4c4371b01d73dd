// Groups of quantised weights, and of activations in int8, as f16.

fn load(row0: u32, token0: u32, tokens: u32, column: u32, thread: u32) {
    let groups = params.columns / 32u;
    let parts = COLUMNS / 32u;
    for (var i = thread; i < ROWS * parts; i += THREADS) {
        let group = column / 32u + i % parts;
        let at = i / parts * STRIDE + i % parts * 8u;
        // Behind the last group nothing is added.
        var read = Group(vec4<u32>(), vec4<u32>(), vec2<f32>(), vec2<i32>(), vec2<f32>());
        if (group < groups) {
            // Beyond the last row and token, the last one is multiplied once more and not stored.
            let row = min(row0 + i / parts, params.matrices[MATRIX].rows - 1u);
            read = read_group(row * params.matrices[MATRIX].row_words, group);
        }
        let scale = read.scale * vec2<f32>(read.multipliers);
        //repeat $k FOUR
        weight_halves[at + $ku] = halves(fma(vec4<f32>(unpack4xI8(read.first[$k])), vec4<f32>(scale.x), vec4<f32>(read.offset.x)));
        weight_halves[at + 4u + $ku] = halves(fma(vec4<f32>(unpack4xI8(read.second[$k])), vec4<f32>(scale.y), vec4<f32>(read.offset.y)));
        //end
    }
    for (var i = thread; i < TOKENS * parts; i += THREADS) {
        let group = column / 32u + i % parts;
        let at = i / parts * STRIDE + i % parts * 8u;
        var first = vec4<u32>();
        var second = vec4<u32>();
        var scale = vec2<f32>();
        if (group < groups) {
            let start = 3u * (min(token0 + i / parts, tokens - 1u) * groups + group);
            first = x[start];
            second = x[start + 1u];
            // Scale and multipliers of the halves (levels.wgsl).
            let facts = x[start + 2u];
            scale = bitcast<f32>(facts.x) * vec2<f32>(f32(facts.y & 255u), f32(facts.y >> 8u));
        }
        //repeat $k FOUR
        token_halves[at + $ku] = halves(vec4<f32>(unpack4xI8(first[$k])) * scale.x);
        token_halves[at + 4u + $ku] = halves(vec4<f32>(unpack4xI8(second[$k])) * scale.y);
        //end
    }
}
