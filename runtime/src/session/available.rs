//! How much memory this process may still allocate: of the machine, of its control group, of its address space.
//!
//! Linux only; unknown on other systems. Page cache counts as free, since the system reclaims it.

use std::path::Path;

/// The tightest of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes left.
    pub bytes: u64,
    /// What the limit is on, to follow "of" in a message.
    pub of: &'static str,
    /// Whether mapped files count against it.
    pub counts_files: bool,
}

impl Available {
    /// Memory left for this process; `None` if the system does not report it.
    pub fn now() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = read("/proc/meminfo").and_then(|text| machine(&text));
        let group = read("/proc/self/cgroup").and_then(|text| group(Path::new("/sys/fs/cgroup"), &text));
        let space = read("/proc/self/limits").zip(read("/proc/self/status"));
        let space = space.and_then(|(limits, status)| address_space(&limits, &status));
        [machine, group, space].into_iter().flatten().min_by_key(|available| available.bytes)
    }
}

/// The value in kB that follows `name` at the start of a line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn machine(meminfo: &str) -> Option<Available> {
    let bytes = kilobytes(meminfo, "MemAvailable:")?;
    Some(Available { bytes, of: "the machine's memory", counts_files: true })
}

/// The tightest limit of the control group (version 2) and its ancestors.
fn group(root: &Path, membership: &str) -> Option<Available> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folders = Path::new(own).ancestors().map(|folder| root.join(folder));
    let left = folders.filter_map(|folder| {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let most: u64 = read("memory.max")?.trim().parse().ok()?;
        // Only anonymous memory: the page cache is reclaimed under pressure.
        let stat = read("memory.stat")?;
        let own = stat.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()?;
        Some(most.saturating_sub(own))
    });
    Some(Available { bytes: left.min()?, of: "the control group's memory", counts_files: true })
}

/// What is left of an address-space limit (`ulimit -v`).
fn address_space(limits: &str, status: &str) -> Option<Available> {
    let most = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    // Fails to parse if it is `unlimited`.
    let most: u64 = most.split_whitespace().next()?.parse().ok()?;
    let bytes = most.saturating_sub(kilobytes(status, "VmSize:")?);
    // The model is mapped already.
    Some(Available { bytes, of: "its address space (ulimit -v)", counts_files: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_from_proc_files() {
        let meminfo = "MemTotal:       24683520 kB\nMemFree:  1 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(machine(meminfo).map(|available| available.bytes), Some(20 << 20));
        let limits = "Limit        Soft Limit   Hard Limit   Units\nMax address space         1073741824           unlimited            bytes\n";
        let status = "Name:\tsatchel\nVmSize:\t  524288 kB\n";
        assert_eq!(address_space(limits, status).map(|available| available.bytes), Some(512 << 20));
        assert_eq!(address_space("Max address space  unlimited  unlimited  bytes\n", status), None);
    }

    #[test]
    fn the_tightest_control_group_limit_is_used() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |folder: &str, max: &str, anon: u64| {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("memory.max"), max).expect("a file");
            std::fs::write(folder.join("memory.stat"), format!("anon {anon}\nfile 77\n")).expect("a file");
        };
        write("a", "1000\n", 300);
        write("a/b", "max\n", 200);
        assert_eq!(group(root.path(), "0::/a/b\n").map(|available| available.bytes), Some(700));
        write("a/b", "600\n", 200);
        assert_eq!(group(root.path(), "0::/a/b\n").map(|available| available.bytes), Some(400));
        assert_eq!(group(root.path(), "3:memory:/x\n"), None, "version 1 is not supported");
    }
}
