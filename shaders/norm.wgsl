// Normalises groups of `width` columns, one workgroup a group. KIND is 0 for RMS, 1 for layer norm, 2 for L2.
// Twins: `rms_norm`, `layer_norm`, `l2_norm` of kernels/scalar/elementwise.rs.

struct Params {
    wanted_only: u32,
    columns: u32,
    width: u32,
    // Elements of the weight and the bias, 0 for none: as many as a group's, or as a row's.
    weight: u32,
    bias: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const THREADS = 64u;

var<workgroup> partial: array<f32, THREADS>;

// The sum of every thread's value, added pairwise.
fn sum(thread: u32, value: f32) -> f32 {
    partial[thread] = value;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if (thread < reach) {
            partial[thread] += partial[thread + reach];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let group = linear(at, count);
    if (group >= rows(params.wanted_only) * (params.columns / params.width)) {
        return;
    }
    let first = group * params.width;
    var shift = 0.0;
    if (KIND == 1u) {
        var own = 0.0;
        for (var i = thread; i < params.width; i += THREADS) {
            own += x[first + i];
        }
        shift = sum(thread, own) / f32(params.width);
    }
    var own = 0.0;
    for (var i = thread; i < params.width; i += THREADS) {
        let value = x[first + i] - shift;
        own = fma(value, value, own);
    }
    let squares = sum(thread, own);
    var factor: f32;
    if (KIND == 2u) {
        factor = 1.0 / max(sqrt(squares), params.epsilon);
    } else {
        factor = 1.0 / sqrt(squares / f32(params.width) + params.epsilon);
    }
    let row_first = first % params.columns;
    for (var i = thread; i < params.width; i += THREADS) {
        var value = (x[first + i] - shift) * factor;
        if (params.weight != 0u) {
            value *= weight[(row_first + i) % params.weight];
        }
        if (params.bias != 0u) {
            value += bias[(row_first + i) % params.bias];
        }
        out[first + i] = value;
    }
}
