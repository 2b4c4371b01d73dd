// Levels that are looked up: a table of 16 signed bytes in four words, by nibbles, four of which lie in the bytes of each word.
fn coded(nibbles: u32, table: vec4<u32>) -> u32 {
    let four = (vec4<u32>(nibbles) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    let fourth = (four & vec4<u32>(4u)) != vec4<u32>(0u);
    let below = select(vec4<u32>(table.x), vec4<u32>(table.y), fourth);
    let above = select(vec4<u32>(table.z), vec4<u32>(table.w), fourth);
    let words = select(below, above, (four & vec4<u32>(8u)) != vec4<u32>(0u));
    let bytes = (words >> ((four & vec4<u32>(3u)) << vec4<u32>(3u))) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

// The first half of a group from low nibbles, the second from high ones.
fn coded_group(nibbles: vec4<u32>, table: vec4<u32>, scale: f32) -> Group {
    let high = nibbles >> vec4<u32>(4u);
    let first = vec4<u32>(coded(nibbles.x, table), coded(nibbles.y, table), coded(nibbles.z, table), coded(nibbles.w, table));
    let second = vec4<u32>(coded(high.x, table), coded(high.y, table), coded(high.z, table), coded(high.w, table));
    return Group(first, second, vec2<f32>(scale), vec2<i32>(1), vec2<f32>(0.0));
}
