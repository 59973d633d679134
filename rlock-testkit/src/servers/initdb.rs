//! Data directories for Postgres servers: fresh ones, made once and then unpacked for each server, and copies for
//! standbys.
//!
//! `initdb` takes half a second or more of CPU time; unpacking takes a tenth of that. The archive stays in the
//! temporary folder. It is a single file, so that a cleanup of that folder removes it as a whole.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use nix::unistd::Uid;
use tempfile::NamedTempFile;

use super::unprivileged;

/// The name of the data directory in the folder of a server.
pub(super) const DATA: &str = "data";

const OPTIONS: &[&str] = &[
    "--no-sync",
    "--wal-segsize=1", // MB instead of 16: each server writes less
    "--auth=trust",
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
];

/// Unpacks a fresh data directory for the program `postgres` into `folder`, owned by the user that runs the server.
pub(super) fn unpack(postgres: &Path, folder: &Path) -> io::Result<()> {
    unprivileged::give(folder)?;
    run(unprivileged::command("tar").arg("-xf-").current_dir(folder).stdin(archive(postgres)?))
}

/// Copies the data directory of the server at `primary` into `folder`, for a standby of that server.
pub(super) fn copy(postgres: &Path, folder: &Path, primary: &str) -> io::Result<()> {
    unprivileged::give(folder)?;
    // Distributions put links to some of the programs on the PATH.
    let mut backup = unprivileged::command(postgres.canonicalize()?.with_file_name("pg_basebackup"));
    backup.args(["-D", DATA, "-d", primary, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
    run(backup.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()))
}

/// Opens the archive, which is made if it is missing. If several processes make it, the last one replaces it. The
/// archives are equivalent, and a process that has an older one open reads on.
fn archive(postgres: &Path) -> io::Result<File> {
    let path = path(postgres)?;
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(postgres, &path)?,
        opened => drop(opened?),
    }
    let archive = File::open(&path)?;
    let found = archive.metadata()?;
    if found.is_file() && found.uid() == Uid::effective().as_raw() && found.mode() & 0o022 == 0 {
        return Ok(archive);
    }
    let message = format!("others may have written {}: remove it", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// The path of the archive. Its name identifies the user, the program with its version, and the options.
fn path(postgres: &Path) -> io::Result<PathBuf> {
    let version = Command::new(postgres).arg("--version").output()?.stdout;
    let mut made_by = DefaultHasher::new();
    // Two builds of one version may have different data directories.
    (postgres.canonicalize()?, version, OPTIONS).hash(&mut made_by);
    let name = format!("rlock-test-postgres-{}-{:016x}.tar", Uid::effective(), made_by.finish());
    Ok(env::temp_dir().join(name))
}

fn make(postgres: &Path, path: &Path) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    unprivileged::give(folder.path())?;
    let mut initdb = unprivileged::command(postgres.with_file_name("initdb"));
    run(initdb.args(OPTIONS).args(["-D", DATA]).current_dir(folder.path()).stdout(Stdio::piped()))?;

    let archive = NamedTempFile::new()?; // only this user may read or write it
    let mut tar = unprivileged::command("tar");
    run(tar.args(["-cf-", DATA]).current_dir(folder.path()).stdout(archive.as_file().try_clone()?))?;
    archive.persist(path)?;
    Ok(())
}

fn run(command: &mut Command) -> io::Result<()> {
    // `output` would capture stdout, which the archive is written to.
    let ended = command.stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output());
    let failed = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{command:?}: {why}"));
    let output = ended.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&said))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_program_has_an_archive_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let archive = |name: &str, version: &str| {
            let program = folder.path().join(name);
            fs::write(&program, format!("#!/bin/sh\necho {version}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            path(&program).unwrap()
        };
        let first = archive("one", "15.1");
        assert_eq!(first, archive("one", "15.1"));
        assert_ne!(first, archive("one", "15.2"), "it was upgraded");
        assert_ne!(first, archive("other", "15.1"), "it is another build");
    }
}
