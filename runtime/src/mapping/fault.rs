//! SIGBUS within a mapped file: it was cut short while it was in use, or its disk cannot be read.
//!
//! A command ends with a line that names the file. A server goes on: the rest of the mapping becomes zeros, so that the
//! computation under way ends, and [`damaged`] says that what it gives is worth nothing. A fault anywhere else is left to
//! whoever handled SIGBUS before, which is the standard library.
//!
//! The handler runs in the middle of anything, so it takes no lock and no memory: mapped files are in a list that only
//! grows, by records that stay (a hundred bytes each), with the line to print made beforehand.

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
/// Whether a fault is survived.
static GO_ON: AtomicBool = AtomicBool::new(false);
/// What SIGBUS did before; set before the handler is.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// Keeps a mapping in the list.
#[derive(Debug)]
pub(super) struct Watched(&'static Record);

// SAFETY: records are never changed but in their atomics, and `next` is only read.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.length.store(0, Ordering::Release);
    }
}

/// Puts a mapping into the list; faults in it are this file's from here on.
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

/// From here on a fault in a mapped file is survived, for whoever asks [`damaged`] after each computation.
pub fn go_on_when_damaged() {
    GO_ON.store(true, Ordering::SeqCst);
}

/// A file, mapped at this moment, in which a read has failed: what was computed of it since is worth nothing.
pub fn damaged() -> Option<&'static Path> {
    let failed = |record: &&Record| record.damaged.load(Ordering::Acquire) && record.length.load(Ordering::Acquire) > 0;
    records().find(failed).map(|record| record.path.as_path())
}

fn records() -> impl Iterator<Item = &'static Record> {
    // SAFETY: each pointer is null or a leaked record, published whole.
    let first = unsafe { RECORDS.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |record| unsafe { record.next.as_ref() })
}

/// Sets the handler, once in a program.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        PAGE_BYTES.store(rustix::param::page_size(), Ordering::Relaxed);
        // SAFETY: zeros are a value of the struct, both calls get pointers that are good for their length, and the handler
        // does nothing that a signal handler may not do.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &mut before);
            let _ = BEFORE.set(before);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            // Threads of the standard library have a stack for signals.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
        }
    });
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the fault's facts.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // 0 and below: a process sent the signal, and there is no address.
    let within = |record: &&Record| {
        address.checked_sub(record.start).is_some_and(|at| at < record.length.load(Ordering::Acquire))
    };
    let Some(record) = records().find(within).filter(|_| code > 0) else {
        return hand_on(signal, info, context);
    };
    record.damaged.store(true, Ordering::Release);
    if GO_ON.load(Ordering::SeqCst) && becomes_zeros(record, address) {
        return;
    }
    // SAFETY: both may be called in a handler, and the line outlives the call.
    unsafe {
        libc::write(2, record.line.as_ptr().cast(), record.line.len());
        libc::_exit(1);
    }
}

/// Puts zeros in the place of the mapping from the page of `address` on. A file that was cut short has nothing there; one
/// whose disk fails is not used any more.
fn becomes_zeros(record: &Record, address: usize) -> bool {
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address - address % page_bytes;
    let length = record.start + record.length.load(Ordering::Acquire) - page;
    // SAFETY: the range lies within one mapping of this program, which only reads it, and the new one is read-only, too.
    let mapped = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
        libc::mmap(page as *mut c_void, length, libc::PROT_READ, flags, -1, 0)
    };
    mapped != libc::MAP_FAILED
}

/// Does what was done before there was this handler.
fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: the action is the one by default; the signal comes again, at the latest when this handler ends.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    let takes_info = before.is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: the address is that of a handler which was set for this signal, of the kind that its flags say.
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
