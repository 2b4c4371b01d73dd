//! Slopes of attention with linear biases (Press et al., "Train Short, Test Long"): head by head a power of two's root, so that
//! some heads look at their neighbourhood and others far back.
//!
//! The paper gives them for numbers of heads that are powers of two. Of others, as many heads as the next lower power of two
//! has get its slopes, and the rest every second one of twice that number's.

/// What a score loses for each position of distance, for each of `heads` heads.
pub(super) fn slopes(heads: usize, max_bias: f32) -> Vec<f32> {
    let even = 1 << heads.ilog2();
    let slope = |head: usize| {
        let steps = if head < even { (head + 1) as f64 } else { (head - even) as f64 + 0.5 };
        // Rounded from f64, so that no mathematics library shows in the result.
        (-f64::from(max_bias) * steps / even as f64).exp2() as f32
    };
    (0..heads).map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_papers() {
        assert_eq!(slopes(8, 8.0), [1, 2, 3, 4, 5, 6, 7, 8].map(|power| 0.5f32.powi(power)));
        assert_eq!(slopes(1, 8.0), [0.5f32.powi(8)]);
        let quarter = 0.25f32;
        assert_eq!(slopes(6, 8.0), [quarter, quarter.powi(2), quarter.powi(3), quarter.powi(4), 0.5, 0.125]);
        assert_eq!(slopes(2, 0.0), [1.0, 1.0]);
    }
}
