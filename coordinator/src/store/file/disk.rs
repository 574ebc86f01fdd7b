//! The file operations of the log, behind a seam so that tests can let each of them fail.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::error::IoFailure;

/// A file of the log that is being written.
#[derive(Debug)]
pub(in crate::store) struct OpenFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// What changes the log, and what makes changes durable. After an error the caller never tries the same again: the
/// kernel may have dropped what it could not write and marked it as clean.
pub(in crate::store) trait Disk: Send {
    /// Makes a new file, readable and writable by its owner only, whatever the umask.
    fn create(&mut self, path: &Path) -> io::Result<OpenFile>;

    /// Writes all of `bytes` where the file stands.
    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content and the length of the file durable.
    fn sync_data(&mut self, file: &mut OpenFile) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&mut self, path: &Path) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()>;

    /// Takes the file away.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(in crate::store) struct RealDisk;

impl Disk for RealDisk {
    fn create(&mut self, path: &Path) -> io::Result<OpenFile> {
        let file = create_private_file(path, OpenOptions::new().create_new(true))?;
        Ok(OpenFile { file, path: path.to_owned() })
    }

    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()> {
        file.file.write_all(bytes)
    }

    fn sync_data(&mut self, file: &mut OpenFile) -> io::Result<()> {
        file.file.sync_data()
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()> {
        file.file.set_len(bytes)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Opens `path` for reading and writing as `options` say about creating it, with mode 0600 whatever the umask.
pub(in crate::store) fn create_private_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.read(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes the directory `path` durably, with mode 0700 whatever the umask, unless it is there. Missing directories
/// above it are made as the umask says.
pub(in crate::store) fn create_private_dir(disk: &mut dyn Disk, path: &Path) -> Result<(), IoFailure> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| IoFailure { doing, path, source }
    };
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        std::fs::create_dir_all(parent).map_err(failed("create the directory", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed("set the permissions of", path))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create the directory", path)(error)),
    }
    disk.sync_dir(parent).map_err(failed("sync the directory", parent))
}

/// Writes `from..to` of the file again, the same bytes, so that a later sync makes sure of them. After an fsync that
/// failed the kernel may hold data in memory that it takes for written; what is read back then proves nothing about
/// the disk.
pub(super) fn rewrite(disk: &mut dyn Disk, file: &mut OpenFile, from: u64, to: u64) -> io::Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut piece = Vec::new();
    let mut at = from;
    while at < to {
        piece.clear();
        file.file.seek(SeekFrom::Start(at))?;
        (&file.file).take(PIECE_BYTES.min(to - at)).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.file.seek(SeekFrom::Start(at))?;
        disk.write_all(file, &piece)?;
        at += piece.len() as u64;
    }
    file.file.seek(SeekFrom::Start(to))?;
    Ok(())
}
