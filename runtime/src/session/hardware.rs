//! What the machine offers: how many threads pay.

/// Threads that compute at once: physical cores, within what the process may use (affinity, container limits).
///
/// Two threads of one core share its multipliers and its cache, and the kernels keep both busy with one.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed)
}
