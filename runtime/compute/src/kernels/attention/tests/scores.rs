//! What architectures differ in: widths of keys and values, which positions are seen, biases by distance, and sinks.

use super::*;

/// Every choice of widths, for the heads of a layer: latent attention's one KV head, and what is no whole vector or block.
const WIDTHS: [(usize, usize, usize, usize); 12] = [
    (7, 1, 576, 512),
    (4, 2, 192, 128),
    (2, 2, 40, 40),
    (4, 2, 72, 72),
    (2, 1, 80, 80),
    (3, 3, 96, 96),
    (2, 1, 100, 100),
    (2, 2, 112, 112),
    (8, 1, 64, 128),
    (4, 2, 24, 5),
    (2, 1, 5, 24),
    // More heads to a KV head than a block has rows.
    (102, 2, 24, 16),
];

fn wide(heads: usize, kv_heads: usize, key_dim: usize, value_dim: usize) -> AttentionShape {
    AttentionShape { value_dim, ..shape(heads, kv_heads, key_dim) }
}

/// Every feature at once, in `cache`.
fn everything(key_dim: usize, value_dim: usize, cache: CacheTypes) -> AttentionShape {
    AttentionShape { softcap: Some(20.0), alibi: Some(8.0), cache, ..wide(6, 2, key_dim, value_dim) }
}

const SINKS: [f32; 6] = [-3.0, 0.0, 2.5, 40.0, f32::NEG_INFINITY, -60.0];

/// The queries of a text: a stretch of a prompt, windows, an encoder's that see what comes later, and one that sees nothing.
fn mixture<'a>(pages: &'a [&'a [f16]]) -> Vec<Query<'a>> {
    let seeing_all = |position| Query { pages, positions: 0..600, position };
    let chunked = |position| Query { pages, positions: position / 96 * 96..position + 1, position };
    let windowed = |visible| seeing(pages, visible, Some(70));
    let mut queries: Vec<_> = (250..300).map(|visible| seeing(pages, visible, None)).collect();
    queries.extend((0..600).step_by(41).map(seeing_all));
    queries.extend((300..400).step_by(3).map(chunked));
    queries.extend((1..600).step_by(29).map(windowed));
    queries.push(Query { pages, positions: 70..70, position: 70 });
    queries.push(seeing_all(599));
    queries
}

#[test]
fn keys_and_values_have_widths_of_their_own() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, widths") {
        let mut numbers = Numbers(20);
        for (heads, kv_heads, key_dim, value_dim) in WIDTHS {
            for cache in all_types().filter(|cache| cache.check(key_dim, value_dim).is_ok()) {
                let shape = AttentionShape { cache, ..wide(heads, kv_heads, key_dim, value_dim) };
                let sequence = Sequence::new(kernels, &shape, 130, &mut numbers, 4.0);
                let pages = sequence.pages();
                let lengths = [1, 7, 16, 63, 64, 65, 130];
                let q = numbers.take(lengths.len() * heads * key_dim, 4.0);
                let all = lengths.map(|visible| (&sequence, seeing(&pages, visible, None)));
                check(kernels, &threads, &shape, &q, &all);
                // A few rows take another way through the products.
                check(kernels, &threads, &shape, &q[..heads * key_dim], &all[6..]);
            }
        }
    }
}

#[test]
fn pages_hold_both_widths() {
    let mixed = CacheTypes { keys: CacheType::Q8_0, values: CacheType::F16 };
    let shape = AttentionShape { cache: mixed, ..wide(4, 2, 96, 40) };
    assert_eq!(shape.page() * 2, 2 * 64 * (96 / 32 * 34 + 40 * 2));
    // Rows of queries and results, a page and its scores; of values no more than they need.
    let [narrow, broad] = [16, 512].map(|value_dim| thread_bytes(&wide(128, 1, 576, value_dim)));
    assert_eq!(broad - narrow, (2 * BLOCK_ROWS + PAGE_TOKENS) * (512 - 16) * 4);
    assert!(broad < 1 << 20, "{broad} bytes");
}

#[test]
fn every_kind_of_view_agrees_with_f64() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, views") {
        let mut numbers = Numbers(21);
        for shape in [wide(6, 2, 40, 24), everything(32, 64, CacheTypes::both(CacheType::Q4_0))] {
            let sequence = Sequence::new(kernels, &shape, 600, &mut numbers, 4.0);
            let pages = sequence.pages();
            let all: Vec<_> = mixture(&pages).into_iter().map(|query| (&sequence, query)).collect();
            let q = numbers.take(all.len() * shape.heads * shape.key_dim, 4.0);
            // The reference gives nothing where nothing is seen, but a sink is.
            check_with_sinks(kernels, &threads, &shape, Some(&SINKS), &q, &all);
        }
    }
}

#[test]
fn distance_lowers_scores_by_each_heads_slope() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, biases") {
        let mut numbers = Numbers(22);
        for heads in [1, 6, 8, 12, 20] {
            for (max_bias, softcap) in [(8.0, None), (8.0, Some(5.0)), (2.5, None)] {
                let shape = AttentionShape { alibi: Some(max_bias), softcap, ..shape(heads, 1, 16) };
                let sequence = Sequence::new(kernels, &shape, 600, &mut numbers, 3.0);
                let pages = sequence.pages();
                let all: Vec<_> = mixture(&pages)
                    .into_iter()
                    .filter(|query| !query.positions.is_empty())
                    .map(|query| (&sequence, query))
                    .collect();
                let q = numbers.take(all.len() * heads * 16, 3.0);
                check(kernels, &threads, &shape, &q, &all);
            }
        }
    }
}

/// Keys of zeros score nothing, so all that is seen weighs as the biases and the sink say.
#[test]
fn biases_and_sinks_by_hand() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("attention, by hand") {
        let shape = AttentionShape { alibi: Some(8.0), ..shape(8, 1, 8) };
        let values = (0..3).flat_map(|position| [[1.0, 2.0, 4.0][position]; 8]).collect();
        let sequence = Sequence::of(kernels, &shape, vec![0.0; 3 * 8], values);
        let pages = sequence.pages();
        let sinks = [f32::NEG_INFINITY, 0.0, 1.0, -1.0, 1e9, 0.0, 0.0, 0.0];
        let mut out = [f32::NAN; 64];
        let query = Query { pages: &pages, positions: 0..3, position: 1 };
        attention(kernels, &threads, &shape, Some(&sinks), &[0.5; 64], &[query], &mut out);
        for (head, (out, sink)) in out.chunks_exact(8).zip(sinks).enumerate() {
            let weight = (-(0.5f64.powi(head as i32 + 1))).exp();
            let expected = (weight + 2.0 + 4.0 * weight) / (2.0 * weight + 1.0 + f64::from(sink).exp());
            for out in out {
                assert!(
                    (f64::from(*out) - expected).abs() < 1e-6,
                    "{}, head {head}: {out}, not {expected}",
                    kernels.name
                );
            }
        }
    }
}

#[test]
fn sinks_take_weight_and_give_nothing() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("attention, sinks") {
        let mut numbers = Numbers(23);
        for (heads, kv_heads) in [(6, 2), (6, 1)] {
            let shape = shape(heads, kv_heads, 64);
            let sequence = Sequence::new(kernels, &shape, 700, &mut numbers, 4.0);
            let pages = sequence.pages();
            let all = [1, 2, 64, 256, 257, 700].map(|visible| (&sequence, seeing(&pages, visible, None)));
            let q = numbers.take(all.len() * heads * 64, 4.0);
            check_with_sinks(kernels, &threads, &shape, Some(&SINKS), &q, &all);
            let run = |sinks: Option<&[f32]>| {
                let mut out = vec![f32::NAN; q.len()];
                let queries = all.clone().map(|(_, query)| query);
                attention(kernels, &threads, &shape, sinks, &q, &queries, &mut out);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let none = [f32::NEG_INFINITY; 6];
            assert!(run(None) == run(Some(&none)), "{}: a sink of no weight", kernels.name);
            assert!(run(Some(&[1e30; 6])).iter().all(|bits| f32::from_bits(*bits) == 0.0), "{}", kernels.name);
        }
    }
}

#[test]
fn pages_before_the_window_may_be_gone() {
    let pools = [Threads::new(1), Threads::new(2)];
    for kernels in tables_under_test("attention, pages gone") {
        let mut numbers = Numbers(24);
        for cache in [CacheTypes::default(), CacheTypes::both(CacheType::Q8_0)] {
            let shape = everything(64, 32, cache);
            let sequence = Sequence::new(kernels, &shape, 900, &mut numbers, 4.0);
            let whole = sequence.pages();
            let mut cut = whole.clone();
            // The first token sees from position 641 on, in page 10.
            cut[..10].fill(&[]);
            let queries = |pages| (700..=900).map(move |visible| seeing(pages, visible, Some(59))).collect::<Vec<_>>();
            let q = numbers.take(201 * 6 * 64, 4.0);
            for threads in &pools {
                let run = |queries: &[Query<'_>], q: &[f32]| {
                    let mut out = vec![f32::NAN; queries.len() * 6 * 32];
                    attention(kernels, threads, &shape, Some(&SINKS), q, queries, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let expected = run(&queries(&whole), &q);
                assert!(run(&queries(&cut), &q) == expected, "{}, {cache}", kernels.name);
                let alone = run(&queries(&cut)[200..], &q[200 * 6 * 64..]);
                assert!(alone == expected[200 * 6 * 32..], "{}, {cache}, alone", kernels.name);
            }
        }
    }
}

#[test]
#[should_panic(expected = "positions 63..65 are seen, page 0 is gone")]
fn a_page_that_is_seen_and_gone_is_refused() {
    let shape = shape(1, 1, 8);
    let page = vec![f16::ZERO; shape.page()];
    let pages = [&[][..], &page];
    let queries = [seeing(&pages, 65, Some(1)), seeing(&pages, 65, Some(2))];
    let scalar = by_name("scalar").expect("there");
    attention(scalar, &Threads::new(1), &shape, None, &[0.0; 16], &queries, &mut [0.0; 16]);
}

#[test]
#[should_panic(expected = "a sink for each of 2 heads")]
fn too_few_sinks_are_refused() {
    let shape = shape(2, 1, 8);
    let scalar = by_name("scalar").expect("there");
    attention(scalar, &Threads::new(1), &shape, Some(&[0.0]), &[], &[], &mut []);
}

#[test]
fn a_token_gets_the_same_with_every_feature() {
    let pools = [Threads::new(1), Threads::new(2), Threads::new(3)];
    let mixed = CacheTypes { keys: CacheType::Q4_0, values: CacheType::F16 };
    for kernels in tables_under_test("attention, every feature bit for bit") {
        let mut numbers = Numbers(25);
        for shape in [
            everything(96, 40, CacheTypes::default()),
            everything(32, 64, CacheTypes::both(CacheType::Q8_0)),
            everything(64, 72, mixed),
            AttentionShape { heads: 102, ..everything(32, 16, CacheTypes::default()) },
        ] {
            let (columns, out_columns) = (shape.heads * shape.key_dim, shape.heads * shape.value_dim);
            let sinks = numbers.take(shape.heads, 5.0);
            let sequence = Sequence::new(kernels, &shape, 600, &mut numbers, 4.0);
            let pages = sequence.pages();
            let queries = mixture(&pages);
            let q = numbers.take(queries.len() * columns, 4.0);
            let run = |threads: &Threads, tokens: Range<usize>| {
                let mut out = vec![f32::NAN; tokens.len() * out_columns];
                let q = &q[tokens.start * columns..tokens.end * columns];
                attention(kernels, threads, &shape, Some(&sinks), q, &queries[tokens], &mut out);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let all = run(&pools[0], 0..queries.len());
            assert!(all.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{}", kernels.name);
            for threads in &pools {
                let (name, count) = (kernels.name, threads.count());
                assert!(run(threads, 0..queries.len()) == all, "{name} on {count} threads");
                assert!(run(threads, 3..60) == all[3 * out_columns..60 * out_columns], "{name}: another cut");
                for token in (0..queries.len()).step_by(11) {
                    let alone = run(threads, token..token + 1);
                    assert!(
                        alone == all[token * out_columns..][..out_columns],
                        "{name}: {token} alone, {count} threads"
                    );
                }
            }
        }
    }
}

#[test]
fn vector_tables_give_the_same_bits_with_every_feature() {
    let threads = Threads::new(2);
    let all = kernels::tables();
    let Some(first) = all.get(1) else { return println!("SKIPPED: this processor has no vector table") };
    let tables = tables_under_test("attention bits with every feature");
    let mut numbers = Numbers(26);
    for shape in [everything(100, 72, CacheTypes::default()), everything(96, 32, CacheTypes::both(CacheType::Q4_0))] {
        let sequence = Sequence::new(first, &shape, 600, &mut numbers, 4.0);
        let pages = sequence.pages();
        let queries = mixture(&pages);
        let q = numbers.take(queries.len() * 6 * shape.key_dim, 4.0);
        let bits = |table: &Kernels| {
            let mut out = vec![f32::NAN; queries.len() * 6 * shape.value_dim];
            attention(table, &threads, &shape, Some(&SINKS), &q, &queries, &mut out);
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = bits(first);
        for table in tables.iter().filter(|table| table.name != "scalar") {
            assert!(bits(table) == expected, "{}, {} cached", table.name, shape.cache);
        }
    }
}
