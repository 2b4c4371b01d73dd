// Causal convolution of each column over its last TAPS rows, with bias and activation. One thread a row and column.
// Twin: `convolve_plain` of kernels/recurrence/convolve.rs.
//
// The state is the TAPS - 1 rows before, oldest first. Who reads it is the first TAPS - 1 rows of a sequence: the thread of the
// last row computes these, too, and then writes what the next step starts from, so that no one reads what is already new.

struct Params {
    columns: u32,
    group: u32,
    bias: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const BEFORE = TAPS - 1u;

// Rows of the same sequence before this one in the step, at most BEFORE.
fn earlier(row: u32) -> u32 {
    var count = 0u;
    while (count < BEFORE && count < row && sequence_of(row - count - 1u) == sequence_of(row)) {
        count++;
    }
    return count;
}

// One result: `have` rows before it are in the step, the others in the state.
fn convolve(row: u32, have: u32, column: u32, place: u32) {
    var sum = 0.0;
    for (var tap = 0u; tap < TAPS; tap++) {
        var value: f32;
        if (have + tap < BEFORE) {
            value = state[place + (have + tap) * params.columns];
        } else {
            value = x[(row + tap - BEFORE) * params.columns + column];
        }
        sum = fma(weight[column * TAPS + tap], value, sum);
    }
    if (params.bias != 0u) {
        sum += bias[column];
    }
    if (ACTIVATES) {
        sum = activated(sum);
    }
    out[row * params.columns + column] = sum;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    if (index >= step.tokens * params.columns) {
        return;
    }
    let row = index / params.columns;
    let column = index % params.columns;
    let have = earlier(row);
    let place = page_of(row, params.group) * BEFORE * params.columns + column;
    if (have == BEFORE) {
        convolve(row, BEFORE, column, place);
    }
    if (!is_last(row)) {
        return;
    }
    // The rows that read the state: at most BEFORE, this one among them unless it has as many before it.
    var first = row - have;
    while (have == BEFORE && first > 0u && sequence_of(first - 1u) == sequence_of(row)) {
        first--;
    }
    for (var other = first; other <= row && other - first < BEFORE; other++) {
        convolve(other, other - first, column, place);
    }
    let rows = min(row - first + 1u, BEFORE);
    for (var old = 0u; old < BEFORE; old++) {
        var value: f32;
        if (old + rows < BEFORE) {
            value = state[place + (old + rows) * params.columns];
        } else {
            value = x[(row + 1u + old - BEFORE) * params.columns + column];
        }
        state[place + old * params.columns] = value;
    }
}
