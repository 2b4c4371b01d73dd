//! Speculation: guessed tokens run as rows of the step that computes the last sampled one, and stay if sampling gives them, too.
//!
//! Row by row the sampler draws as it would have without: the same logits, the same random numbers, the same constraint. What is
//! sampled is the answer, whether it was guessed or not, so speculation changes no token, only how many a step gives. This
//! module decides how many guesses pay: from what steps of so many rows took, and from how often guesses like these were right.

use std::time::Duration;

/// Guessed rows of a step at most, of all sequences together: memory for their logits is part of the prediction.
pub(crate) const MOST_GUESSED: usize = 31;

/// Numbers of guesses that are considered; few, so that what steps of so many rows take is soon known.
const CHOICES: [usize; 8] = [1, 2, 3, 5, 7, 11, 15, 31];

/// How much better than without a guess a step must be expected to be.
const LEAST_GAIN: f64 = 1.03;

/// What a row beyond those measured is taken to add to a step, as a fraction of it: little, so that it is tried once.
const UNMEASURED_ROW: f64 = 0.04;

/// Steps after which a measurement is forgotten: what was slow beside other programs is tried again.
const FORGOTTEN_AFTER: u64 = 500;

/// What steps without prompts took. Each row attends to its own past, so what a row adds depends on the context: contexts of
/// about the same length have costs of their own.
#[derive(Debug, Default)]
pub(super) struct CostsByContext {
    costs: [Costs; 32],
}

impl CostsByContext {
    /// Contexts up to this length are one class; each further class is twice as long.
    const SHORT: usize = 512;

    /// The costs of steps whose longest sequence has this many positions.
    pub(super) fn at(&mut self, context: usize) -> &mut Costs {
        let class = (context / Self::SHORT).checked_ilog2().map_or(0, |class| class as usize + 1);
        &mut self.costs[class.min(31)]
    }
}

/// What steps took, by number of rows.
#[derive(Debug, Default)]
pub(super) struct Costs {
    steps: u64,
    /// Seconds, and the step they were last measured at.
    seconds: Vec<Option<(f64, u64)>>,
}

impl Costs {
    /// Records a step.
    pub(super) fn note(&mut self, rows: usize, took: Duration) {
        self.steps += 1;
        if self.seconds.len() <= rows {
            self.seconds.resize(rows + 1, None);
        }
        let took = took.as_secs_f64().max(1e-9);
        let known = self.known(rows).unwrap_or(took);
        // Towards the faster one at once, towards the slower one in steps: interruptions only ever add.
        let weight = if took < known { 0.5 } else { 0.2 };
        self.seconds[rows] = Some((known + (took - known) * weight, self.steps));
    }

    fn known(&self, rows: usize) -> Option<f64> {
        let (seconds, at) = (*self.seconds.get(rows)?)?;
        (self.steps - at < FORGOTTEN_AFTER).then_some(seconds)
    }

    /// Seconds of a step of this many rows, between the nearest that were measured; `None`: nothing was.
    fn estimate(&self, rows: usize) -> Option<f64> {
        let below = (1..=rows).rev().find_map(|at| Some((at, self.known(at)?)));
        let above = (rows..self.seconds.len()).find_map(|at| Some((at, self.known(at)?)));
        let grown = |by: usize| 1.0 + by as f64 * UNMEASURED_ROW;
        match (below, above) {
            (Some((low, seconds)), Some((high, most))) if low < high => {
                Some(seconds + (most - seconds) * (rows - low) as f64 / (high - low) as f64)
            }
            (Some((low, seconds)), _) => Some(seconds * grown(rows - low)),
            (None, Some((high, seconds))) => Some(seconds / grown(high - rows)),
            (None, None) => None,
        }
    }
}

/// Where guesses come from; those of one kind are right about equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Found behind two or three common tokens.
    Short,
    /// Found behind some common tokens.
    Middle,
    /// Found behind many common tokens.
    Long,
    /// Forced by the constraint.
    Forced,
    /// By the draft model.
    Drafted,
}

impl Kind {
    const COUNT: usize = 5;

    /// Of a guess found behind this many common tokens.
    pub(super) fn found(past: usize) -> Self {
        match past {
            0..4 => Self::Short,
            4..10 => Self::Middle,
            _ => Self::Long,
        }
    }

    /// The probability that a guess is right, before any was tried.
    fn prior(self) -> f64 {
        match self {
            Self::Short => 0.4,
            Self::Middle => 0.6,
            Self::Long => 0.85,
            Self::Forced => 0.9,
            Self::Drafted => 0.7,
        }
    }
}

/// How often one sequence's guesses were right.
#[derive(Debug, Default)]
pub(super) struct Odds {
    /// For each kind, the guesses that were right and all that were decided, older ones counting less.
    counts: [(f64, f64); Kind::COUNT],
}

impl Odds {
    /// Guesses that the prior counts for.
    const PRIOR: f64 = 2.0;
    /// What is left of the counts after each check, and after each token without one.
    const CHECKED: f64 = 0.9;
    const IDLE: f64 = 0.995;

    /// Records a check: the leading `right` of `guessed` tokens were right.
    pub(super) fn note(&mut self, kind: Kind, guessed: usize, right: usize) {
        let (hits, tries) = &mut self.counts[kind as usize];
        *hits = *hits * Self::CHECKED + right as f64;
        // Those behind the first wrong one were not decided.
        *tries = *tries * Self::CHECKED + guessed.min(right + 1) as f64;
    }

    /// Records a token without a check, so that guessing is tried again some day.
    pub(super) fn rest(&mut self, kind: Kind) {
        let (hits, tries) = &mut self.counts[kind as usize];
        *hits *= Self::IDLE;
        *tries *= Self::IDLE;
    }

    /// The probability that a guess of this kind is right, if those before it are.
    pub(super) fn of(&self, kind: Kind) -> f64 {
        let (hits, tries) = self.counts[kind as usize];
        (hits + kind.prior() * Self::PRIOR) / (tries + Self::PRIOR)
    }
}

/// Tokens that a step is expected to give a sequence with this many guesses, each right with probability `p` if the one before is.
fn expected(guesses: usize, p: f64) -> f64 {
    (0..=guesses).map(|at| p.powi(at as i32)).sum()
}

/// Guesses that could be checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) guesses: usize,
    /// The probability that each is right, if those before it are.
    pub(super) odds: f64,
    /// What it takes to make each of them.
    pub(super) seconds: f64,
}

/// All guesses that a step has room for.
pub(super) fn all_of(offers: &[Offer], room: usize) -> Vec<usize> {
    let mut room = room.min(MOST_GUESSED);
    let take = |offer: &Offer| {
        let guesses = offer.guesses.min(room);
        room -= guesses;
        guesses
    };
    offers.iter().map(take).collect()
}

/// How many guesses to check for each sequence of a step, at most `room` in all; `others` counts the sequences
/// without an offer. The step gives the most tokens a second, over all sequences: rows of one slow down the others, too.
pub(super) fn worthwhile(costs: &Costs, offers: &[Offer], others: usize, room: usize) -> Vec<usize> {
    let mut chosen = vec![0; offers.len()];
    let sequences = others + offers.len();
    let (mut rows, mut tokens) = (sequences, sequences as f64);
    let Some(base) = costs.estimate(rows) else { return chosen };
    let (mut rate, mut made) = (tokens / base, 0.0);
    // The likeliest first.
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|&one, &other| offers[other].odds.total_cmp(&offers[one].odds));
    for at in order {
        let Offer { guesses: offered, odds: p, seconds: each } = offers[at];
        let most = offered.min(sequences + room.min(MOST_GUESSED) - rows);
        let possible = CHOICES.into_iter().filter(|&guesses| guesses < most).chain((most > 0).then_some(most));
        let rates = possible.filter_map(|guesses| {
            let seconds = costs.estimate(rows + guesses)? + made + guesses as f64 * each;
            Some((guesses, (tokens - 1.0 + expected(guesses, p)) / seconds))
        });
        let Some((guesses, better)) = rates.max_by(|one, other| one.1.total_cmp(&other.1)) else { continue };
        if better > rate * LEAST_GAIN {
            chosen[at] = guesses;
            rows += guesses;
            tokens += expected(guesses, p) - 1.0;
            made += guesses as f64 * each;
            rate = better;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs of a machine where each row adds this fraction of a single one's step.
    fn costs(added: f64) -> Costs {
        let mut costs = Costs::default();
        for rows in 1..40 {
            costs.note(rows, Duration::from_secs_f64(0.01 * (1.0 + added * (rows - 1) as f64)));
        }
        costs
    }

    fn offers(offers: &[(usize, f64)]) -> Vec<Offer> {
        offers.iter().map(|&(guesses, odds)| Offer { guesses, odds, seconds: 0.0 }).collect()
    }

    #[test]
    fn what_takes_long_to_guess_is_guessed_less() {
        let chosen = |seconds| worthwhile(&costs(0.05), &[Offer { guesses: 8, odds: 0.9, seconds }], 0, 99)[0];
        assert_eq!(chosen(0.0), 8);
        assert!((1..8).contains(&chosen(0.003)), "{}", chosen(0.003));
        assert_eq!(chosen(0.01), 0, "as long as the step that it saves");
    }

    #[test]
    fn guesses_are_checked_where_that_is_faster() {
        assert_eq!(
            worthwhile(&Costs::default(), &offers(&[(8, 0.99)]), 0, 99),
            [0],
            "nothing is known of the machine yet"
        );
        assert_eq!(worthwhile(&costs(0.02), &offers(&[(31, 0.99)]), 0, 99), [31], "rows cost next to nothing");
        assert_eq!(worthwhile(&costs(1.0), &offers(&[(31, 0.95)]), 0, 99), [0], "a row costs a step");
        assert_eq!(worthwhile(&costs(0.2), &offers(&[(31, 0.1)]), 0, 99), [0], "they are seldom right");
        let some = worthwhile(&costs(0.2), &offers(&[(31, 0.8)]), 0, 99)[0];
        assert!((2..8).contains(&some), "{some}");
        assert_eq!(worthwhile(&costs(0.02), &offers(&[(0, 0.9), (4, 0.9)]), 2, 99), [0, 4]);
        assert_eq!(worthwhile(&costs(0.02), &offers(&[(4, 0.99), (4, 0.9)]), 2, 5), [4, 1]);
    }

    #[test]
    fn the_step_stays_within_its_rows_and_the_likeliest_come_first() {
        let chosen = worthwhile(&costs(0.001), &offers(&[(31, 0.8), (31, 0.99), (31, 0.9)]), 5, 99);
        assert_eq!(chosen.iter().sum::<usize>(), MOST_GUESSED);
        assert_eq!(chosen[1], MOST_GUESSED);
    }

    #[test]
    fn odds_follow_what_happens_and_fade() {
        let (mut odds, kind) = (Odds::default(), Kind::found(2));
        assert!((odds.of(kind) - 0.4).abs() < 1e-9);
        (0..20).for_each(|_| odds.note(kind, 4, 0));
        assert!(odds.of(kind) < 0.1, "{}", odds.of(kind));
        (0..2000).for_each(|_| odds.rest(kind));
        assert!((odds.of(kind) - 0.4).abs() < 0.01, "it is tried again");
        (0..20).for_each(|_| odds.note(kind, 8, 8));
        assert!(odds.of(kind) > 0.95);
        assert!((odds.of(Kind::found(20)) - 0.85).abs() < 1e-9, "kinds are counted apart");
    }

    #[test]
    fn steps_between_measured_ones_are_interpolated_and_old_ones_forgotten() {
        let mut costs = Costs::default();
        costs.note(1, Duration::from_millis(10));
        assert!(costs.estimate(11).is_some_and(|seconds| (seconds - 0.014).abs() < 1e-6), "optimistic");
        costs.note(11, Duration::from_millis(30));
        assert!(costs.estimate(6).is_some_and(|seconds| (seconds - 0.02).abs() < 1e-6));
        (0..FORGOTTEN_AFTER).for_each(|_| costs.note(1, Duration::from_millis(10)));
        assert!(costs.estimate(11).is_some_and(|seconds| (seconds - 0.014).abs() < 1e-6));
    }

    #[test]
    fn costs_of_a_long_context_say_nothing_of_a_short_one() {
        let mut costs = CostsByContext::default();
        costs.at(4000).note(32, Duration::from_millis(400));
        costs.at(100).note(1, Duration::from_millis(10));
        assert!(costs.at(20).estimate(32).is_some_and(|seconds| seconds < 0.03));
        assert!(costs.at(2500).estimate(32).is_some_and(|seconds| (seconds - 0.4).abs() < 1e-6));
        assert_eq!(costs.at(usize::MAX).estimate(1), None);
    }
}
