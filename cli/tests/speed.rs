//! How long containers and steps take, against docker in the same minute: a machine that is slow is slow for both. The binary of
//! tests is several times slower than the one that ships; `bench/` has the figures of that.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testdata::{BASE, Docker, Dunnage, Need, skipped};

const ROUNDS: usize = 9;
const STEPS: u32 = 20;

fn time(mut command: Command) -> Duration {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let took = begun.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    took
}

#[test]
fn runtime_p01_p03_a_container_and_a_step_take_less_than_dockers_container() {
    if skipped(&[&BASE[..], &["dockerd", "docker", "containerd"].map(Need::Program)].concat()) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.run(["save", "-o", "base.tar", "base"]).ok();
    dunnage.write("context/Dockerfile", format!("FROM base\n{}", "RUN true\n".repeat(STEPS as usize)));
    let docker = Docker::start(&dunnage.dir("docker"));
    time(docker.command(&["load", "-i", &dunnage.dir(".").join("base.tar").display().to_string()]));
    let run = ["run", "--rm", "--network", "none", "base", "true"];
    // Turn by turn, and the least of each: whatever else the machine does makes all of them slower, and shows least in it.
    let mut rounds: Vec<[Duration; 3]> = Vec::new();
    for _ in 0..ROUNDS {
        let steps = time(dunnage.command(["build", "-q", "--no-cache", "context"]));
        rounds.push([time(docker.command(&run)), time(dunnage.command(run)), steps / STEPS]);
    }
    let [docker, run, step] = [0, 1, 2].map(|which| rounds.iter().map(|round| round[which]).min().unwrap());
    assert!(run * 2 < docker, "a container takes {run:?}, docker's {docker:?}");
    assert!(step * 3 < docker, "a step takes {step:?}, docker's container {docker:?}");
}
