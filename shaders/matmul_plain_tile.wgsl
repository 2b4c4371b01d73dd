// Products of F32, F16 and BF16 weights with f32 activations, 64 rows and 64 tokens a workgroup. The columns are gone through chain
// by chain, in the order in which matmul_plain.wgsl's lanes have them and add them up.

fn work(index: u32, token0: u32, tokens: u32, thread: u32) {
    // What a thread loads: four columns of one row and one token.
    let own = thread % SIDE;
    let part = 4u * (thread / SIDE);
    let row0 = index * SIDE;
    // Beyond the last row and token, the last one is multiplied once more and not stored.
    let row = min(row0 + own, params.matrices[MATRIX].rows - 1u) * params.matrices[MATRIX].row_words;
    let token = min(token0 + own, tokens - 1u);
    // What it computes.
    let rows4 = thread % 16u;
    let tokens4 = thread / 16u;
    //repeat $t FOUR
    //repeat $r FOUR
    var sum$r_$t = 0.0;
    //end
    //end
    for (var lane = 0u; lane < LANES; lane++) {
        //repeat $t FOUR
        //repeat $r FOUR
        var chain$r_$t = 0.0;
        //end
        //end
        for (var unit = 16u * lane; unit < params.columns; unit += 16u * LANES) {
            let column = unit + part;
            if (column < params.columns) {
                let weights4 = read_weights(row, column);
                let x4 = read_x(token, column);
                //repeat $k FOUR
                weight_values[(part + $ku) * 16u + own / 4u][own % 4u] = weights4[$k];
                token_values[(part + $ku) * 16u + own / 4u][own % 4u] = x4[$k];
                //end
            }
            workgroupBarrier();
            // Behind the last four columns nothing was written, and nothing is added by lanes.
            let count = min(16u, (params.columns - unit + 3u) / 4u * 4u);
            for (var k = 0u; k < count; k += 4u) {
                //repeat $k FOUR
                {
                    let weight = weight_values[(k + $ku) * 16u + rows4];
                    let value = token_values[(k + $ku) * 16u + tokens4];
                    //repeat $t FOUR
                    //repeat $r FOUR
                    chain$r_$t = fma(weight[$r], value[$t], chain$r_$t);
                    //end
                    //end
                }
                //end
            }
            workgroupBarrier();
        }
        //repeat $t FOUR
        //repeat $r FOUR
        sum$r_$t += chain$r_$t;
        //end
        //end
    }
    //repeat $t FOUR
    //repeat $r FOUR
    if (row0 + 4u * rows4 + $ru < params.matrices[MATRIX].rows && token0 + 4u * tokens4 + $tu < tokens) {
        store(row0 + 4u * rows4 + $ru, token0 + 4u * tokens4 + $tu, sum$r_$t);
    }
    //end
    //end
}
