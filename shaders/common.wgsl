// What every operation sees: its own parameters at binding 0 (declared by the operation), and at binding 1 the step, the rows
// that are computed together. Bindings from 2 on are the operation's buffers, those it only reads first.

struct Step {
    // Rows, and how many of them are wanted at the end.
    tokens: u32,
    outputs: u32,
    // Where these begin in `data`: each row's position, each row's sequence, the wanted rows, and the lists of pages: for each
    // group and sequence the place of its list in `data`, `sequences_count` of them a group.
    positions: u32,
    sequences: u32,
    wanted: u32,
    tables: u32,
    sequences_count: u32,
    // Where in `data` each sequence's set of adapters is: two words of bits.
    adapters: u32,
    // Rows that lanes or int8 tiles multiply; those behind them are multiplied by cooperative matrices.
    lanes: u32,
    data: array<u32>,
}

@group(0) @binding(1) var<storage, read> step: Step;

// A slot has a row for each token, or one for each wanted row.
fn rows(wanted_only: u32) -> u32 {
    return select(step.tokens, step.outputs, wanted_only != 0u);
}

// Workgroups are counted over two dimensions, of which one alone ends at 65,535.
fn linear(at: vec3<u32>, count: vec3<u32>) -> u32 {
    return at.x + at.y * count.x;
}
