//! Where the file is: its folder, its rights, and whether it is still the same one.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CallError, Kind};

/// What tells one file from another at the same path.
pub(crate) type Identity = (u64, u64);

/// Creates what is missing: the folders for the user alone, and the file.
///
/// A file that is there is not opened: closing it again would end the locks that SQLite has on it by other connections of
/// this process (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(crate) fn prepare(path: &Path) -> Result<(), CallError> {
    let folder = folder(path);
    for_user_alone_dir().create(&folder).map_err(|error| CallError::file("create the folder", &folder, error))?;
    refuse_network(&folder)?;
    match for_user_alone_file().write(true).create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(CallError::file("create", path, error)),
    }
}

/// A file that is named alike.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// As a file for the user alone.
pub(crate) fn for_user_alone_file() -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn for_user_alone_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// The file that is at `path` now, if there is one.
#[cfg(unix)]
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Nobody can delete or replace an open file there.
#[cfg(not(unix))]
pub(crate) fn identity(_path: &Path) -> Option<Identity> {
    Some((0, 0))
}

/// How much may be written yet to where the file is, in bytes, where the system says.
#[cfg(target_os = "linux")]
pub(crate) fn room(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder(path)).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn room(_path: &Path) -> Option<u64> {
    None
}

/// The processes of two hosts would not see each other's locks on the file, nor the memory that they share.
#[cfg(target_os = "linux")]
fn refuse_network(folder: &Path) -> Result<(), CallError> {
    let found = rustix::fs::statfs(folder).map_err(|error| CallError::file("look at", folder, error.into()))?;
    match network(found.f_type) {
        None => Ok(()),
        Some(name) => Err(CallError::new(
            Kind::Refused,
            format!(
                "{} is on a network file system ({name}), where hosts do not see each other's locks: choose a folder on a \
                 disk of this host, or a server as the store",
                folder.display()
            ),
        )),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network(_folder: &Path) -> Result<(), CallError> {
    Ok(())
}

/// By the numbers in statfs(2).
#[cfg(target_os = "linux")]
fn network(kind: impl TryInto<i64>) -> Option<&'static str> {
    Some(match kind.try_into().ok()? {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_system_is_told_by_its_number() {
        assert_eq!(network(0x6969), Some("NFS"));
        assert_eq!(network(0xef53), None); // ext4
        assert_eq!(network(0x0102_1994), None); // tmpfs
    }
}
