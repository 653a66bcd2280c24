//! Processes that can't train together say why, before the first step.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Output;

use super::common::Scratch;
use super::common::program::refused;
#[cfg(target_os = "linux")]
use super::resume::cursor;
#[cfg(target_os = "linux")]
use super::same::{BUCKETS, HEADER, TALL, damage, write_aspects};
use super::{Processes, SOON, free_port, new_run, process, succeed};

/// Starts two processes, process 1 with further arguments.
fn started(base: &[String], of_other: &[&str]) -> Processes {
    let port = free_port();
    let start = |(rank, args): (u32, &[&str])| process(rank, 2, port).args(base).args(args).spawn().unwrap();
    Processes([(0, &[][..]), (1, of_other)].map(start).into())
}

/// Runs process `rank` of two, of which the other never comes.
fn only(rank: u32, port: u16, base: &[String]) -> std::process::Output {
    let child = process(rank, 2, port).args(base).arg("--set=train.timeout_secs=3").spawn().unwrap();
    let mut started = Processes(vec![child]);
    started.wait_for(0, SOON);
    started.outputs().swap_remove(0)
}

#[test]
fn processes_that_differ_say_how() {
    let scratch = Scratch::new();
    let run = new_run(&scratch, "run");
    for output in Processes::start(2, &run, &["--set=train.batch_size=5"]).outputs() {
        refused(&output, 2, &["train.batch_size is 5", "2 processes", "set it to 4 or 6"]);
    }
    for output in Processes::start(2, &run, &["--set=train.micro_batches=4"]).outputs() {
        refused(&output, 2, &["2 processes", "2 images", "train.micro_batches 4"]);
    }
    for output in started(&run, &["--set=optimizer.lr=1e-3"]).outputs() {
        refused(&output, 2, &["optimizer.lr is 0.002 in process 0 and 0.001 in process 1"]);
    }
    assert!(!scratch.path("run").exists());
}

/// Copies a folder of images, with their modification times.
fn copy_images(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        fs::copy(&from, &to).unwrap();
        let time = fs::metadata(&from).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&to).unwrap().set_modified(time).unwrap();
    }
}

/// Two processes whose `train` folders are their own, as on hosts with disks of their own, run in
/// `here` and `there`.
#[cfg(target_os = "linux")]
fn on_own_disks(base: &[String], here: &Path, there: &Path, args: &[&str]) -> Processes {
    let (port, own) = (free_port(), ["--data", "/proc/self/cwd/train"]);
    let start = |(rank, folder): (u32, &Path)| {
        let mut command = process(rank, 2, port);
        command.current_dir(folder).args(base).args(own).args(args).spawn().unwrap()
    };
    Processes([(0, here), (1, there)].map(start).into())
}

#[test]
#[cfg(target_os = "linux")]
fn processes_that_see_other_images_are_refused() {
    let scratch = Scratch::new();
    let (here, there) = (scratch.path(""), scratch.path("there"));
    copy_images(&scratch.path("train"), &there.join("train"));
    fs::remove_file(there.join("train/00.jpg")).unwrap();
    fs::copy(there.join("train/01.jpg"), there.join("train/00.jpg")).unwrap();
    for output in on_own_disks(&new_run(&scratch, "run"), &here, &there, &[]).outputs() {
        refused(&output, 2, &["data", "sizes", "process 0", "process 1"]);
    }
    // Copies on another disk may be of another time.
    fs::copy(scratch.path("train/00.jpg"), there.join("train/00.jpg")).unwrap();
    let outputs =
        on_own_disks(&new_run(&scratch, "copies"), &here, &there, &["--set=train.steps=2"]).outputs();
    for output in outputs {
        assert!(output.status.success(), "{}", super::said(&output));
    }
}

/// Trains in buckets in two processes, of which the second sees the tall picture with zeros from
/// byte `from` on, if it is given.
#[cfg(target_os = "linux")]
fn in_buckets(scratch: &Scratch, run: &str, from: Option<usize>) -> Vec<Output> {
    let [here, there] = ["here", "there"].map(|side| scratch.path(&format!("{run}-{side}")));
    write_aspects(&here.join("train"));
    copy_images(&here.join("train"), &there.join("train"));
    if let Some(from) = from {
        damage(&there.join("train").join(TALL), from);
    }
    let val = scratch.path("val");
    let args = [&BUCKETS[..], &["--val-data", val.to_str().unwrap()]].concat();
    on_own_disks(&new_run(scratch, run), &here, &there, &args).outputs()
}

#[test]
#[cfg(target_os = "linux")]
fn a_header_that_one_process_cannot_read_is_refused() {
    for output in in_buckets(&Scratch::new(), "run", Some(0)) {
        refused(&output, 2, &["process 1 differs from process 0 in the data.buckets that headers"]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_picture_that_one_process_cannot_read_does_not_move_its_batches() {
    let scratch = Scratch::new();
    for (run, from) in [("whole", None), ("damaged", Some(HEADER))] {
        for output in in_buckets(&scratch, run, from) {
            assert!(output.status.success(), "{run}: {}", super::said(&output));
        }
    }
    let bad = fs::read_to_string(scratch.path("damaged/bad_samples.jsonl")).unwrap();
    assert!(bad.lines().count() == 1 && bad.contains(TALL), "{bad}");
    // Process 1 is where process 0 is, and both are where they would be with the picture.
    assert_eq!(cursor(&scratch.path("whole"), 20), cursor(&scratch.path("damaged"), 20));
}

#[test]
#[cfg(target_os = "linux")]
fn the_data_error_of_one_process_ends_the_others() {
    let scratch = Scratch::new();
    let (here, there) = (scratch.path(""), scratch.path("there"));
    copy_images(&scratch.path("train"), &there.join("train"));
    // A disk that returns nothing but zeros.
    for entry in fs::read_dir(there.join("train")).unwrap() {
        let (path, file) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
        fs::write(&path, vec![0; file.len() as usize]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(file.modified().unwrap()).unwrap();
    }
    let outputs = on_own_disks(&new_run(&scratch, "run"), &here, &there, &[]).outputs();
    refused(&outputs[1], 6, &["none of the", "a file of zero bytes"]);
    refused(&outputs[0], 1, &["process 1 ended with: "]);
}

#[test]
fn processes_that_do_not_meet_say_where() {
    let scratch = Scratch::new();
    let run = new_run(&scratch, "run");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    refused(&only(0, port, &run), 2, &[&format!("port {port}"), "set MASTER_PORT to a free one"]);
    refused(&only(0, free_port(), &run), 1, &["process 1 never came"]);
    let port = free_port();
    refused(&only(1, port, &run), 1, &[&format!("127.0.0.1:{port}"), "within 3 s", "MASTER_ADDR"]);
    // Something else listens on the port, and answers nothing.
    refused(&only(1, taken.local_addr().unwrap().port(), &run), 1, &["127.0.0.1", "MASTER_PORT"]);
    assert!(!scratch.path("run").exists());
}

#[test]
fn variables_that_make_no_sense_are_named() {
    let scratch = Scratch::new();
    let run = new_run(&scratch, "run");
    for (name, value, parts) in [
        ("RANK", "2", ["RANK is \"2\"", "WORLD_SIZE is \"2\""]),
        ("WORLD_SIZE", "two", ["RANK is \"0\"", "WORLD_SIZE is \"two\""]),
        ("LOCAL_RANK", "x", ["LOCAL_RANK is \"x\"", "not a number"]),
        ("MASTER_PORT", "0", ["MASTER_PORT is \"0\"", "1 to 65535"]),
        ("MASTER_ADDR", "", ["MASTER_ADDR is not set", "2 processes"]),
    ] {
        let child = process(0, 2, free_port()).env(name, value).args(&run).spawn().unwrap();
        refused(&Processes(vec![child]).outputs()[0], 2, &parts);
    }
}

#[test]
fn cuda_that_is_not_there_is_refused_by_all() {
    if super::common::device() == "cuda" {
        return;
    }
    let scratch = Scratch::new();
    let mut run = new_run(&scratch, "run");
    *run.last_mut().unwrap() = "cuda".to_owned();
    for output in Processes::start(2, &run, &[]).outputs() {
        refused(&output, 2, &["CUDA", "use --device cpu"]);
    }
}

#[test]
fn an_existing_run_is_refused_by_all() {
    let scratch = Scratch::new();
    let run = new_run(&scratch, "run");
    succeed(2, &run, &["--set=train.steps=1"]);
    let outputs = Processes::start(2, &run, &[]).outputs();
    refused(&outputs[0], 2, &["already holds a run", "--resume", "another --run"]);
    refused(&outputs[1], 1, &["process 0 ended with: ", "already holds a run"]);
}
