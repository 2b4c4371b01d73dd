// Products of F32, F16 and BF16 weights with f32 activations, for TOKENS rows of activations at once. `plain/TYPE.wgsl` reads four
// weights; sixteen are a unit. Twin: `plain_rows` of kernels/scalar/matmul.rs; for the rest see matmul.wgsl.

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
    for (var unit = 16u * lane; unit < params.columns; unit += 16u * LANES) {
        //repeat $p FOUR
        if (unit + 4u * $pu < params.columns) {
            let column = unit + 4u * $pu;
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
        //end
    }
    //repeat $r ROWS
    //repeat $t TOKENS
    partial[($ru * TOKENS + $tu) * STRIDE + thread] = sum$r_$t;
    //end
    //end
    finish(thread, row0, token0, tokens);
}
