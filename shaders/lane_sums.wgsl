// LANES threads share what they add up.

const THREADS = 64u;

var<workgroup> partial: array<f32, THREADS>;

// The sum over the LANES threads that a thread is one of, added pairwise.
fn sum_of_lanes(thread: u32, value: f32) -> f32 {
    let lane = thread % LANES;
    workgroupBarrier();
    partial[thread] = value;
    workgroupBarrier();
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        if (lane < reach) {
            partial[thread] += partial[thread + reach];
        }
        workgroupBarrier();
    }
    return partial[thread - lane];
}
