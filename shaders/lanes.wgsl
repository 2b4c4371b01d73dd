// The shape of products for a few tokens: LANES threads share a row's chains, ROWS rows and TOKENS tokens are a thread's sums.
const SUMS = ROWS * TOKENS;
// Sums of one row and token side by side; one more, so that threads which add them read from different banks.
const STRIDE = THREADS + 1u;

// Every thread's sums.
var<workgroup> partial: array<f32, STRIDE * SUMS>;
