//! The kernels: where the forward pass spends its time, once per instruction set.
//!
//! A [`Kernels`] is a table of function pointers; every operation takes one. The scalar table runs everywhere and is the
//! reference. Each instruction set has a folder that names its requirements once, and its table is only reachable through
//! [`tables`], which checks the processor. Nothing is chosen at compile time, so one executable serves every x86-64, and one
//! every 64-bit ARM.
//!
//! The invariant that the rest of the engine relies on: on one table, an output element depends only on its own inputs, bit for
//! bit. How many tokens share the call, how many threads work and how the rows are split never affects a result. (Whether a token
//! belongs to a prompt or to an answer may: [`matmul::Tokens`].)
#![allow(unsafe_code)]

pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod elementwise;
pub mod experts;
pub mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod one;
pub mod recurrence;
mod scalar;
pub mod scan;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod scratch;
pub mod threads;
mod vector;
mod zeros;

use std::fmt;
use std::sync::OnceLock;

use satchel_gguf::TensorType;

pub use zeros::{Zero, zeros};

/// One instruction set's functions.
pub struct Kernels {
    /// Its name in `--isa` and in logs.
    pub name: &'static str,
    /// Matrix products and quantising of their activations.
    pub matmul: matmul::MatmulKernels,
    /// Attention over the KV cache.
    pub attention: attention::AttentionKernels,
    /// Norms, gates, rotary positions.
    pub elementwise: elementwise::ElementwiseKernels,
    /// Fixed-size states.
    pub recurrence: recurrence::RecurrenceKernels,
}

impl Kernels {
    /// Whether BF16 weights are multiplied by activations that are rounded to BF16.
    pub fn rounds(&self) -> bool {
        self.matmul.round.is_some()
    }

    /// Whether the tokens of prompts are multiplied in tiles by weights of this type, which gives them other bits than the same tokens
    /// of an answer.
    pub fn tiles(&self, ty: TensorType) -> bool {
        self.matmul.for_prompts(ty).is_some()
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every table this processor can run, slowest first; the first is always `scalar`.
pub fn tables() -> Vec<&'static Kernels> {
    static TABLES: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
    TABLES.get_or_init(|| KNOWN.iter().filter(|known| (known.runs_here)()).map(|known| known.table).collect()).clone()
}

/// The fastest table this processor can run: the last of those that gain here from what sets them apart.
pub fn best() -> &'static Kernels {
    static BEST: OnceLock<&'static Kernels> = OnceLock::new();
    BEST.get_or_init(|| last_that_gains(|_| true))
}

/// The fastest of those that multiply prompts like answers: with quantised weights other processors of its architecture have its
/// bits, too.
pub fn best_without_tiles() -> &'static Kernels {
    last_that_gains(|table| table.matmul.prompts.is_none())
}

fn last_that_gains(wanted: impl Fn(&Kernels) -> bool) -> &'static Kernels {
    let fit = |known: &&Known| wanted(known.table) && (known.runs_here)() && (known.gains_here)();
    KNOWN.iter().rev().find(fit).expect("scalar runs everywhere").table
}

/// The table with this name.
///
/// # Errors
/// One line for the user if the name is unknown or the processor does not support the table.
pub fn by_name(name: &str) -> Result<&'static Kernels, String> {
    let here = tables();
    if let Some(table) = here.iter().find(|table| table.name == name) {
        return Ok(table);
    }
    let names: Vec<_> = here.iter().map(|table| table.name).collect();
    let names = names.join(", ");
    match KNOWN.iter().find(|known| known.table.name == name) {
        Some(known) => {
            Err(format!("this processor cannot run `{name}` kernels (they need {}); it can run: {names}", known.needs))
        }
        None => Err(format!("there are no `{name}` kernels; this processor can run: {names}")),
    }
}

/// A table, its requirements, and whether this processor meets them.
struct Known {
    table: &'static Kernels,
    needs: &'static str,
    runs_here: fn() -> bool,
    /// Whether it is faster than those before it, asked only where it runs. What no flag tells is measured, in well under a
    /// millisecond.
    gains_here: fn() -> bool,
}

/// Of a table that is faster wherever it runs.
fn always() -> bool {
    true
}

/// Every table of this architecture, slowest first.
static KNOWN: &[Known] = &[
    Known { table: &scalar::TABLE, needs: "nothing", runs_here: always, gains_here: always },
    #[cfg(target_arch = "x86_64")]
    Known { table: &avx2::TABLE, needs: avx2::NEEDS, runs_here: avx2::runs_here, gains_here: always },
    #[cfg(target_arch = "x86_64")]
    Known {
        table: &avx2::TABLE_VNNI,
        needs: avx2::NEEDS_VNNI,
        runs_here: avx2::runs_here_with_vnni,
        gains_here: always,
    },
    #[cfg(target_arch = "x86_64")]
    Known { table: &avx512::TABLE, needs: avx512::NEEDS, runs_here: avx512::runs_here, gains_here: always },
    #[cfg(target_arch = "x86_64")]
    Known {
        table: &avx512::TABLE_VNNI,
        needs: avx512::NEEDS_VNNI,
        runs_here: avx512::runs_here_with_vnni,
        gains_here: always,
    },
    #[cfg(target_arch = "x86_64")]
    Known {
        table: &avx512::TABLE_BF16,
        needs: avx512::NEEDS_BF16,
        runs_here: avx512::runs_here_with_bf16,
        gains_here: avx512::gains_from_bf16,
    },
    #[cfg(target_arch = "x86_64")]
    Known {
        table: &avx512::TABLE_AMX,
        needs: avx512::amx::NEEDS,
        runs_here: avx512::amx::runs_here,
        gains_here: avx512::gains_from_amx,
    },
    #[cfg(target_arch = "aarch64")]
    Known { table: &neon::TABLE, needs: "nothing", runs_here: always, gains_here: always },
    #[cfg(target_arch = "aarch64")]
    Known {
        table: &neon::TABLE_DOTPROD,
        needs: neon::NEEDS_DOTPROD,
        runs_here: neon::runs_here_with_dotprod,
        gains_here: always,
    },
    #[cfg(target_arch = "aarch64")]
    Known {
        table: &neon::TABLE_I8MM,
        needs: neon::NEEDS_I8MM,
        runs_here: neon::runs_here_with_i8mm,
        gains_here: always,
    },
];

/// The tables that tests run on, with a line that says which were left out and why. `SATCHEL_TEST_TABLES`, space-separated names,
/// restricts them: an emulated processor is slow.
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::print_stdout, reason = "tests say what they ran on")]
pub fn tables_under_test(test: &str) -> Vec<&'static Kernels> {
    let wanted = std::env::var("SATCHEL_TEST_TABLES").ok();
    let wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(' ').any(|wanted| wanted == name));
    let here: Vec<_> = tables().into_iter().filter(|table| wanted(table.name)).collect();
    let ran: Vec<_> = here.iter().map(|table| table.name).collect();
    let skipped: Vec<_> = KNOWN
        .iter()
        .filter(|known| !ran.contains(&known.table.name))
        .map(|known| match (known.runs_here)() {
            true => format!("; {} not asked for", known.table.name),
            false => format!("; {} skipped: this processor lacks {}", known.table.name, known.needs),
        })
        .collect();
    println!("{test}: ran on {}{}", ran.join(", "), skipped.concat());
    assert!(!here.is_empty(), "SATCHEL_TEST_TABLES names no table of this processor");
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_its_name() {
        assert_eq!(tables()[0].name, "scalar");
        for table in tables() {
            assert_eq!(by_name(table.name).map(|found| found.name), Ok(table.name));
        }
        assert!(best_without_tiles().matmul.prompts.is_none());
        let error = by_name("mmx").expect_err("no such table");
        assert!(error.starts_with("there are no `mmx` kernels; this processor can run: scalar"), "{error}");
    }
}
