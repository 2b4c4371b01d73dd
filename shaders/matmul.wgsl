// Products of quantised weights with int8 activations, for TOKENS rows of activations at once: weights are read once for all of them.
// `blocks/TYPE.wgsl` reads a group of 32 weights. Twin: `quantised_rows` of kernels/scalar/matmul.rs.

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

fn work(index: u32, token0: u32, tokens: u32, thread: u32) {
    let lane = thread % LANES;
    let row0 = (index * (THREADS / LANES) + thread / LANES) * ROWS;
    let groups = params.columns / 32u;
    // Beyond the last row and token, the last one is multiplied once more and not stored.
    let last = params.matrices[MATRIX].rows - 1u;
    //repeat $t TOKENS
    let levels$t = min(token0 + $tu, tokens - 1u) * groups;
    //end
    //repeat $r ROWS
    let start$r = min(row0 + $ru, last) * params.matrices[MATRIX].row_words;
    //repeat $t TOKENS
    var sum$r_$t = 0.0;
    //end
    //end
    for (var unit = lane; unit * UNIT < groups; unit += LANES) {
        //repeat $p UNIT
        {
            let group = group_of(unit, $pu);
            //repeat $r ROWS
            let read$r = read_group(start$r, group);
            //end
            //repeat $t TOKENS
            {
                let at = 3u * (levels$t + group);
                let first = x[at];
                let second = x[at + 1u];
                let facts = x[at + 2u];
                //repeat $r ROWS
                let products$r = vec2<i32>(dot16(read$r.first, first), dot16(read$r.second, second));
                sum$r_$t = add_group(sum$r_$t, read$r, products$r, facts);
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
