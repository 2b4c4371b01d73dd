// Attention of a row's head over the positions that it sees, one workgroup for each row and head: page by page, as flash
// attention does (arXiv:2205.14135). A thread computes one position's score, then some columns of the result, positions in order: a
// result depends on neither what else is in the step nor how the prompt was cut. KEY_DIM and VALUE_DIM are a head's columns.
// Twin: `segment` of kernels/scalar/attention.rs.

struct Params {
    group: u32,
    heads: u32,
    kv_heads: u32,
    // 0: everything before is seen; 1: the last `window` positions; 2: one's own chunk of as many.
    window_kind: u32,
    window: u32,
    sinks: u32,
    scale: f32,
    // 0: no cap.
    softcap: f32,
    // Behind the sinks, or where they would be, is for each head what a score loses per position of distance.
    slopes: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> query: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> key_cache: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> value_cache: array<u32>;
@group(0) @binding(5) var<storage, read> sinks: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec2<f32>>;

const THREADS = 64u;
const PAGE = 64u;
const KEY_FOURS = KEY_DIM / 4u;
const VALUE_PAIRS = VALUE_DIM / 2u;
const OWN = (VALUE_PAIRS + THREADS - 1u) / THREADS;
// Less than any score, and finite: differences of it are numbers.
const LEAST = -3.0e38;

var<workgroup> scaled: array<vec4<f32>, KEY_FOURS>;
var<workgroup> scores: array<f32, PAGE>;
var<workgroup> weights: array<f32, PAGE>;

fn first_seen(position: u32) -> u32 {
    if (params.window_kind == 1u) {
        return position + 1u - min(position + 1u, params.window);
    }
    if (params.window_kind == 2u) {
        return position / params.window * params.window;
    }
    return 0u;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count);
    let row = index / params.heads;
    let head = index % params.heads;
    if (row >= step.tokens) {
        return;
    }
    let kv_head = head / (params.heads / params.kv_heads);
    let position = step.data[step.positions + row];
    let pages = step.data[step.tables + params.group * step.sequences_count + step.data[step.sequences + row]];
    let first = first_seen(position);
    for (var i = thread; i < KEY_FOURS; i += THREADS) {
        scaled[i] = query[(row * params.heads + head) * KEY_FOURS + i] * params.scale;
    }
    workgroupBarrier();
    var most = LEAST;
    var sum = 0.0;
    var result: array<vec2<f32>, OWN>;
    for (var page = first / PAGE; page <= position / PAGE; page++) {
        let place = step.data[pages + page] * PAGE;
        let begin = max(first, page * PAGE) - page * PAGE;
        let end = min(position - page * PAGE, PAGE - 1u);
        var score = LEAST;
        if (thread >= begin && thread <= end) {
            score = 0.0;
            let key = ((place + thread) * params.kv_heads + kv_head) * KEY_FOURS;
            for (var i = 0u; i < KEY_FOURS; i++) {
                let halves = key_cache[key + i];
                let a = unpack2x16float(halves.x);
                let b = unpack2x16float(halves.y);
                let q = scaled[i];
                score = fma(q.x, a.x, score);
                score = fma(q.y, a.y, score);
                score = fma(q.z, b.x, score);
                score = fma(q.w, b.y, score);
            }
            if (params.softcap != 0.0) {
                score = params.softcap * tanh(score / params.softcap);
            }
            if (params.slopes != 0u) {
                score -= sinks[params.sinks * params.heads + head] * f32(position - page * PAGE - thread);
            }
        }
        scores[thread] = score;
        workgroupBarrier();
        let before = most;
        for (var i = begin; i <= end; i++) {
            most = max(most, scores[i]);
        }
        weights[thread] = exp(score - most);
        workgroupBarrier();
        let factor = exp(before - most);
        sum *= factor;
        for (var own = 0u; own < OWN; own++) {
            result[own] *= factor;
        }
        for (var i = begin; i <= end; i++) {
            let weight = weights[i];
            sum += weight;
            for (var own = 0u; own < OWN; own++) {
                let pair = own * THREADS + thread;
                if (pair < VALUE_PAIRS) {
                    let value = unpack2x16float(value_cache[((place + i) * params.kv_heads + kv_head) * VALUE_PAIRS + pair]);
                    result[own] = fma(vec2<f32>(weight), value, result[own]);
                }
            }
        }
        workgroupBarrier();
    }
    if (params.sinks != 0u) {
        let before = most;
        most = max(most, sinks[head]);
        let factor = exp(before - most);
        sum = sum * factor + exp(sinks[head] - most);
        for (var own = 0u; own < OWN; own++) {
            result[own] *= factor;
        }
    }
    for (var own = 0u; own < OWN; own++) {
        let pair = own * THREADS + thread;
        if (pair < VALUE_PAIRS) {
            out[(row * params.heads + head) * VALUE_PAIRS + pair] = result[own] / sum;
        }
    }
}
