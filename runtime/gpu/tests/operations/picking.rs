//! The most likely tokens against a sort, and the bytes that are read for them.

use satchel_gpu::Gpu;
use satchel_gpu::pick::{Ask, Found, MOST_CANDIDATES, Picking};

use super::{filled, gpu, numbers, step};

/// Most likely first; of equals the smaller number; without negative infinity.
fn sorted(logits: &[f32], ask: &Ask, count: usize) -> Vec<(u32, f32)> {
    let takes_part = |token: u32| {
        let word = |mask: &Vec<u32>| mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        ask.mask.as_ref().is_none_or(word)
    };
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.retain(|(token, logit)| takes_part(*token) && *logit > f32::NEG_INFINITY);
    all.sort_by(|a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
    all.truncate(count);
    all
}

fn pick(gpu: &Gpu, columns: usize, logits: &[f32], asks: &[Ask], count: usize) -> Option<Vec<Found>> {
    let rows = asks.len();
    let (step, buffer) = (step(gpu, [3, rows as u32, 0, 0, 0, 0, 0, 0], &[0; 4]), filled(gpu, logits));
    // There is room for a row more.
    let picking = Picking::new(gpu, &step, &buffer, columns, rows + 1, count).expect("memory");
    let before = gpu.counts();
    let (calls, found, bytes) = picking.ask(gpu, asks);
    let read = gpu.run(calls, 3, rows, Some((found, bytes))).expect("it runs");
    assert_eq!(gpu.counts().read_bytes - before.read_bytes, bytes as u64);
    if count == 1 {
        let values: usize = asks.iter().map(|ask| ask.values.len()).sum();
        assert_eq!(bytes, 8 * rows + 4 * values);
    }
    picking.found(&read, asks, &vec![count; rows])
}

#[test]
fn what_is_picked_is_what_a_sort_has_first() {
    let Some(gpu) = gpu() else { return };
    for columns in [700, 5003, 70_001] {
        let mut logits = numbers(3, 2 * columns);
        // Equals, in one block and in several.
        for at in (5..2 * columns).step_by(97) {
            logits[at] = 19.5;
        }
        (logits[0], logits[1], logits[2]) = (0.0, -0.0, f32::NEG_INFINITY);
        let mut mask = vec![0x5a5a_0f01u32; columns.div_ceil(32)];
        mask.truncate(columns / 32);
        let few = Ask { mask: Some(vec![0b111, 1 << 9]), values: vec![2, columns as u32 - 1, 1] };
        let asks = [
            [Ask::default(), Ask { mask: Some(mask), values: vec![7] }],
            [few, Ask { mask: Some(Vec::new()), values: Vec::new() }],
        ];
        for asks in &asks {
            for count in [1, 40, MOST_CANDIDATES] {
                let found = pick(&gpu, columns, &logits, asks, count).expect("they are numbers");
                for ((row, ask), found) in logits.chunks_exact(columns).zip(asks).zip(&found) {
                    let values: Vec<f32> = ask.values.iter().map(|token| row[*token as usize]).collect();
                    assert_eq!(found.values, values);
                    assert_eq!(found.candidates, sorted(row, ask, count), "{count} of {columns}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_is_found_unless_it_takes_no_part() {
    let Some(gpu) = gpu() else { return };
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
        let mut logits = numbers(3, 3000);
        logits[1234] = bad;
        let mut mask = vec![u32::MAX; 94];
        for count in [1, 2] {
            assert_eq!(pick(&gpu, 3000, &logits, &[Ask::default()], count), None, "{bad}");
            mask[1234 / 32] = !(1 << (1234 % 32));
            let ask = Ask { mask: Some(mask.clone()), values: Vec::new() };
            assert!(pick(&gpu, 3000, &logits, &[ask], count).is_some(), "{bad}");
        }
    }
}
