//! The files for packages, with a folder of the test in place of the one in /var/lib.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Folder, Rlock, copy_for_all_users, is_root, rlock};

const TMPFILES: &str = include_str!("../../packaging/tmpfiles.d/rlock.conf");
const SERVICE: &str = include_str!("../../packaging/system/rlock-locks.service");
const SYSUSERS: &str = include_str!("../../packaging/sysusers.d/rlock.conf");

const FILES: [&str; 6] = ["", "-wal", "-shm", "-turn", "-next", "-open"];
/// Users and groups by their numbers: the system need not know their names.
const GROUP: u32 = 65_533;
const MEMBERS: [u32; 2] = [65_531, 65_532];
const STRANGER: (u32, u32) = (65_534, 65_534);

/// Only root can act as other users. The test of another user is the only member of the group.
#[test]
fn packaged_file_is_for_its_group() {
    let folder = Folder::new();
    let process = fs::metadata("/proc/self").expect("it is mounted");
    let is_root = is_root();
    let group = if is_root { GROUP } else { process.gid() };
    let (packaged, shared) = create_folder(&folder, group);
    create_file(packaged, &shared);

    let path = shared.join("locks.db");
    for suffix in FILES {
        let found = fs::metadata(format!("{}{suffix}", path.display())).expect(suffix);
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (process.uid(), group, 0o660), "{suffix}");
    }
    let program = if is_root { copy_for_all_users(&folder) } else { PathBuf::from(env!("CARGO_BIN_EXE_rlock")) };
    let run = |(user, group): (u32, u32), options: &[&str]| {
        let mut command = as_user(&program, is_root.then_some((user, group)));
        command.args(["run", "nightly", "--url", &format!("sqlite:{}", path.display())]).args(options);
        Rlock::start(&mut command)
    };
    let [first, second] = MEMBERS.map(|user| (user, group));
    let mut holder = run(first, &["--", "cat"]);
    holder.hear("acquired");
    run(second, &["--try", "--", "true"]).exit().assert(75, &["held by"]);
    if is_root {
        run(STRANGER, &["--try", "--", "true"]).exit().assert(69, &["Permission denied"]);
        let mut removal = as_user(Path::new("rm"), Some(first));
        let removed = removal.arg("-f").arg(&path).output().expect("the system starts another process");
        assert!(!removed.status.success() && path.exists(), "a member has deleted the file");
    }
    holder.exit().assert(0, &["released"]);
    run(second, &["--try", "--", "true"]).exit().assert(0, &["released"]);
}

/// Does the work of systemd-tmpfiles: creates the folder for the group. Returns the packaged path and that of the test.
fn create_folder(folder: &Folder, group: u32) -> (&'static str, PathBuf) {
    let line = TMPFILES.lines().find(|line| !line.starts_with('#')).expect("it names a folder");
    let fields: Vec<&str> = line.split_whitespace().collect();
    let ["d", packaged, mode, "root", group_name, "-"] = fields[..] else { panic!("not a folder of root: {line}") };
    let created = SYSUSERS.lines().any(|line| line.starts_with(&format!("g {group_name} ")));
    assert!(created, "sysusers.d does not create the group {group_name}");
    let shared = folder.path("shared");
    fs::create_dir(&shared).expect("the folder of the test is there");
    chown(&shared, None, Some(group)).expect("the group is the user's own, or the user is root");
    let mode = u32::from_str_radix(mode, 8).expect("a mode is octal");
    fs::set_permissions(&shared, Permissions::from_mode(mode)).expect("the folder is the user's own");
    (packaged, shared)
}

/// Does the work of the service.
fn create_file(packaged: &str, shared: &Path) {
    let start = SERVICE.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/rlock "));
    let shared = shared.to_str().expect("the path is UTF-8");
    let arguments: Vec<_> =
        start.expect("it starts rlock").split(' ').map(|argument| argument.replace(packaged, shared)).collect();
    assert!(arguments.iter().any(|argument| argument.contains(shared)), "the file is in another folder: {arguments:?}");
    Rlock::start(&mut rlock(&arguments)).exit().assert(0, &[]);
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    for variable in ["RLOCK_URL", "RLOCK_NAME", "RLOCK_TOKEN"] {
        command.env_remove(variable);
    }
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}
