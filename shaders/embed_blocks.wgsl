const STRIDE = 32u;

// A group of 32 columns.
fn embed(weight_row: u32, group: u32, out_row: u32) {
    let read = read_group(weight_row, group);
    let scales = read.scale * vec2<f32>(read.multipliers);
    let place = out_row + 32u * group;
    for (var word = 0u; word < 4u; word++) {
        let first = vec4<f32>(unpack4xI8(read.first[word]));
        let second = vec4<f32>(unpack4xI8(read.second[word]));
        for (var i = 0u; i < 4u; i++) {
            out[place + 4u * word + i] = params.scale * fma(scales.x, first[i], read.offset.x);
            out[place + 16u + 4u * word + i] = params.scale * fma(scales.y, second[i], read.offset.y);
        }
    }
}
