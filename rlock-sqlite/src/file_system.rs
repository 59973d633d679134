//! The file system that the file is on: whether its locks hold, and its free space.

use std::path::Path;

use crate::error::{CallError, Kind};

/// The kind of a file system, as statfs(2) of Linux numbers it; 0 on other systems.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileSystem(pub(crate) i64);

impl FileSystem {
    #[cfg(target_os = "linux")]
    pub(crate) fn of(folder: &Path) -> Result<Self, CallError> {
        let found = rustix::fs::statfs(folder).map_err(|error| CallError::file("look at", folder, error.into()))?;
        Ok(Self::numbered(found.f_type))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_folder: &Path) -> Result<Self, CallError> {
        Ok(Self(0))
    }

    /// The type of the number depends on the processor.
    #[cfg(target_os = "linux")]
    fn numbered(number: impl TryInto<i64>) -> Self {
        Self(number.try_into().unwrap_or_default())
    }

    /// Refuses a file system on which the processes of two hosts would not see each other's locks, nor the memory that they
    /// share. `is_local` is the statement of the user that a FUSE file system belongs to this host alone.
    pub(crate) fn refuse_remote(self, folder: &Path, is_local: bool) -> Result<(), CallError> {
        let reason = match self.remote() {
            None => return Ok(()),
            Some(Remote::Fuse) if is_local => return Ok(()),
            Some(Remote::Network(name)) => format!(
                "{} is on a network file system ({name}), where hosts do not see each other's locks: choose a folder on a disk \
                 of this host, or a server as the store",
                folder.display()
            ),
            Some(Remote::Fuse) => format!(
                "{} is on a file system of a program (FUSE), which may belong to several hosts, as those of sshfs, Gluster and \
                 virtiofs do: choose a folder on a disk of this host; if the file system is this host's alone, add \
                 ?file_system=local",
                folder.display()
            ),
        };
        Err(CallError::new(Kind::Refused, reason))
    }

    fn remote(self) -> Option<Remote> {
        Some(Remote::Network(match self.0 & 0xffff_ffff {
            0x6573_5546 => return Some(Remote::Fuse),
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
            0x786f_4256 => "VirtualBox",
            _ => return None,
        }))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Remote {
    Network(&'static str),
    /// Of one host or of several, which the system does not tell apart.
    Fuse,
}

/// The bytes that are free in a folder, if the system reports them.
#[cfg(target_os = "linux")]
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn free_space(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_recognised_by_their_numbers() {
        let remote = |number| FileSystem(number).remote();
        assert_eq!(remote(0x6969), Some(Remote::Network("NFS")));
        assert_eq!(remote(0x6573_5546), Some(Remote::Fuse));
        assert_eq!(remote(0xef53), None); // ext4
        assert_eq!(remote(0x0102_1994), None); // tmpfs
    }
}
