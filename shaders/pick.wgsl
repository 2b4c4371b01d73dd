// The KEEP most likely of up to 1,024 candidates, most likely first; of equals the one with the smaller number. Workgroups do so
// with blocks of a row, then with what these kept, until one block is left. Exact: nothing is computed, only compared.
// Twin: `select_top` and `argmax` of sampling/select.rs. A candidate is a key that grows with its logit, and its token.

const THREADS = 64u;
const BLOCK = 1024u;
const NONE = 0xffffffffu;

var<workgroup> keys: array<u32, BLOCK>;
var<workgroup> tokens: array<u32, BLOCK>;

fn is_ahead(one: u32, other: u32) -> bool {
    return keys[one] > keys[other] || (keys[one] == keys[other] && tokens[one] < tokens[other]);
}

// Each thread's best of 16, then the best of these.
fn keep_best(thread: u32) {
    var best = thread;
    for (var i = thread + THREADS; i < BLOCK; i += THREADS) {
        if (is_ahead(i, best)) {
            best = i;
        }
    }
    let key = keys[best];
    let token = tokens[best];
    workgroupBarrier();
    keys[thread] = key;
    tokens[thread] = token;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if (thread < reach && is_ahead(thread + reach, thread)) {
            keys[thread] = keys[thread + reach];
            tokens[thread] = tokens[thread + reach];
        }
        workgroupBarrier();
    }
}

// A bitonic sort (Batcher 1968), best first.
fn sort(thread: u32) {
    for (var size = 2u; size <= BLOCK; size *= 2u) {
        for (var reach = size / 2u; reach > 0u; reach /= 2u) {
            for (var i = thread; i < BLOCK / 2u; i += THREADS) {
                let low = 2u * i - (i & (reach - 1u));
                let high = low + reach;
                let wrong = select(is_ahead(low, high), is_ahead(high, low), (low & size) == 0u);
                if (wrong) {
                    let key = keys[low];
                    let token = tokens[low];
                    keys[low] = keys[high];
                    tokens[low] = tokens[high];
                    keys[high] = key;
                    tokens[high] = token;
                }
            }
            workgroupBarrier();
        }
    }
}

// Keeps the best of a block that every thread has loaded its part of.
fn keep(thread: u32, block: u32) {
    workgroupBarrier();
    if (KEEP == 1u) {
        keep_best(thread);
    } else {
        sort(thread);
    }
    for (var i = thread; i < KEEP; i += THREADS) {
        out[block * KEEP + i] = vec2<u32>(keys[i], tokens[i]);
    }
}
