//! SIGBUS inside a mapped file: it was truncated while in use, or its disk cannot be read.
//!
//! A command ends with a line that names the file. A server goes on: the rest of the mapping is replaced by zeros, so that the
//! computation in progress completes, and [`damaged`] reports that its result is invalid. Faults anywhere else go to the
//! previous SIGBUS handler, the standard library's.
//!
//! The handler may interrupt anything, so it neither locks nor allocates: mapped files are in an append-only list of records
//! that are never freed (a hundred bytes each), with the message prepared in advance.

use std::ffi::{c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// One mapped file.
#[derive(Debug)]
struct Record {
    start: usize,
    /// 0 once it is no longer mapped.
    length: AtomicUsize,
    path: PathBuf,
    line: Vec<u8>,
    damaged: AtomicBool,
    next: *const Record,
}

/// The newest record.
static RECORDS: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());
/// Whether faults are survived.
static GO_ON: AtomicBool = AtomicBool::new(false);
/// The previous SIGBUS action; set before the handler is installed.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// Keeps a mapping in the list.
#[derive(Debug)]
pub(super) struct Watched(&'static Record);

// SAFETY: records only change in their atomics, and `next` is only read.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.length.store(0, Ordering::Release);
    }
}

/// Adds a mapping to the list; faults in it are attributed to this file from here on.
pub(super) fn watch(bytes: &[u8], path: &Path) -> Watched {
    install();
    let mut line = b"satchel: ".to_vec();
    line.extend(path.as_os_str().as_bytes().iter().map(|&byte| if byte.is_ascii_control() { b'?' } else { byte }));
    line.extend_from_slice(format!(": {}\n", super::DAMAGE).as_bytes());
    let record = Box::leak(Box::new(Record {
        start: bytes.as_ptr() as usize,
        length: AtomicUsize::new(bytes.len()),
        path: path.to_owned(),
        line,
        damaged: AtomicBool::new(false),
        next: ptr::null(),
    }));
    let mut newest = RECORDS.load(Ordering::Acquire);
    loop {
        record.next = newest;
        match RECORDS.compare_exchange_weak(newest, record, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Watched(record),
            Err(other) => newest = other,
        }
    }
}

/// From here on, faults in mapped files are survived; callers must check [`damaged`] after each computation.
pub fn go_on_when_damaged() {
    GO_ON.store(true, Ordering::SeqCst);
}

/// A currently mapped file in which a read failed: anything computed from it since is invalid.
pub fn damaged() -> Option<&'static Path> {
    let failed = |record: &&Record| record.damaged.load(Ordering::Acquire) && record.length.load(Ordering::Acquire) > 0;
    records().find(failed).map(|record| record.path.as_path())
}

fn records() -> impl Iterator<Item = &'static Record> {
    // SAFETY: each pointer is null or a leaked record, fully published.
    let first = unsafe { RECORDS.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |record| unsafe { record.next.as_ref() })
}

/// Installs the handler, once per process.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // SAFETY: it reads a constant of the system.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE_BYTES.store(usize::try_from(page_bytes).unwrap_or(4096), Ordering::Relaxed);
        // SAFETY: zeros are a valid value of the struct, both calls get valid pointers, and the handler is async-signal-safe.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &mut before);
            let _ = BEFORE.set(before);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            // Threads of the standard library have a signal stack.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
        }
    });
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes valid fault information.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // 0 and below: sent by a process, so there is no address.
    let within = |record: &&Record| {
        address.checked_sub(record.start).is_some_and(|at| at < record.length.load(Ordering::Acquire))
    };
    let Some(record) = records().find(within).filter(|_| code > 0) else {
        return forward(signal, info, context);
    };
    record.damaged.store(true, Ordering::Release);
    if GO_ON.load(Ordering::SeqCst) && map_zeros(record, address) {
        return;
    }
    // SAFETY: both are async-signal-safe, and the line outlives the call.
    unsafe {
        libc::write(2, record.line.as_ptr().cast(), record.line.len());
        libc::_exit(1);
    }
}

/// Maps zeros over the mapping from the page of `address` on. A truncated file has no data there; one whose disk fails is no
/// longer used.
fn map_zeros(record: &Record, address: usize) -> bool {
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address - address % page_bytes;
    let length = record.start + record.length.load(Ordering::Acquire) - page;
    // SAFETY: the range lies within one mapping of this program, which only reads it, and the new one is read-only too.
    let mapped = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
        libc::mmap(page as *mut c_void, length, libc::PROT_READ, flags, -1, 0)
    };
    mapped != libc::MAP_FAILED
}

/// Passes the signal to the previous handler.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: this restores the default action; the signal is raised again, at the latest when this handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    let takes_info = before.is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: the address is that of a handler installed for this signal, of the kind its flags say.
    unsafe {
        if takes_info {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = std::mem::transmute(handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        }
    }
}
