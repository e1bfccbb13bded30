//! The runner of test programs: one that does not end is ended, and what is no test is left alone.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use dunnage_testdata::workspace;

#[test]
fn a_test_program_that_does_not_end_fails() {
    let directory = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let run = |path, argument: &str| {
        let mut command = Command::new(workspace().join("testdata/bounded"));
        command.arg(path).arg(argument).env("DUNNAGE_TESTS_LONGEST", "1").output().unwrap()
    };
    let hangs = run(program("deps/hangs", "exec sleep 600"), "");
    assert_eq!(hangs.status.code(), Some(124), "{hangs:?}");
    let ends = run(program("deps/ends", "echo \"$1\"; exit 3"), "two words");
    assert_eq!((ends.status.code(), ends.stdout.as_slice()), (Some(3), &b"two words\n"[..]));
    let other = run(program("other", "sleep 2; exit 4"), "");
    assert_eq!(other.status.code(), Some(4), "what is no test takes as long as it takes");
}
