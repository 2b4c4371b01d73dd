// Products by cooperative matrices. `matrices_blocks.wgsl` or `matrices_plain.wgsl` brings weights and activations.

fn work(index: u32, token0: u32, tokens: u32, thread: u32, subgroup: u32) {
    let row0 = index * ROWS;
    // Where a subgroup's rows and tokens begin.
    let rows = subgroup % ACROSS * ROW_TILES * SIZE;
    let own = subgroup / ACROSS * TOKEN_TILES * SIZE;
    //repeat $r ROW_TILES
    //repeat $t TOKEN_TILES
    var sum$r_$t = coop_mat16x16<f32, C>();
    //end
    //end
    for (var column = 0u; column < params.columns; column += COLUMNS) {
        load(row0, token0, tokens, column, thread);
        workgroupBarrier();
        //repeat $k STEPS
        {
            let at = $ku * (SIZE / 4u);
            //repeat $r ROW_TILES
            let weights$r = coopLoadT<coop_mat16x16<f16, A>>(&weight_halves[(rows + $ru * SIZE) * STRIDE + at], STRIDE);
            //end
            //repeat $t TOKEN_TILES
            let tokens$t = coopLoad<coop_mat16x16<f16, B>>(&token_halves[(own + $tu * SIZE) * STRIDE + at], STRIDE);
            //end
            //repeat $r ROW_TILES
            //repeat $t TOKEN_TILES
            sum$r_$t = coopMultiplyAdd(weights$r, tokens$t, sum$r_$t);
            //end
            //end
        }
        //end
        workgroupBarrier();
    }
    // Which of a subgroup's threads has which element is not known, so a matrix goes through memory.
    let slot = thread / SUBGROUP;
    //repeat $r ROW_TILES
    //repeat $t TOKEN_TILES
    coopStore(sum$r_$t, &results[subgroup * SIZE * SIZE], SIZE);
    workgroupBarrier();
    for (var i = thread % SUBGROUP; i < SIZE * SIZE; i += SUBGROUP) {
        let row = row0 + (slot % ACROSS * ROW_TILES + $ru) * SIZE + i % SIZE;
        let token = token0 + (slot / ACROSS * TOKEN_TILES + $tu) * SIZE + i / SIZE;
        if (row < params.matrices[MATRIX].rows && token < tokens) {
            store(row, token, results[slot * SIZE * SIZE + i]);
        }
    }
    workgroupBarrier();
    //end
    //end
}
