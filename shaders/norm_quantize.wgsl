// A norm of whole rows whose result is only multiplied with quantised weights: written as int8, by the rule of levels.wgsl. One
// workgroup a row, a thread every THREADS-th four columns. KIND is 0 for RMS, 1 for layer norm, 2 for L2. Twins: see norm.wgsl.

struct Params {
    wanted_only: u32,
    columns: u32,
    // Whether there is a weight, and a bias.
    weight: u32,
    bias: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> quantized: array<u32>;

const PART = 16u;

var<workgroup> partial: array<f32, THREADS>;
var<workgroup> partial_sums: array<f32, PART>;

// The sum of every thread's value: first 16 parts of neighbours, then those.
fn sum(thread: u32, value: f32) -> f32 {
    partial[thread] = value;
    workgroupBarrier();
    if (thread < PART) {
        var own = 0.0;
        for (var i = 0u; i < THREADS / PART; i++) {
            own += partial[thread * (THREADS / PART) + i];
        }
        partial_sums[thread] = own;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < PART; i++) {
        total += partial_sums[i];
    }
    return total;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = linear(at, count);
    if (row >= rows(params.wanted_only)) {
        return;
    }
    let fours = params.columns / 4u;
    let first = row * fours;
    let columns = f32(params.columns);
    var shift = 0.0;
    if (KIND == 1u) {
        var own = 0.0;
        for (var i = thread; i < fours; i += THREADS) {
            let four = x[first + i];
            own += (four.x + four.y) + (four.z + four.w);
        }
        shift = sum(thread, own) / columns;
        workgroupBarrier();
    }
    var own = 0.0;
    for (var i = thread; i < fours; i += THREADS) {
        let four = x[first + i] - shift;
        own = fma(four.x, four.x, own);
        own = fma(four.y, four.y, own);
        own = fma(four.z, four.z, own);
        own = fma(four.w, four.w, own);
    }
    let squares = sum(thread, own);
    var factor: f32;
    if (KIND == 2u) {
        factor = 1.0 / max(sqrt(squares), params.epsilon);
    } else {
        factor = 1.0 / sqrt(squares / columns + params.epsilon);
    }
    // Every thread goes round as often, since they wait for each other.
    for (var begin = 0u; begin < fours; begin += THREADS) {
        let i = begin + thread;
        var value = vec4<f32>(0.0);
        if (i < fours) {
            value = (x[first + i] - shift) * factor;
            if (params.weight != 0u) {
                value *= weight[i];
            }
            if (params.bias != 0u) {
                value += bias[i];
            }
        }
        write_levels(thread, first + i, i < fours, value);
    }
}
