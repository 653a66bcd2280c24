//! An arm whose numbers were not finite: the same settings are not trained again.

use super::*;

const TEXT: &str = "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n[[arms]]\nname = \"diverges\"\n\
    set.optimizer.lr = 1e30\n";

#[test]
fn an_arm_that_diverged_is_not_trained_again_as_it_is() {
    let scratch = Scratch::new();
    let path = sweep(&scratch, "sweep.toml", TEXT);
    let output = compare(&scratch, &path, "out");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("1 of 2 runs failed; their settings have to change"), "{}", said(&output));
    let (before, log) = (results(&scratch, "out"), scratch.path("out/arms/diverges/seed-0.log"));
    let record = scratch.path("out/arms/diverges/seed-0/diverged.json");
    let trained = fs::read(&log).unwrap();

    let output = compare(&scratch, &path, "out");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let failed = "diverges seed 0: not trained again, since it would fail again in the same way: \
        training failed (exit code 5)";
    for part in [failed, "under another name", "another --out", "fsq seed 0: finished earlier"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    assert!(fs::read(&log).unwrap() == trained, "it was trained again");
    assert_eq!(results(&scratch, "out"), before);
    let out = scratch.path("out");
    let dry = ["compare", &path, "--out", out.to_str().unwrap(), "--threads", "1", "--dry-run"];
    let dry = pixtok(&dry);
    assert!(dry.status.success() && said(&dry).contains(failed), "{}", said(&dry));

    // A different version of the program may get further.
    let own = format!("\"pixtok\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace(&own, "\"pixtok\": \"0.0.0\"")).unwrap();
    let output = compare(&scratch, &path, "out");
    assert!(!said(&output).contains("not trained again"), "{}", said(&output));
    assert!(fs::read(&log).unwrap().len() > trained.len(), "it was not trained");

    // The remedy: different settings under a different name. Finished arms still count.
    sweep(&scratch, "sweep.toml", &TEXT.replace("1e30", "1e-3"));
    let output = compare(&scratch, &path, "out");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("give the arm another name"), "{}", said(&output));
    sweep(&scratch, "sweep.toml", &TEXT.replace("1e30", "1e-3").replace("diverges", "calm"));
    let output = compare(&scratch, &path, "out");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("fsq seed 0: finished earlier"), "{}", said(&output));
}
