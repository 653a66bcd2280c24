//! The messages beside results, which flags control, and the scripts that shells need to complete
//! commands.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;

use common::program::{ended, with_bad_images};
use common::{Scratch, device, pixtok, said};

#[test]
fn notes_and_progress_are_said_unless_quiet_and_details_only_when_verbose() {
    let scratch = Scratch::new();
    let stderr = |run: &str, args: &[&str]| {
        let output = scratch.try_train(run, &[&["--set=train.steps=2"], args].concat());
        ended(&output, 0, &["trained: "]);
        String::from_utf8(output.stderr).unwrap()
    };
    let details = ["libtorch 2.", " thread(s); kernels: "];
    let normal = stderr("normal", &[]);
    assert!(
        normal.contains("computing   on ")
            && normal.contains("step 2/2")
            && normal.contains("step 2: val psnr_db"),
        "{normal}"
    );
    assert!(details.iter().all(|detail| !normal.contains(detail)), "{normal}");
    assert_eq!(stderr("quiet", &["--quiet"]), "");
    let verbose = stderr("verbose", &["-v"]);
    assert!(verbose.contains("step 2/2"), "{verbose}");
    assert!(details.iter().all(|detail| verbose.contains(detail)), "{verbose}");
    ended(&pixtok(&["-q", "doctor", "--device", "cpu"]), 0, &["libtorch"]);
    ended(&pixtok(&["doctor", "-q", "-v"]), 2, &["--quiet", "cannot be used with"]);
}

#[test]
fn what_is_passed_over_is_said_even_when_quiet() {
    let scratch = Scratch::new();
    let folder = with_bad_images(&scratch, "mixed", 8);
    fs::write(scratch.path("mixed/film.mov"), "not an image").unwrap();
    let val = scratch.path("val");
    let args =
        ["--data", &folder, "--val-data", val.to_str().unwrap(), "--set=data.max_bad_fraction=0.2", "-q"];
    let output = scratch.try_train("run", &args);
    ended(&output, 0, &["warning: step 1: skipped", "mov"]);
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!words.contains("/12") && !words.contains("val psnr_db"), "{words}");

    let (run, device) = (scratch.path("run"), device());
    let eval =
        ["eval", run.to_str().unwrap(), "--data", &folder, "--threads", "1", "--device", &device, "-q"];
    let output = pixtok(&eval);
    assert!(said(&output).contains("left out cut.jpg: "), "{}", said(&output));
}

#[test]
fn a_comparison_is_as_quiet_as_it_is_asked_to_be() {
    let scratch = Scratch::new();
    let sweep = scratch.path("sweep.toml");
    let text = "base = \"tiny.toml\"\nset = { train.steps = 2 }\n[[arms]]\nname = \"fsq\"\n";
    fs::write(&sweep, text).unwrap();
    let compare = |out: &str, flag: &str| {
        let (out, device) = (scratch.path(out), device());
        let args = ["compare", sweep.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads", "1"];
        let output = pixtok(&[&args[..], &["--devices", &device, flag]].concat());
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(compare("quiet", "-q"), "");
    let verbose = compare("verbose", "-v");
    for part in ["[1/1] fsq seed 0", "pixtok train ", "fsq seed 0: libtorch 2.", "pixtok eval "] {
        assert!(verbose.contains(part), "{part:?} is missing in: {verbose}");
    }
}

#[test]
fn shells_get_completions_of_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish"] {
        ended(&pixtok(&["completions", shell]), 0, &["pixtok", "reconstruct", "shard-rows"]);
    }
    ended(&pixtok(&["completions", "csh"]), 2, &["csh", "bash", "zsh"]);
}
