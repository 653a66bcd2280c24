//! The settings that the weights of `--init-from` were trained with. Weights can be taken if their
//! shapes fit, but shapes do not show what the numbers mean.

use anyhow::Result;
use toml::Value;

use crate::config::{Config, KeyPath, known};
use crate::model::comparable;
use crate::variables::Component;

/// Names the settings that differ between `config` and `earlier` and change what the weights of the
/// components in `taken` mean: the components' own settings, and the image size. `None` if there is
/// no difference.
pub(super) fn words(config: &Config, earlier: &Config, taken: &[Component]) -> Result<Option<String>> {
    named([config, earlier], taken, |path| path.is(known::DATA_IMAGE_SIZE))
}

/// The same as [`words`], without the image size.
pub(super) fn of_parts(config: &Config, earlier: &Config, parts: &[Component]) -> Result<Option<String>> {
    named([config, earlier], parts, |_| false)
}

fn named(
    configs: [&Config; 2],
    parts: &[Component],
    besides: impl Fn(&KeyPath) -> bool,
) -> Result<Option<String>> {
    let [config, earlier] = written_out(configs);
    let changes = config.changes(&earlier)?;
    let wanted = |path: &KeyPath| besides(path) || shapes(&config, path, parts);
    let tables: Vec<KeyPath> = changes.iter().filter_map(|change| change.path.table_of_kind()).collect();
    // A different kind has different keys, so only the kind is named.
    let of_another_kind = |path: &KeyPath| {
        let kind_of = path.table_of_kind();
        tables.iter().any(|table| path.is_below(table) && kind_of.as_ref() != Some(table))
    };
    let shown =
        |value: &Option<Value>| value.as_ref().map_or_else(|| "not set".to_owned(), ToString::to_string);
    let named: Vec<String> = changes
        .iter()
        .filter(|change| wanted(&change.path) && !of_another_kind(&change.path))
        .map(|change| format!("{}: {} there, {} here", change.path, shown(&change.from), shown(&change.to)))
        .collect();
    Ok((!named.is_empty()).then(|| named.join("; ")))
}

/// Whether the setting at `path` is of one of these parts.
fn is_of(config: &Config, path: &KeyPath, parts: &[Component]) -> bool {
    let within = || path.names()[1..].join(".");
    let own: &[Component] = if path.is_in(known::QUANTIZER) {
        config.quantizer.settings().components_of(&within())
    } else if path.is_in(known::MODEL) {
        config.model.settings().components_of(&within())
    } else {
        &[]
    };
    own.iter().any(|part| parts.contains(part))
}

/// Whether the setting at `path` is of one of these parts and changes results.
fn shapes(config: &Config, path: &KeyPath, parts: &[Component]) -> bool {
    let is_budget = path.is_in(known::QUANTIZER) && path.name() == known::MEMORY_BUDGET;
    is_of(config, path, parts) && !is_budget
}

/// The configs with the models' defaults written out, so that absent keys don't count as
/// differences, and with equal settings in equal places.
fn written_out(configs: [&Config; 2]) -> [Config; 2] {
    let models = configs.map(|config| config.model.settings().written_out(&config.quantizer));
    let [config, earlier] = configs;
    let [of_config, of_earlier] = comparable(models);
    [Config { model: of_config, ..config.clone() }, Config { model: of_earlier, ..earlier.clone() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSQ: &str = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n";
    const VQ: &str = "[quantizer]\nkind = \"vq\"\ncodebook_size = 64\ncodebook_dim = 4\n";

    fn said(earlier: &str, now: &str, taken: &[Component]) -> Option<String> {
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
            assert_eq!(said(&earlier, &now, &Component::TOKENIZER).as_deref(), Some(expected), "{now}");
        }
    }

    #[test]
    fn other_training_and_what_absent_keys_stand_for_are_no_differences() {
        let trained = format!(
            "{VQ}memory_budget = \"1GiB\"\n[model]\nstrides = [2, 2]\ndecoder_res_blocks = 1\n\
             [optimizer]\nlr = 1e-4\n[train]\nsteps = 7\n[data]\ntrain = \"elsewhere\"\n"
        );
        assert_eq!(said(VQ, &trained, &Component::TOKENIZER), None);
        let [earlier, now] = [VQ, &trained].map(|text| toml::from_str::<Config>(text).unwrap().resolved());
        assert_eq!(
            of_parts(&now, &earlier, &Component::TOKENIZER).unwrap(),
            None,
            "and none that keeps parts from staying"
        );
    }

    #[test]
    fn parts_that_begin_anew_have_no_earlier_settings() {
        let now = format!("{}[model]\ndecoder_res_blocks = 3\n", FSQ.replace("8, 5", "5, 8"));
        let levels = "quantizer.levels: [8, 5] there, [5, 8] here";
        assert_eq!(said(FSQ, &now, &[Component::Encoder]), None);
        assert_eq!(said(FSQ, &now, &[Component::Encoder, Component::Quantizer]).as_deref(), Some(levels));
        let all = said(FSQ, &now, &Component::TOKENIZER).unwrap();
        assert_eq!(all, format!("model.decoder_res_blocks: 1 there, 3 here; {levels}"));
    }

    #[test]
    fn tail_drop_of_stages_is_the_decoders() {
        let plain = "[quantizer]\nkind = \"residual\"\neach = { kind = \"fsq\", levels = [8, 5] }\n";
        let dropping = format!("{plain}tail_drop = {{ keep_full = 0.5 }}\n");
        let half = dropping.replace("0.5", "0.25");
        let [dropping, half] = [&dropping, &half].map(String::as_str);
        for (earlier, now) in [(plain, dropping), (dropping, plain), (dropping, half)] {
            assert_eq!(said(earlier, now, &[Component::Encoder, Component::Quantizer]), None, "{now}");
            let words = said(earlier, now, &[Component::Decoder]).unwrap();
            assert!(words.starts_with("quantizer.tail_drop"), "{words}");
        }
    }

    #[test]
    fn halves_of_a_pair_are_compared_with_those_of_any_network() {
        let single = format!("{FSQ}[model]\nchannels = 8\ndecoder_res_blocks = 2\n");
        let pair = |encoder: &str, decoder: &str| {
            format!("{FSQ}[model]\nkind = \"pair\"\n[model.encoder]\n{encoder}\n[model.decoder]\n{decoder}\n")
        };
        let kept = [Component::Encoder, Component::Quantizer];
        let same = pair("channels = 8", "channels = 12");
        assert_eq!(said(&single, &same, &kept), None);
        assert_eq!(said(&same, &single, &kept), None);
        let wider = pair("channels = 12", "channels = 8\ndecoder_res_blocks = 2");
        let words = "model.encoder.channels: 8 there, 12 here";
        assert_eq!(said(&single, &wider, &kept).as_deref(), Some(words));
        assert_eq!(said(&single, &wider, &[Component::Decoder]), None);
        // Keys of the half that is not used don't count.
        let unused = pair("channels = 8\ndecoder_res_blocks = 5", "channels = 12");
        assert_eq!(said(&same, &unused, &Component::TOKENIZER), None);
        assert_eq!(
            said(&single, &same, &[Component::Decoder]).as_deref(),
            Some(
                "model.decoder.channels: 8 there, 12 here; model.decoder.decoder_res_blocks: 2 there, 1 here"
            )
        );
    }

    #[test]
    fn a_frozen_encoder_takes_any_decoder_of_its_network() {
        let of = |keys: &str| format!("{FSQ}[model]\nkind = \"one-d\"\n{keys}\n");
        let kept = [Component::Encoder, Component::Quantizer];
        let [plain, some, more] = ["", "tail_drop.keep_full = 0.5", "tail_drop.keep_full = 0.8"].map(of);
        for (earlier, now) in [(&plain, &some), (&some, &more), (&some, &plain)] {
            assert_eq!(said(earlier, now, &Component::TOKENIZER), None, "{now}");
        }
        let legacy = |codes: u32| of(&format!("layout = \"legacy\"\npixel_decoder.codes = {codes}"));
        assert_eq!(said(&legacy(1024), &legacy(512), &kept), None);
        let words = "model.pixel_decoder.codes: 1024 there, 512 here";
        assert_eq!(said(&legacy(1024), &legacy(512), &Component::TOKENIZER).as_deref(), Some(words));
        // The same in a pair, and of the half that is used only.
        let pair = |codes: u32| {
            let half = format!("kind = \"one-d\"\nlayout = \"legacy\"\npixel_decoder.codes = {codes}");
            format!("{FSQ}[model]\nkind = \"pair\"\n[model.encoder]\n{half}\n[model.decoder]\n{half}\n")
        };
        assert_eq!(said(&pair(1024), &pair(512), &kept), None);
        let words = "model.decoder.pixel_decoder.codes: 1024 there, 512 here";
        assert_eq!(said(&pair(1024), &pair(512), &Component::TOKENIZER).as_deref(), Some(words));
        // What is done at other sizes shapes no weight.
        for kind in ["one-d", "vit"] {
            let of = |extension: &str| {
                let keys = format!("kind = \"{kind}\"\npositions = \"rope\"\nextension = \"{extension}\"");
                format!("{FSQ}[model]\n{keys}\n")
            };
            assert_eq!(said(&of("none"), &of("ntk"), &Component::TOKENIZER), None, "{kind}");
        }
    }

    #[test]
    fn settings_are_of_the_parts_that_they_shape() {
        let config: Config = toml::from_str(FSQ).unwrap();
        let is_of = |dotted: &str, part| is_of(&config, &KeyPath::from(dotted.to_owned()), &[part]);
        let parts = |dotted: &str| Component::TOKENIZER.map(|part| is_of(dotted, part));
        let of = |own: &[Component]| Component::TOKENIZER.map(|part| own.contains(&part));
        assert_eq!(parts("quantizer.levels"), of(&[Component::Quantizer]));
        assert_eq!(parts("quantizer"), of(&[Component::Quantizer]), "a quantizer of another kind");
        assert_eq!(parts("model.decoder_res_blocks"), of(&[Component::Decoder]));
        assert_eq!(parts("model.res_blocks"), of(&[Component::Encoder, Component::Decoder]));
        for other in ["optimizer.lr", "data.image_size", "models.x", "quantizers.levels"] {
            assert_eq!(parts(other), of(&[]), "{other}");
        }
    }
}
