//! `satchel assemble`: builds a release's executables, each one platform's runtime that carries the other platforms'
//! runtimes. Hidden: only `tools/release.sh` calls it.

use std::path::PathBuf;

use satchel_packer::Platform;
use satchel_packer::{Plan, Silent, Target, shown_bytes, universal};

use super::Failure;
use super::out::outln;
use super::writing::PACKED_BY;

/// Arguments of `assemble`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The runtimes, one a platform: programs without a bundle
    #[arg(value_name = "RUNTIME", required = true)]
    pub runtimes: Vec<PathBuf>,

    /// The folder to write satchel-PLATFORM to; files there are replaced
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut programs: Vec<(Platform, Vec<u8>)> = Vec::new();
    let mut sources = Vec::new();
    for path in &args.runtimes {
        let fail = |what: &str| Failure::new(format!("{}: {what}", path.display()));
        if path.metadata().is_ok_and(|facts| !facts.is_file()) {
            return Err(fail("is not a regular file: give a runtime"));
        }
        let content = std::fs::read(path).map_err(|error| fail(&error.to_string()))?;
        let platform =
            Platform::detect(&content).ok_or_else(|| fail("is no program of a platform that satchel knows"))?;
        if programs.iter().any(|(other, _)| *other == platform) {
            return Err(fail(&format!("is a second program for {platform}")));
        }
        programs.push((platform, content));
        sources.push((platform, path));
    }
    programs.sort_by_key(|(platform, _)| *platform);
    std::fs::create_dir_all(&args.output)?;
    sources.sort_by_key(|(platform, _)| *platform);
    for (platform, source) in sources {
        let path = args.output.join(format!("satchel-{platform}{}", platform.exe_suffix()));
        let (plan, program): (Plan, _) = universal::release(&programs, platform, PACKED_BY, source)?;
        let packed = plan.write(&program, Target { path: &path, force: true }, &Silent)?;
        outln!("{}: {}", path.display(), shown_bytes(packed.bytes))?;
    }
    Ok(())
}
