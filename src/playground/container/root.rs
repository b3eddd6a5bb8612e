//! A container's root directory: a file system in memory that ends with the container, with the host's programs
//! bound into it read-only, and a `/proc`, `/dev` and `/etc` of its own.
//!
//! Nothing of the host's own files, devices or users is in it beyond the programs and what they need to start.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount, unmount,
};

use super::super::control::{Mount, Root};

/// Where programs live, and what the dynamic linker needs.
const PROGRAMS: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix"];
/// What programs read in `/etc` and would miss. No users, no keys, no configuration of the host.
const SETTINGS: [&str; 9] = [
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "ca-certificates",
    "terminfo",
    "mime.types",
];
/// What an image without file transfers lacks, wherever the host has it.
const COPIERS: [&str; 7] = [
    "usr/bin/scp",
    "usr/bin/rsync",
    "usr/lib/openssh/sftp-server",
    "usr/libexec/sftp-server",
    "usr/libexec/openssh/sftp-server",
    "usr/lib/ssh/sftp-server",
    "usr/lib/sftp-server",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Mounts everything below `root.mountpoint`. Expects a mount namespace of our own.
pub(super) fn build(root: &Root) -> io::Result<()> {
    let at = &root.mountpoint;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID, Some(c"mode=0755"))?;
    for (path, mode) in [
        ("proc", 0o555),
        ("dev", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("home", 0o755),
        ("run", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
        ("var/log", 0o755),
        ("sys", 0o555),
        ("mnt", 0o755),
    ] {
        make_directory(&at.join(path), mode)?;
    }
    symlink("/run", at.join("var/run"))?;
    if root.programs {
        bind_programs(at)?;
    }
    if !root.copiers {
        hide_copiers(at)?;
    }
    write_settings(root)?;
    make_devices(at)?;
    let hidden = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", at.join("proc"), "proc", hidden, None)?;
    root.mounts.iter().try_for_each(|mount| bind_volume(at, mount))
}

/// Makes it the root of every process in this mount namespace, and forgets the host's.
pub(super) fn enter(root: &Root) -> io::Result<()> {
    std::env::set_current_dir(&root.mountpoint)?;
    // Stacks the old root on the new one, from where it is then lifted: no directory is needed for it.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

fn bind_programs(at: &Path) -> io::Result<()> {
    for name in PROGRAMS {
        let host = Path::new("/").join(name);
        match fs::symlink_metadata(&host) {
            Ok(found) if found.is_symlink() => symlink(fs::read_link(&host)?, at.join(name))?,
            Ok(found) if found.is_dir() => bind_read_only(&host, &at.join(name))?,
            _ => {}
        }
    }
    for name in SETTINGS {
        let host = Path::new("/etc").join(name);
        if host.exists() {
            bind_read_only(&host, &at.join("etc").join(name))?;
        }
    }
    Ok(())
}

/// Covers the programs of `COPIERS`, as an image without them has none.
fn hide_copiers(at: &Path) -> io::Result<()> {
    for copier in COPIERS.iter().map(|name| at.join(name)).filter(|path| path.exists()) {
        mount_bind_recursive("/dev/null", copier)?;
    }
    Ok(())
}

fn bind_volume(at: &Path, mount: &Mount) -> io::Result<()> {
    let target = at.join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
    if mount.read_only { bind_read_only(&mount.source, &target) } else { bind(&mount.source, &target) }
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::write(target, "")?;
    }
    // Recursive, since an unprivileged user may not uncover what is mounted below.
    Ok(mount_bind_recursive(source, target)?)
}

fn bind_read_only(source: &Path, target: &Path) -> io::Result<()> {
    bind(source, target)?;
    // In a user namespace the flags that a mount has may only be added to.
    let now = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (has, keep) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(has) {
            flags |= keep;
        }
    }
    Ok(mount_remount(target, flags, c"")?)
}

fn make_devices(at: &Path) -> io::Result<()> {
    let dev = at.join("dev");
    for name in DEVICES {
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    make_directory(&dev.join("shm"), 0o1777)?;
    make_directory(&dev.join("pts"), 0o755)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", dev.join("pts"), "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=0620"))?;
    Ok(())
}

fn write_settings(root: &Root) -> io::Result<()> {
    let etc = root.mountpoint.join("etc");
    let Root { hostname, namespace, address, .. } = root;
    let mut users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n".to_owned();
    let mut groups = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_owned();
    if let Some(uid) = root.uid.filter(|uid| *uid != 0 && *uid != 65534) {
        users.push_str(&format!("app:x:{uid}:{uid}:app:/tmp:/bin/bash\n"));
        groups.push_str(&format!("app:x:{uid}:\n"));
    }
    for (name, text) in [
        ("passwd", users),
        ("group", groups),
        ("hostname", format!("{hostname}\n")),
        ("hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{address}\t{hostname}\n")),
        (
            "resolv.conf",
            format!(
                "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
            ),
        ),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("os-release", "ID=playground\nNAME=\"Porthole playground\"\n".to_owned()),
    ] {
        fs::write(etc.join(name), text)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
