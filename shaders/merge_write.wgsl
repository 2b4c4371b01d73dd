@group(0) @binding(4) var<storage, read_write> out: array<f32>;

fn write(thread: u32, place: u32, first: u32, last: u32) {
    for (var column = thread; column < VALUE_DIM; column += THREADS) {
        out[place * VALUE_DIM + column] = merged(place, column, first, last);
    }
}
