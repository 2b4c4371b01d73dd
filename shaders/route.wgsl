// Chooses the experts of a row: their numbers, then their weights, as f32. One workgroup a row.
// Twin: `Chooser` of device/cpu/mixture.rs; only sums of exponentials are added in another order.

struct Params {
    wanted_only: u32,
    experts: u32,
    used: u32,
    // 0: softmax over all experts; 1: a sigmoid for each; 2: softmax over the chosen ones.
    gating: u32,
    // There is a bias; the choice is by raw scores.
    bias: u32,
    by_score: u32,
    // Groups of experts, and how many of them are considered.
    groups: u32,
    groups_used: u32,
    normalise: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const THREADS = 64u;
// `MOST_EXPERTS`, `MOST_USED` and `MOST_GROUPS` of runtime/gpu.
const EXPERTS = 1024u;
const USED = 64u;
const GROUPS = 64u;

// The key of negative infinity, and one below all others.
const NOTHING = 0x007fffffu;
const TAKEN = 0u;

var<workgroup> gated: array<f32, EXPERTS>;
// What the choice is made by.
var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> group_keys: array<u32, GROUPS>;
var<workgroup> partial: array<f32, THREADS>;
var<workgroup> best_keys: array<u32, THREADS>;
var<workgroup> best_experts: array<u32, THREADS>;
var<workgroup> chosen: array<u32, USED>;
var<workgroup> chosen_weights: array<f32, USED>;

// Grows with the number; that of NaN is negative infinity's.
fn key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return NOTHING;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn number(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}

// The sum or the largest of every thread's value.
fn together(thread: u32, value: f32, largest: bool) -> f32 {
    partial[thread] = value;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if (thread < reach) {
            let one = partial[thread];
            let other = partial[thread + reach];
            partial[thread] = select(one + other, max(one, other), largest);
        }
        workgroupBarrier();
    }
    let all = partial[0];
    workgroupBarrier();
    return all;
}

// Keeps only the groups with the best sum of their two best experts.
fn keep_best_groups(thread: u32) {
    let size = params.experts / params.groups;
    if (thread < params.groups) {
        var first = TAKEN;
        var second = TAKEN;
        for (var i = thread * size; i < (thread + 1u) * size; i++) {
            let own = keys[i];
            second = max(second, min(first, own));
            first = max(first, own);
        }
        group_keys[thread] = key(number(first) + number(second));
    }
    workgroupBarrier();
    if (thread < params.groups) {
        let own = group_keys[thread];
        var better = 0u;
        for (var other = 0u; other < params.groups; other++) {
            let ahead = group_keys[other] > own || (group_keys[other] == own && other < thread);
            better += select(0u, 1u, ahead);
        }
        if (better >= params.groups_used) {
            for (var i = thread * size; i < (thread + 1u) * size; i++) {
                keys[i] = NOTHING;
            }
        }
    }
    workgroupBarrier();
}

// The best of the experts that are not taken; of equals the first.
fn take_best(thread: u32) -> u32 {
    var best_key = TAKEN;
    var best = 0u;
    for (var i = thread; i < params.experts; i += THREADS) {
        if (keys[i] > best_key) {
            best_key = keys[i];
            best = i;
        }
    }
    best_keys[thread] = best_key;
    best_experts[thread] = best;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if (thread < reach) {
            let other_key = best_keys[thread + reach];
            let other = best_experts[thread + reach];
            let own_key = best_keys[thread];
            if (other_key > own_key || (other_key == own_key && other < best_experts[thread])) {
                best_keys[thread] = other_key;
                best_experts[thread] = other;
            }
        }
        workgroupBarrier();
    }
    let taken = best_experts[0];
    workgroupBarrier();
    return taken;
}

// Softmax over the chosen ones, their sum, their scale.
fn finish_weights() {
    let used = params.used;
    if (params.gating == 2u) {
        var largest = chosen_weights[0];
        for (var i = 1u; i < used; i++) {
            largest = max(largest, chosen_weights[i]);
        }
        var sum = 0.0;
        for (var i = 0u; i < used; i++) {
            chosen_weights[i] = exp(chosen_weights[i] - largest);
            sum += chosen_weights[i];
        }
        for (var i = 0u; i < used; i++) {
            chosen_weights[i] /= sum;
        }
    }
    if (params.normalise != 0u) {
        var sum = 0.0;
        for (var i = 0u; i < used; i++) {
            sum += chosen_weights[i];
        }
        sum = max(sum, 6.1035156e-5);
        for (var i = 0u; i < used; i++) {
            chosen_weights[i] /= sum;
        }
    }
    for (var i = 0u; i < used; i++) {
        chosen_weights[i] *= params.scale;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = linear(at, count);
    if (row >= rows(params.wanted_only)) {
        return;
    }
    let begin = row * params.experts;
    var most = -3.4028235e38;
    for (var i = thread; i < params.experts; i += THREADS) {
        most = max(most, scores[begin + i]);
    }
    most = together(thread, most, true);
    var own = 0.0;
    for (var i = thread; i < params.experts; i += THREADS) {
        var value = scores[begin + i];
        if (params.gating == 0u) {
            value = exp(value - most);
            own += value;
        } else if (params.gating == 1u) {
            value = 1.0 / (1.0 + exp(-value));
        }
        gated[i] = value;
    }
    let sum = together(thread, own, false);
    for (var i = thread; i < params.experts; i += THREADS) {
        if (params.gating == 0u) {
            gated[i] /= sum;
        }
        var value = gated[i];
        if (params.by_score != 0u) {
            value = scores[begin + i];
        }
        if (params.bias != 0u) {
            value += bias[i];
        }
        keys[i] = key(value);
    }
    workgroupBarrier();
    if (params.groups > 1u) {
        keep_best_groups(thread);
    }
    for (var n = 0u; n < params.used; n++) {
        let taken = take_best(thread);
        if (thread == 0u) {
            chosen[n] = taken;
            chosen_weights[n] = gated[taken];
            keys[taken] = TAKEN;
        }
        workgroupBarrier();
    }
    if (thread == 0u) {
        finish_weights();
    }
    workgroupBarrier();
    let place = 2u * row * params.used;
    for (var n = thread; n < params.used; n += THREADS) {
        out[place + n] = f32(chosen[n]);
        out[place + params.used + n] = chosen_weights[n];
    }
}
