//! Data round-trips, and values that no type can represent do no harm.

use super::*;

#[test]
fn stores_what_f16_holds_and_its_largest_for_the_rest() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("store") {
        let shape = shape(2, 2, 11);
        let mut pages = [vec![f16::NAN; shape.page()]];
        let mut key: Vec<f32> = (0..22).map(|i| i as f32 * 0.3337 - 2.0).collect();
        key[3] = 1e9;
        key[14] = f32::NEG_INFINITY;
        key[15] = f32::NAN;
        let value: Vec<f32> = key.iter().map(|key| -key).collect();
        store_at(kernels, &threads, &shape, &mut pages, 5, &key, &value);
        let [page] = pages;
        let (keys, values) = page.split_at(page.len() / 2);
        let key_at = |column| keys[column * PAGE_TOKENS + 5];
        let value_at = |column| values[(column / 11 * PAGE_TOKENS + 5) * 11 + column % 11];
        let sides: [(&dyn Fn(usize) -> f16, _); 2] = [(&key_at, &key), (&value_at, &value)];
        for (at, row) in sides {
            for (column, expected) in row.iter().enumerate() {
                let got = at(column);
                let expected = f16::from_f32(expected.clamp(-65504.0, 65504.0));
                let name = kernels.name;
                assert!(got == expected || got.is_nan() && expected.is_nan(), "{name} {column}: {got} {expected}");
            }
        }
        assert_eq!(page.iter().filter(|element| !element.is_nan()).count(), 2 * 21);
    }
}

/// Difficult rows: zeros, the largest, the smallest, one outlier, NaN.
fn hard_rows(dim: usize) -> Vec<Vec<f32>> {
    let signs = |size: f32| (0..dim).map(|i| if i % 3 == 0 { -size } else { size }).collect::<Vec<_>>();
    let one =
        |value: f32| (0..dim).map(|i| if i == dim / 2 { value } else { (i % 7) as f32 * 0.1 }).collect::<Vec<_>>();
    let mut rows: Vec<_> = [0.0, 65504.0, 1e30, f32::MAX, 6e-8, 1e-7, 1e-38, 1e-40, 1e-45].map(signs).into();
    rows.extend([65504.0, -65504.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1e-40, 1e-3].map(one));
    rows.push(vec![-0.0; dim]);
    rows.push(vec![f32::NAN; dim]);
    rows
}

#[test]
fn every_slot_is_read_as_it_was_written() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("store, every slot") {
        let mut numbers = Numbers(8);
        for cache in all_types() {
            let shape = AttentionShape { cache, ..shape(2, 2, 96) };
            let mut memory = [vec![f16::NAN; shape.page()]];
            let rows: Vec<_> = (0..PAGE_TOKENS).map(|_| (numbers.take(192, 3.0), numbers.take(192, 5.0))).collect();
            // Out of order and over old contents, as in a recycled block.
            for slot in (0..PAGE_TOKENS).rev().chain(0..PAGE_TOKENS) {
                let (key, value) = &rows[if slot % 2 == 0 { slot } else { PAGE_TOKENS - slot }];
                store_at(kernels, &threads, &shape, &mut memory, slot, key, value);
            }
            let pages = [memory[0].as_slice()];
            let queries = [seeing(&pages, PAGE_TOKENS, None)];
            for kv_head in 0..2 {
                let block = Block { shape: &shape, group: 1, kv_head, queries: &queries, q: &[], slopes: &[] };
                let (keys, values) = block.page(0);
                for slot in 0..PAGE_TOKENS {
                    let (key, value) = &rows[if slot % 2 == 0 { slot } else { PAGE_TOKENS - slot }];
                    let sides = [(keys, Role::Keys, cache.keys, key), (values, Role::Values, cache.values, value)];
                    for (head, role, ty, row) in sides {
                        let mut found = vec![f32::NAN; 96];
                        head.row(role, slot, &mut found);
                        // Slot 0 is first: it gives the centre.
                        let row = [&rows[0].0[kv_head * 96..][..96], &row[kv_head * 96..][..96]];
                        let expected = match role {
                            Role::Keys => held_keys(ty, &row.concat(), 96)[96..].to_vec(),
                            Role::Values => held(ty, row[1]),
                        };
                        assert_eq!(found, expected, "{}: {role:?} in {ty}, slot {slot}", kernels.name);
                    }
                }
            }
        }
    }
}

#[test]
fn pages_are_the_same_however_a_prompt_is_cut() {
    const LENGTH: usize = 5 * PAGE_TOKENS + 7;
    for kernels in tables_under_test("store, cut") {
        let mut numbers = Numbers(9);
        for cache in all_types() {
            let shape = AttentionShape { cache, value_dim: 32, ..shape(3, 3, 96) };
            let sequence = Sequence::new(kernels, &shape, LENGTH, &mut numbers, 3.0);
            let (keys, values) = (numbers.take(LENGTH * 3 * 96, 3.0), numbers.take(LENGTH * 3 * 32, 1.0));
            let one_by_one = Sequence::of(kernels, &shape, keys.clone(), values.clone()).pages;
            for (count, cuts) in [(1, vec![0, LENGTH]), (3, vec![0, LENGTH]), (3, vec![0, 1, 63, 64, 130, 257, LENGTH])]
            {
                let threads = Threads::new(count);
                // Over the contents of another sequence, as in recycled pages.
                let mut pages = sequence.pages.clone();
                *pages.last_mut().expect("several") = vec![f16::NAN; shape.page()];
                for cut in cuts.windows(2) {
                    let rows = |all: &[f32], columns: usize| all[cut[0] * columns..cut[1] * columns].to_vec();
                    let (keys, values) = (rows(&keys, 3 * 96), rows(&values, 3 * 32));
                    store_at(kernels, &threads, &shape, &mut pages, cut[0], &keys, &values);
                }
                let bits = |pages: &[Vec<f16>]| pages.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert!(
                    bits(&pages) == bits(&one_by_one),
                    "{}: {cache}, {count} threads, cut at {cuts:?}",
                    kernels.name
                );
            }
        }
    }
}

#[test]
fn sequences_are_stored_side_by_side() {
    let threads = Threads::new(3);
    for kernels in tables_under_test("store, several sequences") {
        let mut numbers = Numbers(10);
        for cache in all_types() {
            let shape = AttentionShape { cache, ..shape(2, 2, 64) };
            let (columns, lengths) = (2 * 64, [70, 1, 130]);
            let parts: Vec<_> =
                lengths.map(|rows| (numbers.take(rows * columns, 3.0), numbers.take(rows * columns, 1.0))).into();
            let alone: Vec<_> = parts
                .iter()
                .map(|(keys, values)| Sequence::of(kernels, &shape, keys.clone(), values.clone()).pages)
                .collect();
            let mut together: Vec<Vec<Vec<f16>>> =
                alone.iter().map(|pages| vec![vec![f16::NAN; shape.page()]; pages.len()]).collect();
            let starts = [0, 70, 71];
            let mut runs: Vec<_> = together
                .iter_mut()
                .zip(starts.iter().zip(lengths))
                .map(|(pages, (&start, length))| NewPositions {
                    rows: start..start + length,
                    slot: 0,
                    pages: pages.iter_mut().map(Vec::as_mut_slice).collect(),
                    before: None,
                })
                .collect();
            let (keys, values): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            store(kernels, &threads, &shape, &keys.concat(), &values.concat(), &mut runs);
            let bits =
                |pages: &[Vec<Vec<f16>>]| pages.concat().concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&together) == bits(&alone), "{}: {cache}", kernels.name);
        }
    }
}

#[test]
fn hard_rows_are_held_and_leave_the_others_alone() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("store, hard rows") {
        for cache in all_types() {
            let shape = AttentionShape { cache, scale: 1.0, ..shape(1, 1, 64) };
            let no_number = |row: &[f32], ty| ty == CacheType::F16 && row.iter().any(|value| value.is_nan());
            // F16 keeps NaN; a separate test above covers that.
            let keep = |ty| hard_rows(64).into_iter().filter(move |row| !no_number(row, ty)).collect::<Vec<_>>();
            let (keys, values) = (keep(cache.keys), keep(cache.values));
            let length = keys.len().max(values.len());
            let repeated = |rows: &[Vec<f32>]| rows.iter().cycle().take(length).flatten().copied().collect::<Vec<_>>();
            let sequence = Sequence::of(kernels, &shape, repeated(&keys), repeated(&values));
            assert!(sequence.keys.iter().chain(&sequence.values).all(|value| value.is_finite()));
            let pages = sequence.pages();
            let all: Vec<_> = (1..=length).map(|visible| (&sequence, seeing(&pages, visible, Some(1)))).collect();
            // One position each: its value comes out as stored.
            check(kernels, &threads, &shape, &vec![1e-6; length * 64], &all);
            let all: Vec<_> = (1..=length).map(|visible| (&sequence, seeing(&pages, visible, None))).collect();
            // Sums of cancelling values are accurate relative to the largest of them, not to the result.
            let queries: Vec<_> = all.iter().map(|(_, query)| query.clone()).collect();
            let q = vec![1e-6; length * 64];
            let mut out = vec![f32::NAN; q.len()];
            attention(kernels, &threads, &shape, None, &q, &queries, &mut out);
            for (token, (out, q)) in out.chunks_exact(64).zip(q.chunks_exact(64)).enumerate() {
                let expected = reference(&shape, None, q, &sequence, &queries[token]);
                let close = |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs() <= 65504.0 * 1e-4;
                assert!(out.iter().zip(&expected).all(close), "{} {cache}: token {token}", kernels.name);
            }
        }
    }
}
