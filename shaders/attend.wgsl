// Attention of QUERIES queries that share a head of keys and values: heads of a group, and rows one after the other. Page by page,
// as flash attention does (arXiv:2205.14135), in segments of 256 positions that are merged first to last. KEY_DIM and VALUE_DIM are
// a head's columns. SPLIT: a workgroup has one segment and writes its sums for attend_merge.wgsl; otherwise it has all of them.
// Twin: `segment` of kernels/scalar/attention.rs.
//
// A query's sums are the same whatever is beside it: a score is the sum of four strided parts, positions of a page are dealt to
// four quarters of the threads, each adds its own in order over a segment, and the quarters are added first to last. What a query
// does not see has weight 0 and changes nothing.

@group(0) @binding(2) var<storage, read> query: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> key_cache: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> value_cache: array<u32>;
@group(0) @binding(5) var<storage, read> sinks: array<f32>;

const PAGE = 64u;
const SEGMENT_PAGES = 4u;
const QUARTERS = 4u;
const KEY_FOURS = KEY_DIM / 4u;
const VALUE_PAIRS = VALUE_DIM / 2u;

var<workgroup> scaled: array<vec4<f32>, QUERIES * KEY_FOURS>;
var<workgroup> parts: array<f32, QUERIES * THREADS>;
// Scores of a page, then their weights.
var<workgroup> weights: array<f32, QUERIES * PAGE>;
var<workgroup> page_most: array<f32, QUERIES * 16u>;
var<workgroup> factors: array<f32, QUERIES>;
// Of the segment: the largest score, the sum of weights, the weighted values.
var<workgroup> most: array<f32, QUERIES>;
var<workgroup> sums: array<f32, QUERIES>;
var<workgroup> folded: array<f32, QUERIES * VALUE_DIM>;
// Of all segments so far.
var<workgroup> all_most: array<f32, QUERIES>;
var<workgroup> all_sums: array<f32, QUERIES>;
// What each query sees: the first position, and the last; nothing if the first is later.
var<workgroup> seen: array<vec2<u32>, QUERIES>;

// Queries of a head of keys are counted row by row, the heads of its group one after the other.
fn heads_of_group() -> u32 {
    return params.heads / params.kv_heads;
}

fn row_of(item: u32) -> u32 {
    return item / heads_of_group();
}

// A query's place among those of all rows.
fn place_of(item: u32, kv_head: u32) -> u32 {
    return row_of(item) * params.heads + kv_head * heads_of_group() + item % heads_of_group();
}

fn sequence_of(item: u32) -> u32 {
    return step.data[step.sequences + row_of(item)];
}

fn position_of(item: u32) -> u32 {
    return step.data[step.positions + row_of(item)];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count);
    let kv_head = index % params.kv_heads;
    let items = step.tokens * heads_of_group();
    var first = index / params.kv_heads * QUERIES;
    let end = min(first + QUERIES, items);
    // Those of one sequence are done together.
    while (first < end) {
        let sequence = sequence_of(first);
        var next = first + 1u;
        while (next < end && sequence_of(min(next, items - 1u)) == sequence) {
            next++;
        }
        attend(thread, kv_head, first, next - first, at.z);
        first = next;
        workgroupBarrier();
    }
}

fn attend(thread: u32, kv_head: u32, item0: u32, queries: u32, segment_at: u32) {
    let pages = step.data[step.tables + params.group * step.sequences_count + sequence_of(item0)];
    var first_page = 0xffffffffu;
    var last_page = 0u;
    for (var q = 0u; q < queries; q++) {
        let position = position_of(item0 + q);
        first_page = min(first_page, first_seen(position) / PAGE);
        last_page = max(last_page, position / PAGE);
    }
    if (thread < QUERIES) {
        seen[thread] = vec2<u32>(1u, 0u);
        if (thread < queries) {
            let position = position_of(item0 + thread);
            seen[thread] = vec2<u32>(first_seen(position), position);
        }
        all_most[thread] = LEAST;
        all_sums[thread] = 0.0;
    }
    for (var i = thread; i < QUERIES * KEY_FOURS; i += THREADS) {
        let item = item0 + min(i / KEY_FOURS, queries - 1u);
        scaled[i] = query[place_of(item, kv_head) * KEY_FOURS + i % KEY_FOURS] * params.scale;
    }
    //repeat $h HELD
    var held$h = 0.0;
    //end
    var segment = first_page / SEGMENT_PAGES;
    var last_segment = last_page / SEGMENT_PAGES;
    if (SPLIT) {
        if (segment_at < segment || segment_at > last_segment) {
            return;
        }
        segment = segment_at;
        last_segment = segment_at;
    }
    for (; segment <= last_segment; segment++) {
        let from_page = max(first_page, segment * SEGMENT_PAGES);
        let to_page = min(last_page, segment * SEGMENT_PAGES + SEGMENT_PAGES - 1u);
        one_segment(thread, kv_head, item0, pages, from_page, to_page);
        if (SPLIT) {
            write_segment(thread, kv_head, item0, queries, segment);
            return;
        }
        //repeat $h HELD
        {
            let i = thread + $hu * THREADS;
            if (i < QUERIES * VALUE_DIM) {
                let q = i / VALUE_DIM;
                let larger = max(all_most[q], most[q]);
                held$h = fma(folded[i], relative(most[q], larger), held$h * relative(all_most[q], larger));
            }
        }
        //end
        workgroupBarrier();
        if (thread < QUERIES) {
            let larger = max(all_most[thread], most[thread]);
            let before = all_sums[thread] * relative(all_most[thread], larger);
            all_sums[thread] = fma(sums[thread], relative(most[thread], larger), before);
            all_most[thread] = larger;
        }
        workgroupBarrier();
    }
    //repeat $h HELD
    {
        let i = thread + $hu * THREADS;
        if (i < QUERIES * VALUE_DIM) {
            let q = i / VALUE_DIM;
            let head = kv_head * heads_of_group() + (item0 + min(q, queries - 1u)) % heads_of_group();
            folded[i] = last_value(held$h, all_most[q], all_sums[q], head);
        }
    }
    //end
    workgroupBarrier();
    write(thread, kv_head, item0, queries);
}

// The pages of a segment that some query sees.
fn one_segment(thread: u32, kv_head: u32, item0: u32, pages: u32, from_page: u32, to_page: u32) {
    let quarter = thread / 64u;
    let lane = thread % 64u;
    //repeat $q QUERIES
    var sum$q = 0.0;
    //repeat $o OWN
    var result$q_$o = vec2<f32>(0.0);
    //end
    //end
    if (thread < QUERIES) {
        most[thread] = LEAST;
    }
    workgroupBarrier();
    for (var page = from_page; page <= to_page; page++) {
        let place = step.data[pages + page] * PAGE;
        page_scores(thread, kv_head, item0, page, place);
        // What no query sees may never have been written.
        var last = 0u;
        var begin = PAGE;
        for (var q = 0u; q < QUERIES; q++) {
            if (seen[q].y >= page * PAGE && seen[q].x < page * PAGE + PAGE && seen[q].x <= seen[q].y) {
                begin = min(begin, max(seen[q].x, page * PAGE) - page * PAGE);
                last = max(last, min(seen[q].y - page * PAGE, PAGE - 1u));
            }
        }
        //repeat $q QUERIES
        let factor$q = factors[$q];
        sum$q *= factor$q;
        //repeat $o OWN
        result$q_$o *= factor$q;
        //end
        //end
        // From the first of the quarter's positions that is seen.
        for (var p = begin + (quarter + QUARTERS - begin % QUARTERS) % QUARTERS; p <= last; p += QUARTERS) {
            let value = ((place + p) * params.kv_heads + kv_head) * VALUE_PAIRS;
            //repeat $o OWN
            var two$o = vec2<f32>(0.0);
            if ($ou * 64u + lane < VALUE_PAIRS) {
                two$o = unpack2x16float(value_cache[value + $ou * 64u + lane]);
            }
            //end
            //repeat $q QUERIES
            {
                let weight = weights[$qu * PAGE + p];
                sum$q += weight;
                //repeat $o OWN
                result$q_$o = fma(vec2<f32>(weight), two$o, result$q_$o);
                //end
            }
            //end
        }
    }
    for (var turn = 0u; turn < QUARTERS; turn++) {
        if (quarter == turn) {
            //repeat $q QUERIES
            if (lane == 0u) {
                sums[$q] = select(sums[$q] + sum$q, sum$q, turn == 0u);
            }
            //repeat $o OWN
            if ($ou * 64u + lane < VALUE_PAIRS) {
                let i = $qu * VALUE_DIM + 2u * ($ou * 64u + lane);
                folded[i] = select(folded[i] + result$q_$o.x, result$q_$o.x, turn == 0u);
                folded[i + 1u] = select(folded[i + 1u] + result$q_$o.y, result$q_$o.y, turn == 0u);
            }
            //end
            //end
        }
        workgroupBarrier();
    }
}

// Scores of a page's positions, the largest so far, and what each position weighs.
fn page_scores(thread: u32, kv_head: u32, item0: u32, page: u32, place: u32) {
    let fourth = thread % 4u;
    //repeat $q QUERIES
    var score$q = 0.0;
    //end
    let key = ((place + thread / 4u) * params.kv_heads + kv_head) * KEY_FOURS;
    for (var i = fourth; i < KEY_FOURS; i += 4u) {
        let halves = key_cache[key + i];
        let a = unpack2x16float(halves.x);
        let b = unpack2x16float(halves.y);
        //repeat $q QUERIES
        {
            let four = scaled[$qu * KEY_FOURS + i];
            score$q = fma(four.x, a.x, score$q);
            score$q = fma(four.y, a.y, score$q);
            score$q = fma(four.z, b.x, score$q);
            score$q = fma(four.w, b.y, score$q);
        }
        //end
    }
    //repeat $q QUERIES
    parts[$qu * THREADS + thread] = score$q;
    //end
    workgroupBarrier();
    for (var i = thread; i < QUERIES * PAGE; i += THREADS) {
        let part = i / PAGE * THREADS + 4u * (i % PAGE);
        var score = ((parts[part] + parts[part + 1u]) + parts[part + 2u]) + parts[part + 3u];
        if (params.softcap != 0.0) {
            // Built-in tanh may overflow for large values.
            score = params.softcap * tanh(clamp(score / params.softcap, -15.0, 15.0));
        }
        let position = page * PAGE + i % PAGE;
        let sees = seen[i / PAGE];
        if (params.slopes != 0u) {
            let head = kv_head * heads_of_group() + (item0 + i / PAGE) % heads_of_group();
            score -= sinks[params.sinks * params.heads + head] * f32(sees.y - position);
        }
        weights[i] = select(LEAST, score, position >= sees.x && position <= sees.y);
    }
    workgroupBarrier();
    if (thread < QUERIES * 16u) {
        let i = thread / 16u * PAGE + thread % 16u * 4u;
        page_most[thread] = max(max(weights[i], weights[i + 1u]), max(weights[i + 2u], weights[i + 3u]));
    }
    workgroupBarrier();
    if (thread < QUERIES) {
        let before = most[thread];
        var larger = before;
        for (var i = 0u; i < 16u; i++) {
            larger = max(larger, page_most[thread * 16u + i]);
        }
        factors[thread] = relative(before, larger);
        most[thread] = larger;
    }
    workgroupBarrier();
    for (var i = thread; i < QUERIES * PAGE; i += THREADS) {
        let position = page * PAGE + i % PAGE;
        let sees = seen[i / PAGE];
        weights[i] = select(0.0, exp(weights[i] - most[i / PAGE]), position >= sees.x && position <= sees.y);
    }
    workgroupBarrier();
}
