// Adds the sums of a row's chains, first to last, and stores them, once every thread has written its own.
fn finish(thread: u32, row0: u32, token0: u32, tokens: u32) {
    let lane = thread % LANES;
    workgroupBarrier();
    for (var i = lane; i < SUMS; i += LANES) {
        let row = row0 + i / TOKENS;
        let token = token0 + i % TOKENS;
        let begin = i * STRIDE + thread - lane;
        var total = 0.0;
        //repeat $l LANES
        total += partial[begin + $lu];
        //end
        if (row < params.matrices[MATRIX].rows && token < tokens) {
            store(row, token, total);
        }
    }
}
