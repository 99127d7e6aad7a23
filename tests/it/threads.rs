//! How many threads write layers and platforms at the same time never shows.

use std::fs;

use crate::support::layers::digests;
use crate::support::wheel::Wheel;
use crate::support::{Project, Run, dmoci};

const THREADS: [usize; 3] = [1, 2, 8];

/// Two platforms, layers that both have and that only one has, and a base.
fn spec(base: &str, wheels: &[String]) -> String {
    let mut text = format!(
        "schema = 1\n[image]\nname = \"localhost/threads\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n{base}"
    );
    for (number, wheel) in wheels.iter().enumerate() {
        text += &format!(
            "[[layer]]\nname = \"wheel {number}\"\nwheel = [{{ path = \"{wheel}\", venv = \"/opt/{number}\", \
             interpreter = \"/usr/bin/python3\", python-version = \"3.13.5\" }}]\n"
        );
    }
    for number in 0..6 {
        text += &format!(
            "[[layer]]\nname = \"both {number}\"\ncopy = [{{ from = \"in/{number}/\", to = \"/both/{number}\" }}]\n\
             [[layer]]\nname = \"each {number}\"\ncopy = [{{ from = \"text\", to = \"/each/{number}\", \
             substitute = {{ \"@on@\" = \"${{platform.debian}}\", \"nowhere {number}\" = \"\" }} }}]\n"
        );
    }
    text
}

fn project(text: &str) -> Project {
    let project = Project::with_spec(text).file("text", "on @on@\n".repeat(1000));
    for number in 0..6 {
        // Of very different sizes: some are less than a block, and the first is the last to be ready.
        for file in 0..3 {
            let line = format!("{number} {file}\n");
            project.write(
                &format!("in/{number}/{file}"),
                line.repeat(if number == 0 { 500_000 } else { 10 << number }),
            );
        }
    }
    project.settle();
    project
}

fn build(project: &Project, threads: usize, more: &[&str]) -> Run {
    let mut command = dmoci();
    command.args(["build", "-v", "--epoch=1700000000", "--revision=1"]).args(more);
    // As `--twice` sets it for its second build.
    command.env("DMOCI_SECOND_BUILD", format!("022:{threads}")).env("XDG_CACHE_HOME", project.cache());
    Run::of(command.current_dir(project.root()))
}

/// What is said, without the time that it took.
fn said(run: &Run) -> Vec<String> {
    let lines = run.stderr.lines().filter(|line| !line.trim_start().starts_with("Finished"));
    lines.map(str::to_owned).collect()
}

#[test]
fn layers_and_platforms_are_the_same() {
    let base = project(&spec("", &[]));
    build(&base, 2, &["--no-cache"]).ok();
    let text = spec("base = \"oci:base\"\n", &[]);
    let project = project(&text);
    let copied = Run::of(
        std::process::Command::new("cp").arg("-r").arg(base.path("dist/image")).arg(project.path("base")),
    );
    copied.ok();
    project.settle();
    let state = |run: &Run| {
        let mut blobs: Vec<_> = fs::read_dir(project.path("dist/image/blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        blobs.sort();
        let read = |name: &str| fs::read_to_string(project.path("dist").join(name)).unwrap();
        (
            blobs,
            read("image/index.json"),
            read("digests.json"),
            read("build.log"),
            run.stdout.clone(),
            said(run),
        )
    };
    let mut first = None;
    for threads in THREADS.repeat(3) {
        let run = build(&project, threads, &["--no-cache"]).ok();
        let state = state(&run);
        assert_eq!(&state, first.get_or_insert_with(|| state.clone()), "{threads} threads");
        fs::remove_dir_all(project.path("dist")).unwrap();
    }
    // What one number of threads has made is what another would make.
    let (cold, warm) = (build(&project, 8, &[]).ok(), build(&project, 1, &[]).ok());
    assert_eq!(digests(&project.path("dist")).to_string(), first.map(|state| state.2).unwrap_or_default());
    assert_eq!(cold.stdout, warm.stdout);
    let unchanged = |run: &Run, platform: &str| {
        let start = format!("Unchanged {platform}: ");
        let line = run.stderr.lines().find_map(|line| line.trim().strip_prefix(&start));
        line.map_or(0, |names| names.split(", ").count())
    };
    // Layers of both platforms are made once.
    assert_eq!([unchanged(&cold, "linux/amd64"), unchanged(&cold, "linux/arm64")], [0, 6], "{}", cold.stderr);
    assert_eq!(
        [unchanged(&warm, "linux/amd64"), unchanged(&warm, "linux/arm64")],
        [12, 12],
        "{}",
        warm.stderr
    );
}

#[test]
fn the_first_layer_that_fails_is_the_one_that_is_told() {
    // Bytes that no compression makes smaller stand in a wheel as they are.
    let mut state = 1u32;
    let mut noise = |count: usize| -> Vec<u8> {
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| byte()).collect()
    };
    let end = noise(64);
    let mut wheels = Vec::new();
    let mut names = Vec::new();
    for number in 0..6 {
        // Only the first is sound, and the second takes longest to come to its damage.
        let big = noise(if number == 1 { 6 << 20 } else { 10 });
        let wheel = Wheel::new(&format!("w{number}"), "1").file("a.bin", big).file("z.bin", end.clone());
        let mut bytes = wheel.bytes();
        if number > 0 {
            let at = bytes.windows(end.len()).position(|window| window == end).unwrap();
            bytes[at] ^= 1;
        }
        names.push(wheel.file_name());
        wheels.push(bytes);
    }
    let mut project = project(&spec("", &names));
    for (name, bytes) in names.iter().zip(wheels) {
        project = project.file(name, bytes);
    }
    let mut first = None;
    for threads in THREADS.repeat(5) {
        let run = build(&project, threads, &["--no-cache"]).exits(1);
        assert!(run.stderr.contains(&format!("error[E-WHEEL]: {}: ", names[1])), "{threads}: {}", run.stderr);
        assert_eq!(&said(&run), first.get_or_insert_with(|| said(&run)), "{threads} threads");
        assert!(!project.path("dist").exists(), "{threads} threads");
    }
    // What had been made before the error is not made again.
    build(&project, 1, &[]).exits(1);
    project.write(&names[1], Wheel::new("w1", "1").bytes());
    let run = build(&project, 8, &[]).exits(1);
    assert!(run.stderr.contains(&format!("error[E-WHEEL]: {}: ", names[2])), "{}", run.stderr);
}
