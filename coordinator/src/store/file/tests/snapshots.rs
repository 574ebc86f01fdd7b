//! Snapshots as files: found, damaged, foreign, ahead of the log, of a later format.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::super::error::{Notice, SnapshotFlaw};
use super::super::super::snapshot::{LoadedSnapshot, Snapshot};
use super::super::snapshots::{load, save};
use super::{STORE_ID, put};

const HEAD: u64 = 1_000;

fn snapshot(name: &str, version: u64) -> Snapshot {
    let bytes = format!("{{\"state\":{version}}}\n\0binary").into_bytes();
    Snapshot { name: name.to_owned(), version, position: 2 * version, bytes }
}

fn load_at_head(dir: &Path, name: &str) -> LoadedSnapshot {
    load(dir, STORE_ID, name, HEAD).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flaws(loaded: &LoadedSnapshot) -> Vec<SnapshotFlaw> {
    loaded
        .notices
        .iter()
        .map(|notice| match notice {
            Notice::SnapshotIgnored { flaw, .. } => flaw.clone(),
            other => panic!("{other}"),
        })
        .collect()
}

#[test]
fn the_two_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for version in [3, 20, 100] {
        save(dir.path(), STORE_ID, &snapshot("apollo.3/build", version)).unwrap();
    }
    let names: Vec<_> =
        files(dir.path()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let name = |version| format!("apollo.3%2Fbuild@000000000000000{version:05}.snapshot");
    assert_eq!(names, [name(20), name(100)]);
    assert_eq!(load_at_head(dir.path(), "apollo.3/build").snapshot, Some(snapshot("apollo.3/build", 100)));
    let mode = files(dir.path())[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn no_changed_bit_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 1)).unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 2)).unwrap();
    let newest = files(dir.path()).pop().unwrap();
    let content = std::fs::read(&newest).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&newest).unwrap();
    for (offset, byte) in content.iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ (1 << bit)], offset as u64).unwrap();
            let loaded = load_at_head(dir.path(), "s");
            assert_eq!(loaded.snapshot, Some(snapshot("s", 1)), "bit {bit} of byte {offset}");
            assert_eq!(loaded.notices.len(), 1);
        }
        file.write_all_at(&[*byte], offset as u64).unwrap();
    }
    for length in 0..content.len() {
        put(&newest, &content[..length]);
        let loaded = load_at_head(dir.path(), "s");
        assert_eq!(loaded.snapshot, Some(snapshot("s", 1)), "cut at {length}");
        assert_eq!(flaws(&loaded), [SnapshotFlaw::Damaged]);
    }
}

#[test]
fn what_does_not_fit_the_log_is_passed_over_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 5)).unwrap();
    let file = files(dir.path()).pop().unwrap();
    let content = std::fs::read(&file).unwrap();

    let loaded = load(dir.path(), uuid::Uuid::from_u128(1), "s", HEAD).unwrap();
    assert_eq!((loaded.snapshot.is_none(), flaws(&loaded)), (true, vec![SnapshotFlaw::OtherLog]));
    let loaded = load(dir.path(), STORE_ID, "s", 9).unwrap();
    assert_eq!(flaws(&loaded), [SnapshotFlaw::AheadOfLog { position: 10, head: 9 }]);
    // Under the name of another, as after a careless copy.
    std::fs::copy(&file, dir.path().join("t@00000000000000000005.snapshot")).unwrap();
    assert_eq!(flaws(&load_at_head(dir.path(), "t")), [SnapshotFlaw::OtherLog]);

    let later = [b"{\"cairn_snapshot\":2,\"else\":[]}\n", &content[..]].concat();
    std::fs::write(&file, later).unwrap();
    let loaded = load_at_head(dir.path(), "s");
    assert_eq!(flaws(&loaded), [SnapshotFlaw::Format { format: 2 }]);
    assert!(loaded.notices[0].to_string().contains("rebuilt from the log"));
}

#[test]
fn a_half_written_file_is_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 5)).unwrap();
    std::fs::write(dir.path().join("s@00000000000000000006.tmp"), "half").unwrap();
    assert_eq!(
        load_at_head(dir.path(), "s"),
        LoadedSnapshot { snapshot: Some(snapshot("s", 5)), notices: vec![] }
    );
    save(dir.path(), STORE_ID, &snapshot("s", 6)).unwrap();
    assert_eq!(load_at_head(dir.path(), "s").snapshot, Some(snapshot("s", 6)));
}

#[test]
fn names_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x/".repeat(256);
    let names =
        ["a", "a.1", "a/1", "a%2F1", "../../etc/passwd", "a@1", "Ä", &long, &long.replace("x/x", "y/x")];
    for (index, name) in names.iter().enumerate() {
        save(dir.path(), STORE_ID, &snapshot(name, index as u64 + 1)).unwrap();
    }
    for (index, name) in names.iter().enumerate() {
        let loaded = load_at_head(dir.path(), name);
        assert_eq!(
            (loaded.snapshot, loaded.notices.len()),
            (Some(snapshot(name, index as u64 + 1)), 0),
            "{name}"
        );
    }
    assert_eq!(files(dir.path()).len(), names.len());
    for bad in [String::new(), "x".repeat(513)] {
        assert!(save(dir.path(), STORE_ID, &snapshot(&bad, 1)).is_err());
        assert!(load(dir.path(), STORE_ID, &bad, HEAD).is_err());
    }
}

#[test]
fn one_of_a_later_version_gives_way_when_the_log_was_put_back() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 400)).unwrap();
    save(dir.path(), STORE_ID, &snapshot("s", 100)).unwrap();
    assert_eq!(load_at_head(dir.path(), "s").snapshot, Some(snapshot("s", 100)));
    assert_eq!(files(dir.path()).len(), 1);
}
