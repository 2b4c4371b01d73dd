//! Chooses the context length: the requested one, or the longest that the model supports and memory holds.

use super::available::Available;
use super::memory::{Demand, Memory};
use super::open::{OpenError, OpenOptions, default_context, plan_of};
use super::source::ModelSource;
use crate::plan::Plan;

/// Lack of memory does not reduce a default context below this: less is of no use for a conversation.
const SHORTEST: usize = 2048;

/// Granularity of chosen contexts.
const STEP: usize = 256;

/// A context length, with remarks for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) context: usize,
    /// Why it is shorter than the default.
    pub(super) note: Option<String>,
    /// That it may not fit into memory.
    pub(super) warning: Option<String>,
}

/// Chooses the context length, and plans the model for it.
///
/// # Errors
/// The model cannot be planned, or the requested context is invalid.
pub(super) fn choose(
    source: &ModelSource,
    options: &OpenOptions,
    demand: &dyn Fn(usize) -> Demand,
) -> Result<(Plan, Chosen), OpenError> {
    let plan = plan_of(source, options.context)?;
    let asked = options.context_for(plan.trained_context)?;
    let Some(available) = Available::now() else {
        return Ok((plan, Chosen { context: asked, ..Chosen::default() }));
    };
    let takes = |context: usize| Some(needed(&Memory::of_plan(source, &plan, demand(context)).ok()?, available));
    let chosen = match options.context {
        Some(_) => checked(asked, available, &takes),
        None => fitting(asked, available, &takes),
    };
    // Some rotary embeddings depend on the context length.
    match chosen.context == default_context(plan.trained_context) || options.context.is_some() {
        true => Ok((plan, chosen)),
        false => Ok((plan_of(source, Some(chosen.context))?, chosen)),
    }
}

/// Memory for kept conversations if none is given: a quarter of what the model leaves free, and not more than this. None where
/// the system does not say what is free.
const KEPT_MOST: u64 = 8 << 30;

/// See [`KEPT_MOST`].
pub(super) fn default_kept(memory: &Memory) -> u64 {
    kept_of(memory, Available::now())
}

fn kept_of(memory: &Memory, available: Option<Available>) -> u64 {
    let free = available.map_or(0, |available| available.bytes.saturating_sub(needed(memory, available)));
    (free / 4).min(KEPT_MOST)
}

/// Bytes that count against what is available.
fn needed(memory: &Memory, available: Available) -> u64 {
    let own = memory.kv_bytes + memory.working_bytes();
    if available.counts_files { own + memory.file_bytes } else { own }
}

/// The given context, with a warning if it does not fit.
fn checked(context: usize, available: Available, takes: &dyn Fn(usize) -> Option<u64>) -> Chosen {
    let warning = takes(context).filter(|needed| *needed > available.bytes).map(|needed| {
        format!(
            "a context of {context} tokens needs {} in total, but {} of {} are left: requests may fail as it fills up; choose a smaller --context",
            shown(needed),
            shown(available.bytes),
            available.of
        )
    });
    Chosen { context, note: None, warning }
}

/// The longest context up to `most` that fits.
fn fitting(most: usize, available: Available, takes: &dyn Fn(usize) -> Option<u64>) -> Chosen {
    let fits = |context: usize| takes(context).is_none_or(|needed| needed <= available.bytes);
    if fits(most) {
        return Chosen { context: most, ..Chosen::default() };
    }
    let shortest = SHORTEST.min(most);
    // Binary search in steps: `low` is taken even if it does not fit, `high` does not fit.
    let (mut low, mut high) = (shortest / STEP, most.div_ceil(STEP));
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle * STEP) { low = middle } else { high = middle }
    }
    let context = if low == shortest / STEP { shortest } else { low * STEP };
    let left = format!("{} of {} are left", shown(available.bytes), available.of);
    let note = (context < most).then(|| format!("shorter than {most}, since {left}"));
    Chosen { note, ..checked(context, available, takes) }
}

/// 94371840 -> "90.0 MiB"
fn shown(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(bytes: u64) -> Available {
        Available { bytes, of: "the machine's memory", counts_files: true }
    }

    /// 100 MiB plus 1 KiB per position.
    fn takes(context: usize) -> Option<u64> {
        Some((100 << 20) + ((context as u64) << 10))
    }

    #[test]
    fn the_default_context_is_as_long_as_memory_holds() {
        let chosen = |megabytes: u64| fitting(32768, available(megabytes << 20), &takes);
        assert_eq!(chosen(200), Chosen { context: 32768, ..Chosen::default() });
        let short = chosen(110);
        assert_eq!((short.context, short.warning), (10240, None));
        assert_eq!(short.note.as_deref(), Some("shorter than 32768, since 110.0 MiB of the machine's memory are left"));
        let none = chosen(50);
        assert_eq!(none.context, 2048);
        let warning = none.warning.expect("not even that fits");
        assert!(warning.contains("needs 102.0 MiB in total, but 50.0 MiB"), "{warning}");
        let whole = fitting(1000, available(1), &takes);
        assert_eq!((whole.context, whole.note), (1000, None), "a short trained context is not reduced");
    }

    #[test]
    fn a_quarter_of_what_is_free_is_for_kept_conversations() {
        let memory = Memory {
            file_bytes: 100 << 20,
            kv_bytes: 60 << 20,
            activation_bytes: 40 << 20,
            scratch_bytes: 0,
            vocabulary_bytes: 0,
            program_bytes: 0,
        };
        let kept = |megabytes: u64| kept_of(&memory, Some(available(megabytes << 20))) >> 20;
        assert_eq!((kept(150), kept(600), kept(1 << 20)), (0, 100, 8 << 10));
        assert_eq!(kept_of(&memory, None), 0, "nobody knows what is free");
    }

    #[test]
    fn a_requested_context_is_kept_with_a_warning() {
        assert_eq!(checked(4096, available(1 << 30), &takes), Chosen { context: 4096, ..Chosen::default() });
        let chosen = checked(4096, available(1 << 20), &takes);
        assert_eq!(chosen.context, 4096);
        assert!(chosen.warning.is_some_and(|line| line.contains("4096 tokens needs 104.0 MiB")));
        assert_eq!(checked(4096, available(1), &|_| None).warning, None, "the size is unknown");
    }
}
