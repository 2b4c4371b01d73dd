//! Writes a payload in one or several forms, and prints a summary of each. Shared by `pack`, `upgrade` and `extract`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use satchel_packer::runtimes::Runtimes;
use satchel_packer::{Form, Packed, Plan, Program, Target, shown_bytes};

use super::Failure;
use super::out::outln;
use super::progress::Progress;
use super::shown::shown_on_one_line;

/// The manifest's `packed_by`.
pub(super) const PACKED_BY: &str = concat!("satchel ", env!("CARGO_PKG_VERSION"));

/// A plan, and how to write its files.
pub(super) struct Writing<'a> {
    pub(super) plan: &'a Plan,
    /// The file that programs are taken from.
    pub(super) engine: &'a Path,
    pub(super) force: bool,
    pub(super) quiet: bool,
    /// "packing"
    pub(super) verb: &'static str,
}

/// A file that will be written: its program, and where it goes.
pub(super) struct Planned {
    program: Program,
    path: PathBuf,
    form: Option<Form>,
}

impl Writing<'_> {
    /// Plans a file for each form. Without forms, `output` gets the engine's own program.
    pub(super) fn files(&self, forms: Option<&[Form]>, output: &Path) -> Result<Vec<Planned>, Failure> {
        let Some(forms) = forms else {
            let program = Program::open(self.engine)?;
            return Ok(vec![Planned { program, path: output.to_owned(), form: None }]);
        };
        let runtimes = Runtimes::open(self.engine)?;
        let path = |form: Form| match forms {
            [_] => form.only_name(output.to_owned()),
            _ => form.file_name(output),
        };
        let planned = forms.iter().map(|form| {
            let program = form.program(&runtimes, PACKED_BY)?;
            Ok(Planned { program, path: path(*form), form: Some(*form) })
        });
        planned.collect()
    }

    /// Checks every target before the first is written.
    pub(super) fn check(&self, files: &[Planned]) -> Result<(), Failure> {
        for file in files {
            self.plan.check_target(&file.program, self.target(file))?;
        }
        Ok(())
    }

    /// Writes the files one after the other; after a failure, the finished ones stay.
    pub(super) fn write(&self, files: Vec<Planned>) -> Result<Vec<Packed>, Failure> {
        let progress = Progress::new(self.verb, self.quiet)?;
        let mut all = Vec::new();
        for file in files {
            let begun = Instant::now();
            let packed = progress.finish(self.plan.write(&file.program, self.target(&file), &progress))?;
            if !self.quiet {
                self.print(&packed, &file, begun)?;
            }
            all.push(packed);
        }
        if let Some(packed) = all.first().filter(|_| !self.quiet) {
            for sha256 in &packed.model_sha256 {
                outln!("  model sha256 {sha256}")?;
            }
            outln!("  payload sha256 {}", packed.payload_sha256)?;
        }
        Ok(all)
    }

    fn target<'a>(&self, file: &'a Planned) -> Target<'a> {
        Target { path: &file.path, force: self.force }
    }

    fn print(&self, packed: &Packed, file: &Planned, begun: Instant) -> Result<(), Failure> {
        let (size, seconds) = (shown_bytes(packed.bytes), begun.elapsed().as_secs_f64());
        let carries = format!("carries {}, {}", shown_on_one_line(self.plan.name()), self.plan.shown_size());
        let path = packed.path.display();
        match &packed.beside {
            None => outln!("{path}: {size} in {seconds:.1} s, {carries}"),
            Some(beside) => outln!(
                "{path} and {}: {size} in {seconds:.1} s, {carries}; keep them together, Windows starts no program of \
                 4 GiB or more",
                beside.display()
            ),
        }?;
        let is_exe = packed.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("exe"));
        if file.form == Some(Form::Universal) && !is_exe {
            outln!("  on Windows, give it a name that ends in .exe")?;
        }
        Ok(())
    }
}
