//! The files of one attempt beside its log: `$CAIRN_WORK`, `$CAIRN_PROGRESS`, `$CAIRN_OUTPUT`.
//!
//! To make and remove a directory is dear on file systems with a journal (ext4: 55 µs, 145 µs for two at a time,
//! a quarter of what a short process costs), to rename one is not (7 µs). So the directory of an attempt that
//! succeeded and left it as it was becomes that of the slot's next attempt; if none comes soon, it is removed.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;

use super::exit::StartFailure;
use super::job::Job;

/// Makes and removes the work directories of a slot's attempts, one after the other.
#[derive(Default)]
pub(super) struct WorkDirectories {
    /// An empty directory of an attempt that is over.
    spare: Option<PathBuf>,
    /// Mode and owner that a new directory has.
    fresh: Option<(u32, u32)>,
}

impl WorkDirectories {
    /// Makes the empty work directory. If there is one already, an earlier life started this attempt and was
    /// killed: nothing of that may be mistaken for this one's.
    pub(super) fn prepare(&mut self, job: &Job) -> Result<(), StartFailure> {
        let result = match self.take_spare(&job.work_dir) {
            true => Ok(()),
            false => self.create(job),
        };
        result.map_err(|source| StartFailure::WorkDirectory { path: job.work_dir.clone(), source })
    }

    /// Removes the files of an attempt that succeeded. The work directory goes last: while it is there, the others
    /// are known to be leftovers.
    pub(super) fn remove(&mut self, job: &Job, has_progress: bool, has_output: bool) -> io::Result<()> {
        if has_progress {
            remove_file(&job.progress_path)?;
        }
        if has_output {
            remove_file(&job.output_path)?;
        }
        if self.is_untouched(&job.work_dir) {
            self.spare = Some(job.work_dir.clone());
            return Ok(());
        }
        remove_tree(&job.work_dir)
    }

    /// Whether there is something to remove when no further job comes.
    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Removes the spare directory.
    pub(super) fn remove_spare(&mut self) {
        if let Some(path) = self.spare.take()
            && let Err(error) = fs::remove_dir(&path)
        {
            tracing::debug!(%error, path = %path.display(), "an empty work directory stays");
        }
    }

    /// Makes the spare directory the one of the next attempt, if it is there and the file system can do it.
    fn take_spare(&mut self, path: &Path) -> bool {
        let Some(spare) = &self.spare else { return false };
        let result = rustix::fs::renameat_with(CWD, spare, CWD, path, RenameFlags::NOREPLACE);
        if result.is_err() {
            self.remove_spare();
        }
        self.spare = None;
        result.is_ok()
    }

    fn create(&mut self, job: &Job) -> io::Result<()> {
        match fs::create_dir(&job.work_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(&job.work_dir)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => start_over(job)?,
            result => result?,
        }
        self.fresh = Some(mode_and_owner(&fs::symlink_metadata(&job.work_dir)?));
        Ok(())
    }

    /// Whether a directory is as we made it: empty, with the mode and the owner of a new one.
    fn is_untouched(&self, path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::open(path, flags, Mode::empty()).map(File::from) else { return false };
        let Ok(metadata) = directory.metadata() else { return false };
        // Room for one entry with the longest name beside `.` and `..`.
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(&directory, &mut buffer);
        let mut is_empty = true;
        while let Some(entry) = entries.next() {
            is_empty &= entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."));
            if !is_empty {
                break;
            }
        }
        is_empty && Some(mode_and_owner(&metadata)) == self.fresh
    }
}

fn mode_and_owner(metadata: &fs::Metadata) -> (u32, u32) {
    (metadata.mode(), metadata.uid())
}

fn start_over(job: &Job) -> io::Result<()> {
    for path in [&job.progress_path, &job.output_path, &job.log_path] {
        remove_file(path)?;
    }
    remove_tree(&job.work_dir)?;
    fs::create_dir(&job.work_dir)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a directory with all that is in it, never following a link out of it; also directories that were made
/// read-only, as package managers do with their caches, and what a task put in its place.
fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path.to_owned());
            fs::remove_dir_all(path)
        }
        result => result,
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => fs::remove_file(path),
        result => result,
    }
}

/// Gives us all rights on the directories of a tree, as far as they are ours. Its processes have ended: nobody
/// puts a link in our way between the look and the change.
fn open_up(root: PathBuf) {
    let mut waiting = vec![root];
    while let Some(path) = waiting.pop() {
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        waiting.extend(entries.map(|entry| entry.path()));
    }
}
