//! The results of `bench` for one model: a row of a markdown table, or JSON.

use satchel_packer::shown_bytes;
use serde_json::{Value, json};

use super::speed::Test;
use crate::cli::Failure;
use crate::cli::inspect::short_count;
use crate::cli::out::outln;
use crate::cli::perplexity::Measured;
use crate::cli::shown::shown_on_one_line;
use crate::device::MemoryUse;
use crate::model::file_type::type_name;
use crate::plan::CacheTypes;
use crate::session::open::Compute;
use crate::session::{Memory, ModelSource};

/// One model, measured.
pub(super) struct Report {
    name: String,
    path: String,
    ty: String,
    model_bytes: u64,
    parameters: u64,
    weights_bytes: u64,
    memory: MemoryUse,
    /// Predicted size of weights, KV cache and activations together.
    predicted_bytes: Option<u64>,
    cache: CacheTypes,
    threads: usize,
    isa: &'static str,
    tests: Vec<Test>,
    perplexity: Option<Measured>,
}

impl Report {
    pub(super) fn new(
        source: &ModelSource,
        compute: Compute,
        (memory, predicted): (MemoryUse, Option<Memory>),
        tests: Vec<Test>,
        perplexity: Option<Measured>,
    ) -> Self {
        Self {
            name: file_name(source),
            path: source.path.display().to_string(),
            ty: type_name(&source.gguf),
            model_bytes: source.model_bytes(),
            parameters: source.gguf.parameters(),
            weights_bytes: source.gguf.tensor_bytes(),
            predicted_bytes: predicted
                .map(|memory| source.gguf.tensor_bytes() + memory.kv_bytes + memory.activation_bytes),
            memory,
            cache: compute.cache,
            threads: compute.threads,
            isa: compute.kernels.name,
            tests,
            perplexity,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.weights_bytes + self.memory.state_bytes + self.memory.scratch_bytes
    }

    /// One JSON object per line and test, with the model, threads and kernels it ran on.
    pub(super) fn print_tests(&self) -> Result<(), Failure> {
        for test in &self.tests {
            let mut line = json!({
                "test": test.name, "threads": self.threads, "isa": self.isa, "model": self.path,
                "model_bytes": self.model_bytes, "kv_type": self.cache.to_string(),
            });
            if let (Value::Object(line), Value::Object(speed)) = (&mut line, speed(test)) {
                line.extend(speed);
            }
            outln!("{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    }
}

impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tests: serde_json::Map<String, Value> =
            self.tests.iter().map(|test| (test.name.clone(), speed(test))).collect();
        let memory = json!({
            "weights_bytes": self.weights_bytes, "kv_bytes": self.memory.state_bytes,
            "scratch_bytes": self.memory.scratch_bytes, "total_bytes": self.memory_bytes(),
            "predicted_bytes": self.predicted_bytes, "kv_type": self.cache.to_string(),
        });
        json!({
            "model": self.path, "type": self.ty, "model_bytes": self.model_bytes, "parameters": self.parameters,
            "memory": memory, "threads": self.threads, "isa": self.isa, "tests": tests, "perplexity": self.perplexity,
        })
        .serialize(serializer)
    }
}

fn speed(test: &Test) -> Value {
    json!({ "avg_ts": test.mean(), "stddev_ts": test.deviation(), "samples_ts": test.samples })
}

fn file_name(source: &ModelSource) -> String {
    let name = source.path.file_name().map_or_else(|| source.name(), |name| name.to_string_lossy().into_owned());
    shown_on_one_line(&name).into_owned()
}

/// (column heading, width in characters, one model's value)
type Cell = (String, usize, String);

/// Prints rows as results arrive, so column widths are fixed up front.
pub(super) struct Table {
    name_width: usize,
}

impl Table {
    pub(super) fn new(sources: &[ModelSource]) -> Self {
        let longest = sources.iter().map(|source| file_name(source).chars().count()).max();
        Self { name_width: longest.unwrap_or(0).max("model".len()) }
    }

    pub(super) fn print(&self, report: &Report, first: bool) -> Result<(), Failure> {
        let cells = cells(report);
        let joined = |cell: &dyn Fn(&Cell) -> String| cells.iter().map(cell).collect::<Vec<_>>().join(" | ");
        let width = self.name_width;
        if first {
            outln!("| {:<width$} | {} |", "model", joined(&|(head, width, _)| format!("{head:>width$}")))?;
            outln!("| {} | {} |", "-".repeat(width), joined(&|(_, width, _)| format!("{}:", "-".repeat(width - 1))))?;
        }
        outln!("| {:<width$} | {} |", report.name, joined(&|(_, width, text)| format!("{text:>width$}")))
    }

    /// Explains the columns whose headings do not.
    pub(super) fn print_note(&self, reports: &[Report]) -> Result<(), Failure> {
        let Some(last) = reports.last() else { return Ok(()) };
        outln!(
            "\nmemory: weights, KV cache and scratch of the tests; predicted: its forecast; speed: tokens a second"
        )?;
        if last.cache != CacheTypes::default() {
            outln!("KV cache: {}", last.cache)?;
        }
        if let Some(Measured { predicted_tokens, windows, context, .. }) = last.perplexity {
            outln!("perplexity: {predicted_tokens} tokens in {windows} windows of {context}")?;
        }
        Ok(())
    }
}

/// The columns after the name.
fn cells(report: &Report) -> Vec<Cell> {
    let fixed = |head: &str, width: usize, text: String| (head.to_owned(), width, text);
    let mut cells = vec![
        fixed("type", 6, report.ty.clone()),
        fixed("size", 8, shown_bytes(report.model_bytes)),
        fixed("parameters", 10, short_count(report.parameters)),
        fixed("memory", 8, shown_bytes(report.memory_bytes())),
        fixed("predicted", 9, report.predicted_bytes.map_or_else(String::new, shown_bytes)),
        fixed("threads", 7, report.threads.to_string()),
        fixed("kernels", 10, report.isa.to_owned()),
    ];
    let tests = report.tests.iter();
    cells.extend(tests.map(|test| (test.name.clone(), 16, format!("{:.2} ± {:.2}", test.mean(), test.deviation()))));
    cells.extend(report.perplexity.map(|measured| fixed("perplexity", 10, format!("{:.4}", measured.perplexity))));
    cells
}
