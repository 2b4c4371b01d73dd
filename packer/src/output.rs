//! A file that appears whole or not at all.
//!
//! On Linux it is written without a name (`O_TMPFILE`) and linked when it is whole: whatever ends the process, even
//! SIGKILL or a power cut, leaves nothing. Where that is not to be had it is written as `.NAME.PID.satchel-partial` beside
//! the target, locked while it is written; dropping it removes it, and one that a killed process left is removed by the
//! next that writes the same target.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

const PARTIAL_SUFFIX: &str = ".satchel-partial";

/// A file in the making. Dropped without [`Output::commit`], it is gone.
pub struct Output {
    file: File,
    target: PathBuf,
    /// The name it has meanwhile, where it needs one.
    partial: Option<Partial>,
}

/// A named file that is removed when dropped.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Nobody can be told; what stays is removed by the next run.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Output {
    /// Begins a file that will be `target`. Nothing is there under that name before [`Output::commit`].
    ///
    /// # Errors
    /// The target's folder is not there or cannot be written to; the target is a folder, or exists and `force` is false.
    pub fn create(target: &Path, executable: bool, force: bool) -> Result<Self, Error> {
        let folder = folder_of(target);
        let Some(name) = target.file_name().filter(|_| !target.is_dir()) else {
            return Err(Error::unfit(target, "is a folder: give the file to write"));
        };
        if !folder.is_dir() {
            return Err(Error::unfit(folder, "this folder does not exist: make it first"));
        }
        if !force && target.symlink_metadata().is_ok() {
            return Err(Error::Exists(target.to_owned()));
        }
        remove_leftovers(folder, name);
        let target = target.to_owned();
        if let Some(file) = nameless(folder, executable).map_err(cannot_write(folder))? {
            return Ok(Self { file, target, partial: None });
        }
        let path = folder.join(partial_name(name));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode(executable));
        let file = options.open(&path).map_err(cannot_write(folder))?;
        let partial = Partial(path);
        // A file system without locks still writes; only the removal of leftovers is lost there.
        let _ = file.lock();
        Ok(Self { file, target, partial: Some(partial) })
    }

    /// Checks that its file system has room for so many bytes.
    ///
    /// # Errors
    /// It has not, or does not say.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), Error> {
        let folder = folder_of(&self.target);
        let free_bytes = fs4::available_space(folder).map_err(Error::file(folder))?;
        if needed_bytes > free_bytes { Err(self.no_space(needed_bytes, free_bytes)) } else { Ok(()) }
    }

    /// What a failure to write it means, where it takes so many bytes in all.
    pub fn write_failed(&self, error: io::Error, needed_bytes: u64) -> Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let free_bytes = fs4::available_space(folder_of(&self.target)).unwrap_or(0);
            return self.no_space(needed_bytes, free_bytes);
        }
        Error::File { path: self.target.clone(), source: error }
    }

    fn no_space(&self, needed_bytes: u64, free_bytes: u64) -> Error {
        let folder = folder_of(&self.target).to_owned();
        Error::NoSpace { output: self.target.clone(), folder, needed_bytes, free_bytes }
    }

    /// The file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the whole file its name, its bytes being on the disk. With `force` it replaces what is there.
    ///
    /// # Errors
    /// The bytes or the name cannot be written; without `force`, something has the name already.
    pub fn commit(self, force: bool) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::file(&self.target))?;
        let done = match self.partial {
            None => link_nameless(&self.file, &self.target, force),
            Some(partial) => {
                // Windows renames no file that is open.
                drop(self.file);
                name_partial(&partial.0, &self.target, force)
            }
        };
        done.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(self.target.clone()),
            _ => Error::File { path: self.target.clone(), source: error },
        })
    }
}

/// The folder that a path lies in.
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

/// A file without a name. `None` where the system or the file system has none.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn nameless(folder: &Path, executable: bool) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::from_raw_mode(mode(executable))) {
        // It gets its name by way of /proc, which an empty container may lack.
        Ok(fd) => Ok(proc_path(&fd).exists().then(|| File::from(fd))),
        Err(Errno::ACCESS | Errno::ROFS | Errno::NOSPC | Errno::PERM | Errno::DQUOT) => {
            // The reason in the words of an ordinary open: some systems answer EACCES for a missing O_TMPFILE.
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
    // A link replaces nothing, a rename does; the name in between lives for an instant and the file is whole.
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
        // A hard link fails where the target exists, at one stroke; the partial name is removed by its guard.
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
    format!(".{}.{}{PARTIAL_SUFFIX}", target.to_string_lossy(), std::process::id())
}

/// Removes partial files of this target that nobody holds a lock on.
fn remove_leftovers(folder: &Path, target: &OsStr) {
    let prefix = format!(".{}.", target.to_string_lossy());
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

    /// An output of the named kind, whatever the file system offers.
    fn named(target: &Path) -> Output {
        let path = folder_of(target).join(partial_name(target.file_name().unwrap()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.lock().unwrap();
        Output { file, target: target.to_owned(), partial: Some(Partial(path)) }
    }

    #[test]
    fn both_kinds_appear_whole_and_replace_only_when_told() {
        let folder = folder("commit");
        let target = folder.join("out");
        let makers: [fn(&Path) -> Output; 2] = [|target| Output::create(target, true, true).unwrap(), named];
        for make in makers {
            for (force, content, expected) in [(false, "one", "one"), (false, "two", "one"), (true, "three", "three")] {
                let output = make(&target);
                write_all_at(output.file(), content.as_bytes(), 0).unwrap();
                let done = output.commit(force);
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
    fn leftovers_of_the_same_target_go_and_those_at_work_stay() {
        let folder = folder("leftovers");
        let stale = [".out.1.satchel-partial", ".out.x.satchel-partial", ".other.1.satchel-partial"];
        for name in stale {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let at_work = named(&folder.join("out"));
        remove_leftovers(&folder, OsStr::new("out"));
        let left = names(&folder);
        assert!(!left.contains(&stale[0].to_owned()));
        assert!(left.contains(&stale[1].to_owned()) && left.contains(&stale[2].to_owned()) && left.len() == 3);
        drop(at_work);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn unusable_targets_are_named() {
        let folder = folder("unusable");
        let line = |target: &Path| Output::create(target, true, false).err().unwrap().to_string();
        assert!(line(&folder).contains("is a folder"));
        assert!(line(&folder.join("missing/out")).contains("does not exist"));
        std::fs::write(folder.join("there"), "").unwrap();
        assert!(line(&folder.join("there")).contains("--force"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
