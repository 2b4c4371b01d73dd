//! Attention of every table against plain f64, against the scalar table, and against itself in other batches.

use half::f16;

use super::*;
use crate::kernels::{self, by_name, tables_under_test};
use crate::quant::{dequantize_row, encode};

mod hadamard;
mod scores;
mod storing;

/// Every combination of key and value types.
fn all_types() -> impl Iterator<Item = CacheTypes> {
    CacheType::ALL.into_iter().flat_map(|keys| CacheType::ALL.map(|values| CacheTypes { keys, values }))
}

/// What a cache of type `ty` holds of a row: encoded and decoded as GGUF blocks, without the cache's layout.
fn held(ty: CacheType, row: &[f32]) -> Vec<f32> {
    let most = f16::MAX.to_f32();
    if ty == CacheType::F16 {
        return row.iter().map(|value| f16::from_f32(value.clamp(-most, most)).to_f32()).collect();
    }
    let row: Vec<f32> = row.iter().map(|&value| if value.is_nan() { 0.0 } else { value.clamp(-most, most) }).collect();
    let blocks = match ty {
        CacheType::Q8_0 => satchel_gguf::TensorType::Q8_0,
        _ => satchel_gguf::TensorType::Q4_0,
    };
    let mut bytes = vec![0; ty.row_bytes(row.len()).expect("whole blocks") as usize];
    match ty {
        CacheType::Q4_0 => encode::q4_0_fitted(&row, &mut bytes),
        _ => encode::encoder(blocks).expect("it can be written")(&row, &mut bytes),
    }
    let mut held = vec![f32::NAN; row.len()];
    dequantize_row(blocks, &bytes, &mut held);
    held
}

/// The same of a head's keys of consecutive positions from 0 on, with the centres of Q4_0 pages: the first key, then the mean of
/// the page before.
fn held_keys(ty: CacheType, keys: &[f32], dim: usize) -> Vec<f32> {
    if ty != CacheType::Q4_0 {
        return held(ty, keys);
    }
    let mut all: Vec<f32> = Vec::new();
    let rounded =
        |value: f32| f16::from_f32(if value.is_nan() { 0.0 } else { value.clamp(-65504.0, 65504.0) }).to_f32();
    let mut centre: Vec<f32> = keys[..dim].iter().map(|&value| rounded(value)).collect();
    for page in keys.chunks(PAGE_TOKENS * dim) {
        let mut sums = vec![0.0; dim];
        for key in page.chunks_exact(dim) {
            let clean = |value: f32| if value.is_nan() { 0.0 } else { value.clamp(-65504.0, 65504.0) };
            let apart: Vec<f32> = key.iter().zip(&centre).map(|(&key, centre)| clean(key) - centre).collect();
            let key: Vec<f32> = held(ty, &apart).iter().zip(&centre).map(|(apart, centre)| apart + centre).collect();
            sums.iter_mut().zip(&key).for_each(|(sum, key)| *sum += key / PAGE_TOKENS as f32);
            all.extend(key);
        }
        centre = sums.into_iter().map(rounded).collect();
    }
    all
}

/// A deterministic sequence of numbers in -1..1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize, factor: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * factor).collect()
    }
}

/// Stores keys and values of positions `first ..` of a sequence with these pages.
fn store_at(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    pages: &mut [Vec<f16>],
    first: usize,
    keys: &[f32],
    values: &[f32],
) {
    let rows = 0..keys.len() / (shape.kv_heads * shape.key_dim);
    let (before, pages) = pages.split_at_mut(first / PAGE_TOKENS);
    let slot = first % PAGE_TOKENS;
    let pages = pages[..(slot + rows.end).div_ceil(PAGE_TOKENS)].iter_mut().map(Vec::as_mut_slice).collect();
    let before = before.last().map(Vec::as_slice);
    store(kernels, threads, shape, keys, values, &mut [NewPositions { rows, slot, pages, before }]);
}

/// A sequence: its pages, filled by `store` position by position, with NaN in every unused slot, and what they hold.
struct Sequence {
    pages: Vec<Vec<f16>>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Sequence {
    fn new(kernels: &Kernels, shape: &AttentionShape, length: usize, numbers: &mut Numbers, key_factor: f32) -> Self {
        let keys = numbers.take(length * shape.kv_heads * shape.key_dim, key_factor);
        let values = numbers.take(length * shape.kv_heads * shape.value_dim, 1.0);
        Self::of(kernels, shape, keys, values)
    }

    fn of(kernels: &Kernels, shape: &AttentionShape, keys: Vec<f32>, values: Vec<f32>) -> Self {
        let (columns, value_columns) = (shape.kv_heads * shape.key_dim, shape.kv_heads * shape.value_dim);
        let length = keys.len() / columns;
        let mut pages = vec![vec![f16::NAN; shape.page()]; length.div_ceil(PAGE_TOKENS)];
        let threads = Threads::new(1);
        for position in 0..length {
            let (key, value) = (&keys[position * columns..][..columns], &values[position * value_columns..]);
            store_at(kernels, &threads, shape, &mut pages, position, key, &value[..value_columns]);
        }
        let CacheTypes { keys: of_keys, values: of_values } = shape.cache;
        let dim = shape.key_dim;
        let head = |head: usize| -> Vec<f32> {
            keys.chunks_exact(dim).skip(head).step_by(shape.kv_heads).flatten().copied().collect()
        };
        let heads: Vec<Vec<f32>> = (0..shape.kv_heads).map(|at| held_keys(of_keys, &head(at), dim)).collect();
        let row = |position: usize| heads.iter().flat_map(move |head| &head[position * dim..][..dim]).copied();
        let keys = (0..length).flat_map(row).collect();
        Sequence { pages, keys, values: held(of_values, &values) }
    }

    fn pages(&self) -> Vec<&[f16]> {
        self.pages.iter().map(Vec::as_slice).collect()
    }
}

/// What the token at `visible - 1` sees: its own position and those before it, limited to the last `window`.
fn seeing<'a>(pages: &'a [&'a [f16]], visible: usize, window: Option<usize>) -> Query<'a> {
    let start = window.map_or(0, |window| visible.saturating_sub(window));
    Query { pages, positions: start..visible, position: visible.saturating_sub(1) }
}

/// One token's attention in f64, two passes, on the keys and values as the cache holds them.
fn reference(
    shape: &AttentionShape,
    sinks: Option<&[f32]>,
    q: &[f32],
    sequence: &Sequence,
    query: &Query<'_>,
) -> Vec<f64> {
    let (key_dim, dim) = (shape.key_dim, shape.value_dim);
    let mut out = vec![0.0; shape.heads * dim];
    for (head, out) in out.chunks_exact_mut(dim).enumerate() {
        let kv_head = head / shape.group();
        let at = |all: &[f32], dim: usize, position: usize, i: usize| {
            f64::from(all[(position * shape.kv_heads + kv_head) * dim + i])
        };
        let score = |position: usize| {
            let key = |i| at(&sequence.keys, key_dim, position, i);
            let dot: f64 = (0..key_dim).map(|i| f64::from(q[head * key_dim + i]) * key(i)).sum();
            let score = dot * f64::from(shape.scale);
            let score = shape.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
            let slope = shape.alibi.map_or(0.0, |max_bias| published_slope(shape.heads, head, f64::from(max_bias)));
            score - slope * position.abs_diff(query.position) as f64
        };
        let scores: Vec<f64> = query.positions.clone().map(score).collect();
        let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| f64::from(sinks[head]));
        let max = scores.iter().copied().fold(sink, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum::<f64>() + (sink - max).exp();
        for (position, score) in query.positions.clone().zip(&scores) {
            let weight = (score - max).exp() / sum;
            let value = |i| at(&sequence.values, dim, position, i);
            out.iter_mut().enumerate().for_each(|(i, out)| *out += weight * value(i));
        }
    }
    out
}

/// Slopes as in the paper's code: those of a power of two, followed by every second one of the next power of two.
fn published_slope(heads: usize, head: usize, max_bias: f64) -> f64 {
    if heads.is_power_of_two() {
        let first = 2f64.powf(-max_bias / heads as f64);
        return first.powi(head as i32 + 1);
    }
    let lower = heads.next_power_of_two() / 2;
    match head.checked_sub(lower) {
        None => published_slope(lower, head, max_bias),
        Some(rest) => published_slope(2 * lower, 2 * rest, max_bias),
    }
}

fn shape(heads: usize, kv_heads: usize, dim: usize) -> AttentionShape {
    let scale = 1.0 / (dim as f32).sqrt();
    let cache = CacheTypes::default();
    AttentionShape { heads, kv_heads, key_dim: dim, value_dim: dim, scale, softcap: None, alibi: None, cache }
}

/// Runs the table on poisoned outputs and checks it against the reference.
fn check(kernels: &Kernels, threads: &Threads, shape: &AttentionShape, q: &[f32], all: &[(&Sequence, Query<'_>)]) {
    check_with_sinks(kernels, threads, shape, None, q, all);
}

fn check_with_sinks(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    sinks: Option<&[f32]>,
    q: &[f32],
    all: &[(&Sequence, Query<'_>)],
) {
    let queries: Vec<_> = all.iter().map(|(_, query)| query.clone()).collect();
    let columns = shape.heads * shape.key_dim;
    let mut out = vec![f32::NAN; all.len() * shape.heads * shape.value_dim];
    attention(kernels, threads, shape, sinks, q, &queries, &mut out);
    let rows = out.chunks_exact(shape.heads * shape.value_dim).zip(q.chunks_exact(columns));
    for ((out, q), (sequence, query)) in rows.zip(all) {
        let expected = reference(shape, sinks, q, sequence, query);
        for (column, (got, expected)) in out.iter().zip(&expected).enumerate() {
            let close = (f64::from(*got) - expected).abs() <= 3e-5 * (1.0 + expected.abs());
            let Query { positions, position, .. } = query;
            assert!(
                close,
                "{} {shape:?}, {position} sees {positions:?}, column {column}: {got}, not {expected}",
                kernels.name
            );
        }
    }
}

#[test]
fn agrees_with_f64_at_every_length_and_shape() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention") {
        let mut numbers = Numbers(1);
        for (heads, kv_heads, dim) in
            [(3, 3, 8), (9, 3, 64), (2, 2, 80), (8, 2, 96), (8, 1, 128), (2, 1, 20), (1, 1, 5), (14, 2, 16)]
        {
            let shape = shape(heads, kv_heads, dim);
            let sequence = Sequence::new(kernels, &shape, 130, &mut numbers, 4.0);
            let pages = sequence.pages();
            let lengths = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 71, 100, 127, 128, 129, 130];
            let query = |visible| (&sequence, seeing(&pages, visible, None));
            let q = numbers.take(lengths.len() * heads * dim, 4.0);
            check(kernels, &threads, &shape, &q, &lengths.map(query));
        }
    }
}

#[test]
fn every_type_agrees_with_f64() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, types of the cache") {
        let mut numbers = Numbers(7);
        for cache in all_types() {
            for (heads, kv_heads, dim) in [(1, 1, 32), (9, 3, 64), (2, 2, 96), (8, 1, 128), (14, 2, 32)] {
                let shape = AttentionShape { cache, ..shape(heads, kv_heads, dim) };
                let sequence = Sequence::new(kernels, &shape, 130, &mut numbers, 4.0);
                let pages = sequence.pages();
                let lengths = [1, 2, 7, 8, 9, 15, 17, 31, 33, 63, 64, 65, 71, 127, 128, 129, 130];
                let query = |visible| (&sequence, seeing(&pages, visible, None));
                let q = numbers.take(lengths.len() * heads * dim, 4.0);
                check(kernels, &threads, &shape, &q, &lengths.map(query));
            }
        }
    }
}

#[test]
fn every_length_up_to_two_pages() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("attention, lengths") {
        let mut numbers = Numbers(2);
        let shape = shape(2, 1, 8);
        let sequence = Sequence::new(kernels, &shape, 130, &mut numbers, 4.0);
        let pages = sequence.pages();
        let all: Vec<_> = (1..=130).map(|visible| (&sequence, seeing(&pages, visible, None))).collect();
        let q = numbers.take(130 * 16, 2.0);
        check(kernels, &threads, &shape, &q, &all);
    }
}

#[test]
fn windows_and_caps() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, windows and caps") {
        let mut numbers = Numbers(3);
        let mixed = CacheTypes { keys: CacheType::Q8_0, values: CacheType::Q4_0 };
        let plain = CacheTypes::default();
        for (cap, cache) in [(None, plain), (Some(5.0), plain), (Some(50.0), plain), (Some(50.0), mixed)] {
            let shape = AttentionShape { softcap: cap, cache, ..shape(4, 2, 32) };
            let sequence = Sequence::new(kernels, &shape, 700, &mut numbers, 6.0);
            let pages = sequence.pages();
            let windows = [Some(1), Some(2), Some(63), Some(64), Some(65), Some(256), Some(300), Some(10_000), None];
            let all: Vec<_> = windows
                .into_iter()
                .flat_map(|window| [1, 5, 64, 130, 256, 257, 520, 700].map(|visible| (visible, window)))
                .map(|(visible, window)| (&sequence, seeing(&pages, visible, window)))
                .collect();
            let q = numbers.take(all.len() * 128, 6.0);
            check(kernels, &threads, &shape, &q, &all);
        }
    }
}

#[test]
fn a_token_gets_the_same_alone_in_a_batch_and_on_any_threads() {
    let pools = [Threads::new(1), Threads::new(2), Threads::new(4)];
    for kernels in tables_under_test("attention, bit for bit") {
        let mut numbers = Numbers(4);
        let plain = CacheTypes::default();
        let [eight_four, four_eight] = [(CacheType::Q8_0, CacheType::Q4_0), (CacheType::Q4_0, CacheType::Q8_0)]
            .map(|(keys, values)| CacheTypes { keys, values });
        for (heads, kv_heads, dim, cache) in
            [(9, 3, 64, plain), (4, 4, 24, plain), (8, 1, 40, plain), (9, 3, 64, eight_four), (8, 1, 96, four_eight)]
        {
            let shape = AttentionShape { cache, ..shape(heads, kv_heads, dim) };
            let columns = heads * dim;
            let one = Sequence::new(kernels, &shape, 900, &mut numbers, 3.0);
            let two = Sequence::new(kernels, &shape, 600, &mut numbers, 3.0);
            let (one_pages, two_pages) = (one.pages(), two.pages());
            // A prompt chunk, then another sequence's token, then a second chunk with a window.
            let mut queries: Vec<_> = (200..290).map(|visible| seeing(&one_pages, visible, None)).collect();
            queries.push(seeing(&two_pages, 600, None));
            queries.extend((850..=900).map(|visible| seeing(&one_pages, visible, Some(333))));
            queries.push(seeing(&two_pages, 0, None));
            let q = numbers.take(queries.len() * columns, 3.0);
            let run = |threads: &Threads, tokens: Range<usize>| {
                let mut out = vec![f32::NAN; tokens.len() * columns];
                let q = &q[tokens.start * columns..tokens.end * columns];
                attention(kernels, threads, &shape, None, q, &queries[tokens], &mut out);
                out.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            };
            let all = run(&pools[0], 0..queries.len());
            assert!(all.iter().all(|bits| f32::from_bits(*bits).is_finite()));
            assert!(all[(queries.len() - 1) * columns..].iter().all(|bits| *bits == 0), "nothing seen, nothing out");
            for threads in &pools {
                assert_eq!(run(threads, 0..queries.len()), all, "{} on {} threads", kernels.name, threads.count());
                for token in (0..queries.len()).step_by(7) {
                    let alone = run(threads, token..token + 1);
                    let (name, count) = (kernels.name, threads.count());
                    assert_eq!(
                        alone,
                        all[token * columns..][..columns],
                        "{name}: token {token} alone, {count} threads"
                    );
                }
                assert_eq!(run(threads, 3..50), all[3 * columns..50 * columns], "{}: another cut", kernels.name);
            }
        }
    }
}

#[test]
fn extreme_scores() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, extremes") {
        let shape = AttentionShape { scale: 1.0, ..shape(2, 1, 16) };
        let mut numbers = Numbers(5);
        for (key, query) in [(0.0, 1.0), (1e-7, 1e-30), (60_000.0, 1e-3), (200.0, 300.0), (65_504.0, 60_000.0)] {
            let length = 100;
            // Integers of equal magnitude, so that f32 scores are exact and only the softmax is tested.
            let keys: Vec<f32> = (0..length).flat_map(|p| [if p % 3 == 0 { key } else { -key }; 16]).collect();
            let sequence = Sequence::of(kernels, &shape, keys, numbers.take(length * 16, 100.0));
            let pages = sequence.pages();
            let all = [1, 2, 3, 64, 65, 100].map(|visible| (&sequence, seeing(&pages, visible, None)));
            let q: Vec<f32> = (0..all.len() * 32).map(|i| if i / 16 % 2 == 0 { query } else { -query }).collect();
            check(kernels, &threads, &shape, &q, &all);
        }
        // Scores of -inf: no weight for those positions, zeros where there are no others.
        let keys: Vec<f32> = (0..70).flat_map(|p| [if p < 66 { 60_000.0 } else { 0.0 }; 16]).collect();
        let sequence = Sequence::of(kernels, &shape, keys, vec![3.0; 70 * 16]);
        let pages = sequence.pages();
        let queries = [66, 70].map(|visible| seeing(&pages, visible, None));
        let mut out = vec![f32::NAN; 64];
        attention(kernels, &threads, &shape, None, &[-1e36; 64], &queries, &mut out);
        assert_eq!(out, [[0.0; 32], [3.0; 32]].concat(), "{}", kernels.name);
    }
}

#[test]
fn tables_agree_with_the_scalar_one() {
    let threads = Threads::new(2);
    let scalar = by_name("scalar").expect("always there");
    for kernels in tables_under_test("attention against scalar") {
        let mut numbers = Numbers(6);
        let types = all_types().map(|cache| AttentionShape { cache, ..shape(6, 2, 64) });
        for shape in types.chain([shape(6, 2, 48)]) {
            // Each table fills its own cache: the contents are bit-identical.
            let (keys, values) =
                (numbers.take(300 * 2 * shape.key_dim, 4.0), numbers.take(300 * 2 * shape.key_dim, 1.0));
            let sequences =
                [kernels, scalar].map(|kernels| Sequence::of(kernels, &shape, keys.clone(), values.clone()));
            let bits =
                |sequence: &Sequence| sequence.pages.concat().iter().map(|part| part.to_bits()).collect::<Vec<_>>();
            assert!(bits(&sequences[0]) == bits(&sequences[1]), "{} caches {} otherwise", kernels.name, shape.cache);
            let pages = sequences[0].pages();
            let queries: Vec<_> = (200..=300).map(|visible| seeing(&pages, visible, None)).collect();
            let q = numbers.take(queries.len() * 6 * shape.key_dim, 4.0);
            let [ours, theirs] = [kernels, scalar].map(|kernels| {
                let mut out = vec![f32::NAN; q.len()];
                attention(kernels, &threads, &shape, None, &q, &queries, &mut out);
                out
            });
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{}, {} cached: {worst} off", kernels.name, shape.cache);
        }
    }
}

/// Weights are summed in a fixed number of lanes whatever the vector width, everything else in order.
#[test]
fn vector_tables_give_the_same_bits() {
    let threads = Threads::new(2);
    let all = kernels::tables();
    let Some(first) = all.get(1) else { return println!("SKIPPED: this processor has no vector table") };
    let tables = tables_under_test("attention bits");
    for cache in all_types() {
        let shape = AttentionShape { cache, softcap: Some(20.0), ..shape(6, 2, 64) };
        let mut numbers = Numbers(7);
        let sequence = Sequence::new(first, &shape, 300, &mut numbers, 4.0);
        let pages = sequence.pages();
        let seen = |visible| seeing(&pages, visible, (visible % 3 == 0).then_some(70));
        let queries: Vec<_> = (1..=300).map(seen).collect();
        let q = numbers.take(queries.len() * 6 * 64, 4.0);
        let bits = |table: &Kernels| {
            let mut out = vec![f32::NAN; q.len()];
            attention(table, &threads, &shape, None, &q, &queries, &mut out);
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = bits(first);
        for table in tables.iter().filter(|table| table.name != "scalar") {
            assert!(bits(table) == expected, "{}, {cache} cached", table.name);
        }
    }
}

#[test]
#[should_panic(expected = "65 visible positions, 1 pages")]
fn more_visible_than_paged_is_refused() {
    let shape = shape(1, 1, 8);
    let page = vec![f16::ZERO; shape.page()];
    let pages = [page.as_slice()];
    let queries = [seeing(&pages, 65, None)];
    attention(by_name("scalar").expect("there"), &Threads::new(1), &shape, None, &[0.0; 8], &queries, &mut [0.0; 8]);
}
