//! Processors: the default number of threads, and pinning.

/// Default number of compute threads: physical cores, limited to what the process may use (affinity, container limits).
///
/// Two threads of a core share its multipliers and its cache, which the kernels saturate with one thread.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed)
}

/// A set of processor numbers, such as `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

/// Upper bound for processor numbers, exclusive: the size of the system's processor set.
const CPUS_MOST: usize = 1024;

impl std::str::FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < CPUS_MOST);
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => return Err("it must be processor numbers, such as 0-3 or 0,2".to_owned()),
            }
        }
        Ok(Self(cpus))
    }
}

impl Cpus {
    /// Pins this thread, and all threads that it starts from now on, to these processors.
    ///
    /// # Errors
    /// One line for the user: none of the processors is available, or the system does not support pinning.
    #[cfg(target_os = "linux")]
    pub fn stay(&self) -> Result<(), String> {
        let mut set = rustix::thread::CpuSet::new();
        self.0.iter().for_each(|cpu| set.set(*cpu));
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| {
            let allowed = std::thread::available_parallelism().map_or(1, usize::from);
            format!("--cpus: this process may use none of these processors ({error}), only {allowed} others")
        })
    }

    /// See above.
    #[cfg(not(target_os = "linux"))]
    pub fn stay(&self) -> Result<(), String> {
        Err(match cfg!(windows) {
            true => "--cpus works on Linux only; here `start /affinity MASK satchel ...` does the same",
            false => "--cpus works on Linux only; this system does not let programs choose processors",
        }
        .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_numbers_and_ranges() {
        assert_eq!("0-2,5".parse(), Ok(Cpus(vec![0, 1, 2, 5])));
        assert_eq!("7".parse(), Ok(Cpus(vec![7])));
        for bad in ["", "a", "1-", "2-1", "-1", "0,,1", "1024"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_pinned_and_unknown_processors_are_refused() {
        // On its own thread, so that other tests are not pinned.
        let pinned = std::thread::spawn(|| {
            let had = rustix::thread::sched_getaffinity(None).expect("is known");
            let first = (0..CPUS_MOST).find(|cpu| had.is_set(*cpu)).expect("one at least");
            Cpus(vec![first]).stay().expect("it may");
            assert_eq!(default_threads(), 1);
            let none = (0..CPUS_MOST).rev().find(|cpu| !had.is_set(*cpu)).expect("fewer than can be named");
            Cpus(vec![none]).stay().expect_err("there is no such processor")
        });
        let line = pinned.join().expect("no panic");
        assert!(line.starts_with("--cpus: this process may use none of these processors"), "{line}");
    }
}
