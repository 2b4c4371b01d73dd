//! Atomic output: a file appears complete or not at all. All commands write their files through this module.
//!
//! On Linux the file has no name (`O_TMPFILE`) until it is complete and linked, so nothing is left behind even after
//! SIGKILL or power loss. Without `O_TMPFILE` it is written beside the target as `.NAME.PID.satchel-partial`, locked
//! meanwhile; dropping it removes it, and the next write to the same target removes one left by a killed process.
//!
//! An existing file is replaced only with `force`, and only if it is a regular file. A symbolic link is kept and its target
//! replaced; a pipe or a terminal is written to by commands that can stream; block devices and sockets are refused.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

const PARTIAL_SUFFIX: &str = ".satchel-partial";

/// How much of a target's name its partial file repeats: the prefix and suffix must fit into 255 bytes, too.
const NAME_KEPT_BYTES: usize = 200;

/// A file being written. Dropping it without [`Output::commit`] discards it.
pub struct Output {
    file: File,
    target: PathBuf,
    form: Form,
    force: bool,
}

/// Where the bytes go until the file is complete.
enum Form {
    /// A file without a name (`O_TMPFILE`).
    Nameless,
    /// A file with a temporary name.
    Named(Partial),
    /// A pipe or a character device, written directly.
    Stream,
}

/// A named file that is removed when dropped.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Errors cannot be reported here; the next run removes what stays.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What exists at a target path.
enum There {
    Nothing,
    /// A regular file: its path with links resolved, and its permissions.
    File(PathBuf, Permissions),
    /// A pipe or a character device.
    Stream,
}

impl Output {
    /// Begins a file that [`Output::commit`] will place at `target`.
    ///
    /// # Errors
    /// The target's folder does not exist or is not writable; the target is not a regular file, or exists and `force` is
    /// false.
    pub fn create(target: &Path, executable: bool, force: bool) -> Result<Self, Error> {
        match look(target)? {
            There::Stream => Err(Error::unfit(target, "is not a regular file: give another name")),
            There::Nothing => Self::begin(target.to_owned(), executable, force, None),
            There::File(..) if !force => Err(Error::Exists(target.to_owned())),
            There::File(path, permissions) => Self::begin(path, executable, force, Some(permissions)),
        }
    }

    /// The same for bytes written in order: a pipe, a terminal or `/dev/null` is written directly.
    ///
    /// # Errors
    /// As [`Output::create`].
    pub fn create_or_stream(target: &Path, force: bool) -> Result<Self, Error> {
        if !matches!(look(target)?, There::Stream) {
            return Self::create(target, false, force);
        }
        let file = OpenOptions::new().write(true).open(target).map_err(Error::file(target))?;
        if file.metadata().map_err(Error::file(target))?.is_file() {
            return Err(Error::Exists(target.to_owned())); // created since `look`
        }
        Ok(Self { file, target: target.to_owned(), form: Form::Stream, force })
    }

    /// The same, but refuses to follow a link: for targets below a folder that others may have filled.
    ///
    /// # Errors
    /// As [`Output::create`]; the target is a link.
    pub(crate) fn create_unlinked(target: &Path, force: bool) -> Result<Self, Error> {
        if target.is_symlink() {
            return Err(Error::unfit(target, "is a link, and links are not followed: remove it"));
        }
        Self::create(target, false, force)
    }

    /// `replaced` are the permissions of the file to be replaced.
    fn begin(target: PathBuf, executable: bool, force: bool, replaced: Option<Permissions>) -> Result<Self, Error> {
        let folder = folder_of(&target);
        let Some(name) = target.file_name() else {
            return Err(Error::unfit(&target, "is a folder: give the file to write"));
        };
        if !folder.is_dir() {
            return Err(Error::unfit(folder, "this folder does not exist: create it first"));
        }
        remove_leftovers(folder, name);
        let (file, form) = match nameless(folder, executable).map_err(cannot_write(folder))? {
            Some(file) => (file, Form::Nameless),
            None => {
                let path = folder.join(partial_name(name));
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode(executable));
                (options.open(&path).map_err(cannot_write(folder))?, Form::Named(Partial(path)))
            }
        };
        // Locks may be unsupported; then leftovers are never removed, but everything else works.
        let _ = file.lock();
        if let Some(permissions) = replaced {
            keep_permissions(&file, &permissions, executable).map_err(Error::file(&target))?;
        }
        Ok(Self { file, target, form, force })
    }

    /// Checks that its file system has `needed_bytes` free.
    ///
    /// # Errors
    /// It has not, or the free space cannot be read.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), Error> {
        if matches!(self.form, Form::Stream) {
            return Ok(());
        }
        let folder = folder_of(&self.target);
        let free_bytes = fs4::available_space(folder).map_err(Error::file(folder))?;
        if needed_bytes > free_bytes { Err(self.no_space(needed_bytes, free_bytes)) } else { Ok(()) }
    }

    /// The error for a failed write; `needed_bytes` is the size of the whole output, shown if the disk is full.
    pub fn write_failed(&self, error: io::Error, needed_bytes: u64) -> Error {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if is_full && !matches!(self.form, Form::Stream) {
            let free_bytes = fs4::available_space(folder_of(&self.target)).unwrap_or(0);
            return self.no_space(needed_bytes, free_bytes);
        }
        Error::File { path: self.target.clone(), source: error }
    }

    fn no_space(&self, needed_bytes: u64, free_bytes: u64) -> Error {
        let folder = folder_of(&self.target).to_owned();
        Error::NoSpace { output: self.target.clone(), folder, needed_bytes, free_bytes }
    }

    /// The open file, for reading and writing; a stream is write-only.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file to disk and gives it its name. With `force` it replaces an existing file.
    ///
    /// # Errors
    /// Syncing or naming failed; without `force`, the target exists.
    pub fn commit(self) -> Result<(), Error> {
        let Self { file, target, form, force } = self;
        let done = match form {
            Form::Stream => return Ok(()),
            Form::Nameless => file.sync_all().and_then(|()| link_nameless(&file, &target, force)),
            Form::Named(partial) => file.sync_all().and_then(|()| {
                // Windows cannot rename an open file.
                drop(file);
                name_partial(&partial.0, &target, force)
            }),
        };
        done.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(target),
            _ => Error::File { path: target, source: error },
        })
    }
}

/// `target` with links resolved; `target` itself if that fails.
pub(crate) fn without_links(target: &Path) -> PathBuf {
    match target.is_symlink() {
        true => target.canonicalize().unwrap_or_else(|_| target.to_owned()),
        false => target.to_owned(),
    }
}

/// What exists at `target`; an error if it is something that must not be written.
fn look(target: &Path) -> Result<There, Error> {
    let facts = match target.symlink_metadata() {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(error) => return Err(Error::file(target)(error)),
    };
    let linked = |error: io::Error| Error::unfit(target, format!("is a broken link ({error}): remove it"));
    let facts = if facts.is_symlink() { target.metadata().map_err(linked)? } else { facts };
    if facts.is_dir() {
        return Err(Error::unfit(target, "is a folder: give the file to write"));
    }
    if facts.is_file() {
        let path = if target.is_symlink() { target.canonicalize().map_err(linked)? } else { target.to_owned() };
        return Ok(There::File(path, facts.permissions()));
    }
    if takes_bytes(&facts) {
        return Ok(There::Stream);
    }
    Err(Error::unfit(target, "is neither a file nor a pipe: give another name"))
}

/// Whether it is a pipe or a character device, as opposed to a block device or a socket.
fn takes_bytes(facts: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        facts.file_type().is_fifo() || facts.file_type().is_char_device()
    }
    #[cfg(not(unix))]
    {
        let _ = facts;
        false
    }
}

/// Copies the permissions of the replaced file, so that a private file stays private. For an executable, each read bit
/// also sets the execute bit.
fn keep_permissions(file: &File, replaced: &Permissions, executable: bool) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let kept = replaced.mode() & 0o777;
        let started = if executable { (kept & 0o444) >> 2 } else { 0 };
        file.set_permissions(Permissions::from_mode(kept | started))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, replaced, executable);
        Ok(())
    }
}

/// The parent folder of a path, `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn cannot_write(folder: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |error| Error::unfit(folder, format!("cannot write in this folder: {error}"))
}

/// Opens a file without a name. `None` if the system or the file system does not support that.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn nameless(folder: &Path, executable: bool) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::from_raw_mode(mode(executable))) {
        // It is linked through /proc, which a minimal container may lack.
        Ok(fd) => Ok(proc_path(&fd).exists().then(|| File::from(fd))),
        Err(Errno::ACCESS | Errno::ROFS | Errno::NOSPC | Errno::PERM | Errno::DQUOT) => {
            // Leave the error to an ordinary open: some systems report a missing O_TMPFILE as EACCES.
            Ok(None)
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn nameless(_folder: &Path, _executable: bool) -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn proc_path(file: &impl std::os::fd::AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn link_nameless(file: &File, target: &Path, force: bool) -> io::Result<()> {
    let link = |path: &Path| {
        let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, proc_path(file), rustix::fs::CWD, path, flags).map_err(io::Error::from)
    };
    if !force {
        return link(target);
    }
    // A link cannot replace a file but a rename can, so the complete file gets a temporary name in between.
    let name = target.file_name().unwrap_or_default();
    let partial = Partial(folder_of(target).join(partial_name(name)));
    link(&partial.0)?;
    std::fs::rename(&partial.0, target)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn link_nameless(_file: &File, _target: &Path, _force: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn name_partial(partial: &Path, target: &Path, force: bool) -> io::Result<()> {
    if !force {
        // A hard link fails atomically if the target exists; the partial name is removed by its guard.
        match std::fs::hard_link(partial, target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                if target.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
            done => return done,
        }
    }
    std::fs::rename(partial, target)
}

fn partial_name(target: &OsStr) -> String {
    format!("{}{}{PARTIAL_SUFFIX}", partial_prefix(target), std::process::id())
}

fn partial_prefix(target: &OsStr) -> String {
    let name = target.to_string_lossy();
    format!(".{}.", &name[..name.floor_char_boundary(NAME_KEPT_BYTES)])
}

/// Removes partial files of this target that no process has locked.
fn remove_leftovers(folder: &Path, target: &OsStr) {
    let prefix = partial_prefix(target);
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let pid = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(PARTIAL_SUFFIX));
        if !pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_all_at;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("satchel-output-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// An output with a temporary name, even if the file system supports `O_TMPFILE`.
    fn named(target: &Path) -> Output {
        let path = folder_of(target).join(partial_name(target.file_name().unwrap()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.lock().unwrap();
        Output { file, target: target.to_owned(), form: Form::Named(Partial(path)), force: true }
    }

    #[test]
    fn both_kinds_appear_complete_and_replace_only_with_force() {
        let folder = folder("commit");
        let target = folder.join("out");
        let makers: [fn(&Path) -> Output; 2] = [|target| Output::create(target, true, true).unwrap(), named];
        for make in makers {
            for (force, content, expected) in [(false, "one", "one"), (false, "two", "one"), (true, "three", "three")] {
                // `force` is set after creation: the target appeared while the file was being written.
                let output = Output { force, ..make(&target) };
                write_all_at(output.file(), content.as_bytes(), 0).unwrap();
                let done = output.commit();
                assert_eq!(done.is_ok(), content == expected, "{done:?}");
                assert_eq!(std::fs::read_to_string(&target).unwrap(), expected);
                assert_eq!(names(&folder), ["out"]);
            }
            std::fs::remove_file(&target).unwrap();
            drop(make(&target));
            assert!(names(&folder).is_empty());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn leftovers_of_the_same_target_are_removed_but_not_locked_files() {
        let folder = folder("leftovers");
        let stale = [".out.1.satchel-partial", ".out.x.satchel-partial", ".other.1.satchel-partial"];
        for name in stale {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let in_use = named(&folder.join("out"));
        remove_leftovers(&folder, OsStr::new("out"));
        let left = names(&folder);
        assert!(!left.contains(&stale[0].to_owned()));
        assert!(left.contains(&stale[1].to_owned()) && left.contains(&stale[2].to_owned()) && left.len() == 3);
        drop(in_use);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn links_and_devices_are_not_replaced() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let folder = folder("special");
        let write = |output: Output, text: &str| {
            io::Write::write_all(&mut output.file(), text.as_bytes()).unwrap();
            output.commit().unwrap();
        };
        // A link is kept; the file it points to is replaced and keeps its permissions.
        let (file, link) = (folder.join("elsewhere"), folder.join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        assert!(matches!(Output::create(&link, false, false), Err(Error::Exists(path)) if path == link));
        assert!(matches!(Output::create_or_stream(&link, false), Err(Error::Exists(_))));
        assert!(Output::create_unlinked(&link, true).err().unwrap().to_string().contains("links are not followed"));
        write(Output::create_or_stream(&link, true).unwrap(), "new");
        assert!(link.is_symlink() && std::fs::read_to_string(&file).unwrap() == "new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        write(Output::create(&link, true, true).unwrap(), "program");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o750);
        // A broken link is neither followed nor replaced.
        std::fs::remove_file(&file).unwrap();
        assert!(Output::create(&link, false, true).err().unwrap().to_string().contains("broken link"));
        // A device can only be streamed to.
        let null = Path::new("/dev/null");
        write(Output::create_or_stream(null, false).unwrap(), "gone");
        assert!(Output::create(null, true, true).err().unwrap().to_string().contains("not a regular file"));
        assert!(null.metadata().unwrap().file_type().is_char_device());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_target_with_a_long_name_can_be_written_and_replaced() {
        let folder = folder("long");
        let target = folder.join("ü".repeat(127));
        for content in ["one", "two"] {
            let output = Output::create(&target, false, true).unwrap();
            write_all_at(output.file(), content.as_bytes(), 0).unwrap();
            output.commit().unwrap();
        }
        assert_eq!((std::fs::read_to_string(&target).unwrap().as_str(), names(&folder).len()), ("two", 1));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn unusable_targets_are_refused_with_the_reason() {
        let folder = folder("unusable");
        let line = |target: &Path| Output::create(target, true, false).err().unwrap().to_string();
        assert!(line(&folder).contains("is a folder"));
        assert!(line(&folder.join("missing/out")).contains("does not exist"));
        std::fs::write(folder.join("there"), "").unwrap();
        assert!(line(&folder.join("there")).contains("--force"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
