//! The file system that the file is on: whether its locks hold, and its free space.

use std::path::Path;

use crate::error::CallError;

/// Refuses a file system on which the processes of two hosts would not see each other's locks, nor the memory that they share.
#[cfg(target_os = "linux")]
pub(crate) fn refuse_remote(folder: &Path) -> Result<(), CallError> {
    use crate::error::Kind;
    let found = rustix::fs::statfs(folder).map_err(|error| CallError::file("look at", folder, error.into()))?;
    let Some(remote) = Remote::of(found.f_type) else { return Ok(()) };
    let reason = match remote {
        Remote::Network(name) => format!(
            "{} is on a network file system ({name}), where hosts do not see each other's locks: choose a folder on a disk of \
             this host, or a server as the store",
            folder.display()
        ),
        Remote::Fuse => format!(
            "{} is on a file system of a program (FUSE), which may belong to several hosts, as those of sshfs, Gluster and \
             virtiofs do: choose a folder on a disk of this host; if the file system is this host's alone, add \
             ?file_system=local",
            folder.display()
        ),
    };
    Err(CallError::new(Kind::Refused, reason))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn refuse_remote(_folder: &Path) -> Result<(), CallError> {
    Ok(())
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

#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq, Eq)]
enum Remote {
    Network(&'static str),
    /// Of one host or of several, which the system does not tell apart.
    Fuse,
}

#[cfg(target_os = "linux")]
impl Remote {
    /// By the numbers in statfs(2).
    fn of(kind: impl TryInto<i64>) -> Option<Self> {
        Some(Self::Network(match kind.try_into().ok()? & 0xffff_ffff {
            0x6573_5546 => return Some(Self::Fuse),
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_recognised_by_their_numbers() {
        assert_eq!(Remote::of(0x6969), Some(Remote::Network("NFS")));
        assert_eq!(Remote::of(0x6573_5546), Some(Remote::Fuse));
        assert_eq!(Remote::of(0xef53), None); // ext4
        assert_eq!(Remote::of(0x0102_1994), None); // tmpfs
    }
}
