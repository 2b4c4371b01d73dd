//! The transform is orthonormal, its own inverse, and independent of what else is in the batch.

use super::*;

/// By the matrix's definition: the sign is the parity of the bits that row and column share.
fn by_definition(x: &[f32], width: usize) -> Vec<f64> {
    let block = hadamard_block(width);
    let rows = x.chunks_exact(block).flat_map(|x| {
        let sum = move |row: usize| {
            let term = |(column, x): (usize, &f32)| match (row & column).count_ones() % 2 {
                0 => f64::from(*x),
                _ => -f64::from(*x),
            };
            x.iter().enumerate().map(term).sum::<f64>() / (block as f64).sqrt()
        };
        (0..block).map(sum)
    });
    rows.collect()
}

#[test]
fn blocks_are_the_largest_powers_of_two() {
    let widths = [1, 32, 64, 80, 96, 100, 128, 192, 256, 512, 576];
    assert_eq!(widths.map(hadamard_block), [1, 32, 64, 16, 32, 4, 128, 64, 256, 512, 64]);
}

#[test]
fn small_cases_by_hand() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("hadamard, by hand") {
        let mut x = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 8.0, 0.0];
        hadamard(kernels, &threads, &mut x, 4);
        assert_eq!(x, [5.0, -1.0, -2.0, 0.0, 4.0, 4.0, -4.0, -4.0], "{}", kernels.name);
        let mut outlier = [0.0; 64];
        outlier[5] = 8.0;
        hadamard(kernels, &threads, &mut outlier, 64);
        assert!(outlier.iter().all(|x| x.abs() == 1.0), "{}: spread evenly", kernels.name);
    }
}

#[test]
fn it_is_what_it_is_defined_as_and_its_own_inverse() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("hadamard") {
        let mut numbers = Numbers(30);
        for width in [1, 2, 6, 8, 16, 32, 64, 80, 96, 100, 128, 192, 256, 576] {
            let x = numbers.take(width * 5, 4.0);
            let mut turned = x.clone();
            hadamard(kernels, &threads, &mut turned, width);
            for (at, (got, expected)) in turned.iter().zip(by_definition(&x, width)).enumerate() {
                let close = (f64::from(*got) - expected).abs() < 1e-5;
                assert!(close, "{} {width}, element {at}: {got}, not {expected}", kernels.name);
            }
            hadamard(kernels, &threads, &mut turned, width);
            let worst = turned.iter().zip(&x).map(|(back, x)| (back - x).abs()).fold(0.0, f32::max);
            assert!(worst < 4e-6, "{} {width}: {worst} off after two of them", kernels.name);
        }
    }
}

#[test]
fn every_table_batch_and_thread_gives_the_same_bits() {
    let pools = [Threads::new(1), Threads::new(3)];
    let mut numbers = Numbers(31);
    for width in [24, 64, 96, 128] {
        let x = numbers.take(width * 300, 4.0);
        let run = |kernels: &Kernels, threads: &Threads, x: &[f32]| {
            let mut x = x.to_vec();
            hadamard(kernels, threads, &mut x, width);
            x.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = run(by_name("scalar").expect("always there"), &pools[0], &x);
        for kernels in tables_under_test("hadamard, bit for bit") {
            for threads in &pools {
                assert!(run(kernels, threads, &x) == expected, "{} {width}", kernels.name);
                let alone = run(kernels, threads, &x[7 * width..8 * width]);
                assert!(alone == expected[7 * width..8 * width], "{} {width}, alone", kernels.name);
            }
        }
    }
}

/// The purpose: keys with one large element survive four bits, and results are restored.
#[test]
fn attention_of_transformed_heads_is_the_same_and_closer_in_few_bits() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("hadamard around attention") {
        let mut numbers = Numbers(32);
        let plain = shape(4, 2, 64);
        let few_bits = AttentionShape { cache: CacheTypes::both(CacheType::Q4_0), ..plain };
        let (mut keys, values) = (numbers.take(300 * 128, 1.0), numbers.take(300 * 128, 1.0));
        // An element far larger than the others. (One that is the same in every key goes into the centre of the pages.)
        keys.iter_mut().skip(9).step_by(64).for_each(|key| *key *= 30.0);
        let q = numbers.take(20 * 256, 2.0);
        let run = |shape: &AttentionShape, turned: bool| {
            let turn = |x: &[f32]| {
                let mut x = x.to_vec();
                if turned {
                    hadamard(kernels, &threads, &mut x, 64);
                }
                x
            };
            let sequence = Sequence::of(kernels, shape, turn(&keys), turn(&values));
            let pages = sequence.pages();
            let queries: Vec<_> = (281..=300).map(|visible| seeing(&pages, visible, None)).collect();
            let mut out = vec![f32::NAN; q.len()];
            attention(kernels, &threads, shape, None, &turn(&q), &queries, &mut out);
            turn(&out)
        };
        let expected = run(&plain, false);
        let off = |shape, turned| {
            let squares =
                run(shape, turned).iter().zip(&expected).map(|(got, expected)| (got - expected).powi(2)).sum::<f32>();
            squares.sqrt()
        };
        assert!(off(&plain, true) < 0.02, "{}: {} off in f16", kernels.name, off(&plain, true));
        let (as_is, turned) = (off(&few_bits, false), off(&few_bits, true));
        assert!(1.5 * turned < as_is, "{}: {as_is} off without, {turned} with", kernels.name);
    }
}
