//! The settings that the weights of `--init-from` were trained with. Weights are taken wherever
//! their shapes fit, and shapes do not show what the numbers mean.

use anyhow::Result;

use crate::config::Config;
use crate::train::Part;

/// Names the settings of the tokenizer in which `config` differs from `earlier`, with which the
/// weights of the parts in `taken` were trained. None if there is no difference.
pub(super) fn words(config: &Config, earlier: &Config, taken: &[Part]) -> Result<Option<String>> {
    let changes = written_out(config).changes(&written_out(earlier))?;
    let tables: Vec<&str> = changes.iter().filter_map(|change| change.key.strip_suffix(".kind")).collect();
    // Another kind has other keys, so the kind alone is named.
    let of_another_kind = |key: &str| {
        let inside = |table: &&str| key.strip_prefix(*table).and_then(|rest| rest.strip_prefix('.'));
        tables.iter().filter_map(inside).any(|name| name != "kind")
    };
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    let named: Vec<String> = changes
        .iter()
        .filter(|change| matters(&change.key, taken) && !of_another_kind(&change.key))
        .map(|change| format!("{}: {} there, {} here", change.key, shown(&change.old), shown(&change.new)))
        .collect();
    Ok((!named.is_empty()).then(|| named.join("; ")))
}

/// Whether the setting `key` belongs to one of these parts. How they are trained is no such setting.
fn matters(key: &str, taken: &[Part]) -> bool {
    let is_taken = |part: Part| taken.contains(&part);
    if key.starts_with("quantizer.") {
        // The budget changes no result.
        is_taken(Part::Quantizer) && !key.ends_with(".memory_budget")
    } else if key == "model.decoder_res_blocks" {
        is_taken(Part::Decoder)
    } else if key.starts_with("model.") {
        is_taken(Part::Encoder) || is_taken(Part::Decoder)
    } else {
        key == "data.image_size"
    }
}

/// The config with the values that absent keys of the model stand for, so that these are no
/// differences.
fn written_out(config: &Config) -> Config {
    let model = config.model.settings().written_out(&config.quantizer);
    Config { model, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSQ: &str = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n";
    const VQ: &str = "[quantizer]\nkind = \"vq\"\ncodebook_size = 64\ncodebook_dim = 4\n";

    fn said(earlier: &str, now: &str, taken: &[Part]) -> Option<String> {
        let [earlier, now] = [earlier, now].map(|text| toml::from_str::<Config>(text).unwrap().resolved());
        words(&now, &earlier, taken).unwrap()
    }

    #[test]
    fn settings_that_shapes_do_not_show_are_named() {
        for (earlier, now, expected) in [
            (FSQ.to_owned(), FSQ.replace("8, 5", "5, 8"), "quantizer.levels: [8, 5] there, [5, 8] here"),
            (
                FSQ.to_owned(),
                format!("{FSQ}bound = \"sigmoid\"\n"),
                "quantizer.bound: \"tanh\" there, \"sigmoid\" here; quantizer.slope: not set there, 1.0 here",
            ),
            (
                format!("{VQ}distance = \"cosine\"\n"),
                VQ.to_owned(),
                "quantizer.distance: \"cosine\" there, \"euclidean\" here",
            ),
            (
                format!("{FSQ}[model]\nstrides = [2, 4]\n"),
                format!("{FSQ}[model]\nstrides = [4, 2]\n[data]\nimage_size = [48, 64]\n"),
                "data.image_size: 64 there, [48, 64] here; model.strides: [2, 4] there, [4, 2] here",
            ),
            (
                FSQ.to_owned(),
                "[quantizer]\nkind = \"bsq\"\nbits = 2\n".to_owned(),
                "quantizer.kind: \"fsq\" there, \"bsq\" here",
            ),
        ] {
            assert_eq!(said(&earlier, &now, &Part::ALL).as_deref(), Some(expected), "{now}");
        }
    }

    #[test]
    fn other_training_and_what_absent_keys_stand_for_are_no_differences() {
        let trained = format!(
            "{VQ}memory_budget = \"1GiB\"\n[model]\nstrides = [2, 2]\ndecoder_res_blocks = 1\n\
             [optimizer]\nlr = 1e-4\n[train]\nsteps = 7\n[data]\ntrain = \"elsewhere\"\n"
        );
        assert_eq!(said(VQ, &trained, &Part::ALL), None);
    }

    #[test]
    fn parts_that_begin_anew_have_no_earlier_settings() {
        let now = format!("{}[model]\ndecoder_res_blocks = 3\n", FSQ.replace("8, 5", "5, 8"));
        let levels = "quantizer.levels: [8, 5] there, [5, 8] here";
        assert_eq!(said(FSQ, &now, &[Part::Encoder]), None);
        assert_eq!(said(FSQ, &now, &[Part::Encoder, Part::Quantizer]).as_deref(), Some(levels));
        let all = said(FSQ, &now, &Part::ALL).unwrap();
        assert_eq!(all, format!("model.decoder_res_blocks: 1 there, 3 here; {levels}"));
    }
}
