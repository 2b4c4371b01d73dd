// Products of F32, F16 and BF16 weights with f32 activations, for TOKENS rows of activations at once. `plain/TYPE.wgsl` reads four
// weights, which are a unit. Twin: `plain_rows` of kernels/scalar/matmul.rs; for the rest see matmul.wgsl.

// Four columns of a token; those behind the last are 0.
fn read_x(token: u32, column: u32) -> vec4<f32> {
    let start = token * params.columns + column;
    if (column + 4u <= params.columns) {
        return vec4<f32>(x[start], x[start + 1u], x[start + 2u], x[start + 3u]);
    }
    var four = vec4<f32>(0.0);
    for (var i = 0u; column + i < params.columns; i++) {
        four[i] = x[start + i];
    }
    return four;
}

fn work(index: u32, token0: u32, tokens: u32, thread: u32) {
    let lane = thread % LANES;
    let row0 = (index * (THREADS / LANES) + thread / LANES) * ROWS;
    let last = params.matrices[MATRIX].rows - 1u;
    //repeat $r ROWS
    let start$r = min(row0 + $ru, last) * params.matrices[MATRIX].row_words;
    //repeat $t TOKENS
    var sum$r_$t = 0.0;
    //end
    //end
    for (var column = 4u * lane; column < params.columns; column += 4u * LANES) {
        //repeat $r ROWS
        let read$r = read_weights(start$r, column);
        //end
        //repeat $t TOKENS
        {
            let four = read_x(min(token0 + $tu, tokens - 1u), column);
            //repeat $r ROWS
            sum$r_$t = fma(read$r.x, four.x, sum$r_$t);
            sum$r_$t = fma(read$r.y, four.y, sum$r_$t);
            sum$r_$t = fma(read$r.z, four.z, sum$r_$t);
            sum$r_$t = fma(read$r.w, four.w, sum$r_$t);
            //end
        }
        //end
    }
    //repeat $r ROWS
    //repeat $t TOKENS
    partial[($ru * TOKENS + $tu) * STRIDE + thread] = sum$r_$t;
    //end
    //end
    finish(thread, row0, token0, tokens);
}
