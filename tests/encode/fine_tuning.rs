//! A decoder that is trained further keeps the tokens.

use std::fs;

use super::{Export, Trained};
use crate::common::said;

const FROZEN: &str = "train.freeze=[\"encoder\",\"quantizer\"]";
const VQ: &str = "quantizer={kind=\"vq\",codebook_size=24,codebook_dim=4,restart_threshold=1.0}";

#[test]
fn either_tokenizer_decodes_the_tokens_of_the_other() {
    let export = Export::new();
    for (name, quantizer) in [("fsq", None), ("vq", Some(VQ))] {
        let [old, new, newer] = ["old", "new", "newer"].map(|run| format!("{name}-{run}"));
        let settings: Vec<&str> = quantizer.iter().flat_map(|quantizer| ["--set", quantizer]).collect();
        export.scratch.train(&old, &settings);
        let from = |run: &str| export.path(run).to_str().unwrap().to_owned();
        // A larger decoder starts from fresh weights.
        let larger = [&settings[..], &["--set", FROZEN, "--set", "model.decoder_res_blocks=2"]].concat();
        export.scratch.train(&new, &[&larger[..], &["--init-from", &from(&old)]].concat());
        // One that fits goes on, and the tokens are still the first run's.
        export.scratch.train(&newer, &[&larger[..], &["--init-from", &from(&new)]].concat());

        let [of_old, of_newer] = [&old, &newer].map(|run| {
            export.encode(run, &format!("{run}-tokens"), &["--format", "npy"]);
            export.rows(&format!("{run}-tokens"))
        });
        let ids = |rows: &[pixtok_tokens::Row]| -> Vec<Vec<u32>> {
            rows.iter().map(|row| row.ids.clone()).collect()
        };
        assert_eq!(ids(&of_old), ids(&of_newer), "{name}: the tokens stay the same");
        let [old_weights, newer_weights] = [&old, &newer]
            .map(|run| fs::read(export.path(run).join("step-000012/model.safetensors")).unwrap());
        assert!(old_weights != newer_weights, "{name}: the decoder was trained");

        for (run, tokens) in [(&newer, &old), (&old, &newer), (&new, &newer)] {
            let output = export.decode(run, &format!("{tokens}-tokens"), &format!("{run}-of-{tokens}"), &[]);
            assert!(output.status.success(), "{run} decodes {tokens}: {}", said(&output));
        }
        // A model folder works like a run.
        let (folder, of_folder) = (export.path(&format!("{name}-folder")), format!("{name}-of-folder"));
        fs::create_dir(&folder).unwrap();
        fs::copy(export.path(&old).join("config.toml"), folder.join("config.toml")).unwrap();
        fs::write(folder.join("model.safetensors"), &old_weights).unwrap();
        let more = ["--init-from", folder.to_str().unwrap()];
        export.scratch.train(&of_folder, &[&larger[..], &more].concat());
        for run in [&newer, &of_folder] {
            let noted = Trained::open(&export.path(run)).config.train.keeps_tokens_of;
            assert_eq!(noted, Some(blake3::hash(&old_weights).to_hex().to_string()), "{run}");
        }
    }
    let output = export.decode("vq-new", "fsq-old-tokens", "neither", &[]);
    assert!(!output.status.success(), "another tokenizer's tokens are refused as ever");
}
