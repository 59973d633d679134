//! The file of the locks: its folder, its rights, and whether it is still the same file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::SqliteConfig;
use crate::access::Access;
use crate::error::{CallError, Kind};
use crate::file_system::FileSystem;

/// Distinguishes files at the same path.
pub(crate) type Identity = (u64, u64);

/// A folder in which no file was created, deleted or renamed for some seconds. Any such change makes it another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuietFolder {
    identity: Identity,
    /// The times of the last change of its inode and of its entries, in seconds and nanoseconds. On vfat and exFAT some
    /// versions of Linux set the second alone when a file is deleted.
    changed: [(i64, i64); 2],
}

/// Creates what is missing of the folders and the file, and returns the file's path without links: SQLite, the turns and the
/// clients have to agree on the names of the files beside it.
///
/// A file that is there is not opened: closing it again would end the locks that SQLite has on it by other connections of
/// this process (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(crate) fn prepare(config: &SqliteConfig) -> Result<PathBuf, CallError> {
    prepare_on(config, FileSystem::of)
}

/// As [`prepare`]; `file_system` looks up the file system of a folder.
fn prepare_on(
    config: &SqliteConfig,
    file_system: impl Fn(&Path) -> Result<FileSystem, CallError>,
) -> Result<PathBuf, CallError> {
    let path = &config.path;
    let refuse_remote = |folder: &Path| file_system(folder)?.refuse_remote(folder, config.is_local);
    let folder = folder(path);
    create_folders(folder, config.access).map_err(|error| CallError::file("create the folder", folder, error))?;
    refuse_remote(folder)?; // before anything is made there
    create(path, config.access).map_err(|error| CallError::file("create", path, error))?;
    let real = fs::canonicalize(path).map_err(|error| CallError::file("find", path, error))?;
    refuse_remote(self::folder(&real))?;
    if links(&real) > 1 {
        let reason = format!(
            "{} has several names (hard links), and each would have a log of its own: remove all names but one",
            real.display()
        );
        return Err(CallError::new(Kind::Refused, reason));
    }
    Ok(real)
}

/// The path of a file that is named alike.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a file beside the one at `path`, which has the rights of that one.
pub(crate) fn open_beside(path: &Path, beside: &Path) -> io::Result<File> {
    // Not in one step: in a folder like /tmp the system refuses to open the file of another user so that it may be created.
    let open = || OpenOptions::new().read(true).write(true).open(beside);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match OpenOptions::new().read(true).write(true).create_new(true).open(beside) {
        Ok(file) => {
            rights::copy(&file, path)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(),
        failed => failed,
    }
}

fn create(path: &Path, access: Access) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.exists() {
                return Ok(());
            }
            OpenOptions::new().write(true).create(true).truncate(false).open(path)? // a link to where no file is
        }
        Err(error) => return Err(error),
    };
    rights::set(&file, access.file_mode())?;
    rights::give_to_owner_of_folder(&file, folder(path))
}

fn create_folders(path: &Path, access: Access) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder(path);
    create_folders(parent, access)?;
    match fs::create_dir(path) {
        Ok(()) => {
            let made = File::open(path)?;
            rights::set(&made, access.folder_mode())?;
            rights::give_to_owner_of_folder(&made, parent)?;
            tracing::info!(folder = %path.display(), "created a folder for the file of locks");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that is at `path` now, if there is one.
#[cfg(unix)]
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// An open file can be neither deleted nor replaced there.
#[cfg(not(unix))]
pub(crate) fn identity(_path: &Path) -> Option<Identity> {
    Some((0, 0))
}

impl QuietFolder {
    /// The folder at `path`; `None` if it changed a moment ago, since its next change may get the same time. File systems
    /// count that time in steps of up to two seconds.
    #[cfg(unix)]
    pub(crate) fn at(path: &Path) -> Option<Self> {
        use std::time::{SystemTime, UNIX_EPOCH};
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Self::at_time(path, i64::try_from(now).ok()?)
    }

    /// As [`at`](Self::at); `now` is in seconds since 1970.
    #[cfg(unix)]
    fn at_time(path: &Path, now: i64) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        const SECONDS: i64 = 3;
        let found = fs::metadata(path).ok()?;
        let changed = [(found.ctime(), found.ctime_nsec()), (found.mtime(), found.mtime_nsec())];
        let is_quiet = changed.iter().all(|&(seconds, _)| now.saturating_sub(seconds) > SECONDS);
        is_quiet.then_some(Self { identity: (found.dev(), found.ino()), changed })
    }

    #[cfg(not(unix))]
    pub(crate) fn at(_path: &Path) -> Option<Self> {
        None
    }
}

#[cfg(unix)]
fn links(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map_or(0, |found| found.nlink())
}

#[cfg(not(unix))]
fn links(_path: &Path) -> u64 {
    1
}

#[cfg(unix)]
mod rights {
    use std::fs::{self, File, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    use std::path::Path;

    /// Sets the mode, which the umask has no part in.
    pub(super) fn set(file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Gives what root made in the folder of a user to that user, who could not use it otherwise.
    pub(super) fn give_to_owner_of_folder(file: &File, folder: &Path) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = fs::metadata(folder)?;
        if owner.uid() == 0 { Ok(()) } else { fchown(file, Some(owner.uid()), Some(owner.gid())) }
    }

    /// Sets the mode and the group of another file, and for root the owner, as SQLite does with its log.
    pub(super) fn copy(file: &File, other: &Path) -> io::Result<()> {
        let other = fs::metadata(other)?;
        set(file, other.mode() & 0o777)?;
        if rustix::process::geteuid().is_root() {
            return fchown(file, Some(other.uid()), Some(other.gid()));
        }
        let _of_a_group_that_this_user_is_not_in = fchown(file, None, Some(other.gid()));
        Ok(())
    }
}

#[cfg(not(unix))]
mod rights {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(super) fn set(_file: &File, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn give_to_owner_of_folder(_file: &File, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn copy(_file: &File, _other: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    const EXT4: FileSystem = FileSystem(0xef53);
    const NFS: FileSystem = FileSystem(0x6969);
    const FUSE: FileSystem = FileSystem(0x6573_5546);

    #[test]
    fn remote_file_systems_are_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let url = format!("sqlite:{}", path.display());
        let local = format!("{url}?file_system=local");
        for (url, found, said) in [
            (&url, NFS, ["network file system (NFS)", "or a server as the store"]),
            (&local, NFS, ["network file system (NFS)", "or a server as the store"]),
            (&url, FUSE, ["file system of a program (FUSE)", "add ?file_system=local"]),
        ] {
            let refused = prepare_on(&SqliteConfig::from_url(url).unwrap(), |_| Ok(found)).unwrap_err();
            assert_eq!(refused.kind, Kind::Refused, "{refused}");
            let text = refused.to_string();
            assert!(said.iter().all(|part| text.contains(part)), "{text}");
            assert!(!path.exists(), "{text}");
        }
        for (url, found) in [(&url, EXT4), (&local, FUSE)] {
            prepare_on(&SqliteConfig::from_url(url).unwrap(), |_| Ok(found)).unwrap();
        }
    }

    #[test]
    fn link_to_a_remote_file_system_is_refused() {
        let [here, there] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let link = here.path().join("locks.db");
        std::os::unix::fs::symlink(there.path().join("locks.db"), &link).unwrap();
        let remote = fs::canonicalize(there.path()).unwrap();
        let file_system = |folder: &Path| Ok(if folder == remote { FUSE } else { EXT4 });
        let refused = prepare_on(&SqliteConfig::at(&link).unwrap(), file_system).unwrap_err();
        assert!(refused.to_string().contains("(FUSE)"), "{refused}");
    }

    #[test]
    fn folder_with_new_entries_is_not_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let entries = SystemTime::now() + Duration::from_secs(1_000); // the inode itself changes now
        File::open(folder.path()).unwrap().set_modified(entries).unwrap();
        let entries = i64::try_from(entries.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let is_quiet = |after| QuietFolder::at_time(folder.path(), entries + after).is_some();
        assert_eq!([-10, 1, 10].map(is_quiet), [false, false, true]);
    }
}
