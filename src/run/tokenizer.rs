//! The run of a tokenizer: from its config to a training, and back from a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::images::{
    both_sets, check_batch, drop_those_of_config, tell_omitted, tell_shared, validation_note,
    words_of_buckets,
};
use super::networks::Networks;
use super::resume::Earlier;
use super::settings::TrainOptions;
use super::summary::Summary;
use super::task::{Prepared, Ready, RunTask};
use super::training::{Described, absolute, exactness, run_folder, suit_memory};
use super::{Run, Tell, check_data, dry_run, init, loss};
use crate::checkpoint;
use crate::config::Config;
use crate::evaluate::check_samples;
use crate::tasks::tokenizer::{
    Circumstances, ImageBatches, LossWeights, NoiseSource, Objective, Samples, Setup, State, TokenizerTask,
    Validation,
};
use crate::train::{Exactness, Progress, StateError, TrainError};
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_base::seed::Seed;
use pixtok_images::data::{Cache, Dataset};

/// The run of a tokenizer, with or without an adversary.
pub(super) struct TokenizerRun;

/// What a tokenizer's training starts from.
pub(super) struct Built {
    /// What the training begins with.
    summary: [String; 4],
    objective: Objective,
    train_set: Arc<Dataset>,
    val_set: Arc<Dataset>,
    /// Validation images that are shown.
    samples: Samples,
    /// What the run records of the weights of the loss's network, if the loss uses one.
    loss_weights: Option<LossWeights>,
}

impl RunTask for TokenizerRun {
    type Config = Config;
    type State = State;
    type Task = TokenizerTask;
    type Built = Built;

    fn config_of(run: &Run) -> Result<Config> {
        run.config()
    }

    fn saved(state: &Value) -> Result<(Progress, State), StateError> {
        let (progress, own) = Progress::split(state)?;
        ImageBatches::place(&progress.cursor)?;
        Ok((progress, State::parse(&own)?))
    }

    fn exactness(state: &State) -> &Exactness {
        &state.circumstances.run
    }

    fn place(config: &mut Config, options: &TrainOptions, resumed: bool) -> Result<()> {
        if let Some(folder) = &options.data {
            config.data.train = text_of(folder)?;
            if !resumed {
                drop_those_of_config(&options.overrides, &mut config.data);
            }
        }
        if let Some(folder) = &options.val_data {
            config.data.val = Some(text_of(folder)?);
            config.data.val_split = None;
        }
        let picked = [
            (&options.pick.split, &mut config.data.split),
            (&options.val_split, &mut config.data.val_split),
            (&options.pick.image_column, &mut config.data.image_column),
        ];
        for (flag, value) in picked {
            if flag.is_some() {
                value.clone_from(flag);
            }
        }
        Ok(())
    }

    fn check_start(
        config: &Config,
        options: &TrainOptions,
        earlier: Option<&Earlier<Self>>,
        dry_run: bool,
        tell: Tell,
    ) -> Result<()> {
        match earlier.filter(|run| run.has_checkpoint()) {
            Some(run) => check_best_metric(config, run, tell)?,
            None => config.check_new_training()?,
        }
        if earlier.is_none() && options.init_from.is_none() && !dry_run {
            init::from_nothing(config)?;
        }
        Ok(())
    }

    fn note(options: &TrainOptions, written: &Config, config: &Config) -> Option<String> {
        validation_note(options, &written.data, config)
    }

    fn build(prepared: &mut Prepared<Self>, options: &TrainOptions, tell: Tell) -> Result<Built> {
        let Prepared { earlier, config, device, settled, .. } = prepared;
        let (earlier, device) = (earlier.as_ref(), *device);
        let weights = weights_of_loss(config, options, earlier)?;
        suit_memory(device)?;
        let (loss, loss_weights) = loss::loss(&config.loss, weights, device)?;
        let (train_set, val_set) = both_sets(config, tell)?;
        let train_set = Arc::new(train_set.with_cache(Cache::new(&config.data)?));
        check_batch(config, &train_set)?;
        // Without the cache, whose resizing differs in the last bit, so that the figures are those
        // of `pixtok eval`.
        let val_set = Arc::new(val_set);
        let samples = Samples::read(&val_set, &config.data, &config.eval)?;
        let networks = Networks::build(config, device)?;
        (config.train.keeps_tokens_of, config.train.init_from) = match (&options.init_from, earlier) {
            (Some(other), _) => (init::from_run(other, config, &networks, tell)?, Some(absolute(other))),
            (None, Some(run)) => {
                let train = &run.config.train;
                (train.keeps_tokens_of.clone(), train.init_from.clone())
            }
            (None, None) => (None, None),
        };
        let place = place_of(earlier, options);
        let summary = Summary {
            config,
            run: &place,
            resumed: earlier.is_some(),
            images: Ok((&train_set, &val_set)),
            networks: &networks,
            precision: settled,
        };
        let summary = summary.lines()?;
        let objective = networks.objective(config, loss);
        Ok(Built { summary, objective, train_set, val_set, samples, loss_weights })
    }

    fn announce(built: &Built, prepared: &Prepared<Self>, options: &TrainOptions, tell: Tell) -> Result<()> {
        let Built { summary, train_set, val_set, .. } = built;
        summary.iter().for_each(|line| tell.note(line));
        words_of_buckets(&prepared.config, train_set).iter().for_each(|line| tell.note(line));
        tell_omitted([&**train_set, &**val_set], tell);
        if options.check_data {
            check_data::read_all(&prepared.config, (train_set, val_set), tell)?.before_training(tell)?;
        }
        Ok(())
    }

    fn task(
        built: Built,
        prepared: &Prepared<Self>,
        exactness: Exactness,
        options: &TrainOptions,
        world: &World,
    ) -> Result<Ready<TokenizerTask>> {
        let Built { objective, train_set, val_set, samples, loss_weights, .. } = built;
        let Prepared { config, earlier, device, .. } = prepared;
        let sets = (Arc::clone(&train_set), Arc::clone(&val_set));
        let circumstances = circumstances(config, exactness, (&train_set, &val_set), loss_weights);
        let (seed, images, size) = (Seed(config.seed), Arc::clone(&train_set), config.train.batch_size);
        let batches = ImageBatches::new(images, &config.data, size, seed, *device, world);
        let task = TokenizerTask::new(Setup {
            objective,
            batch_size: size,
            best_metric: config.train.best_metric,
            collapse: config.train.collapse.clone(),
            data: config.data.clone(),
            eval: config.eval.clone(),
            train_set,
            val_set,
            samples,
            circumstances,
            before: earlier.as_ref().map(|run| (run.config.data.clone(), run.config.eval.clone())),
            accept_inexact: options.accept_inexact,
        });
        // Only after different images were refused, since this may read many of them.
        let overlap_told = options.overlap_told;
        let told_late: Box<dyn FnOnce(Tell)> = Box::new(move |tell| {
            if !overlap_told {
                tell_shared(&sets.0, &sets.1, tell);
            }
        });
        Ok(Ready { task, batches: Box::new(batches), told_late })
    }

    fn notes(config: &Config) -> Result<Vec<String>> {
        let mut notes = config.advice()?;
        notes.extend(config.micro_batch_terms().map(|terms| format!("micro-batches: {terms}")));
        notes.extend(words_of_adversary(config));
        Ok(notes)
    }

    /// Images and the weights of the loss's network may be missing.
    fn describe(
        prepared: Prepared<Self>,
        options: &TrainOptions,
        print_config: bool,
        tell: Tell,
    ) -> Result<Described> {
        let Prepared { earlier, config, device, settled, mut notes, .. } = prepared;
        let config = &config;
        let weights = weights_of_loss(config, options, earlier.as_ref());
        let networks = Networks::build(config, device)?;
        if let Some(other) = &options.init_from {
            init::from_run(other, config, &networks, tell)?;
        }
        // Checks that the file holds the right weights.
        let weights = weights.and_then(|path| Ok((loss::loss(&config.loss, path.clone(), device)?.1, path)));
        let (loss_weights, weights) = match weights {
            Ok((noted, path)) => (noted, Ok(path)),
            Err(error) => (None, Err(error)),
        };
        let place = place_of(earlier.as_ref(), options);
        let images = both_sets(config, tell).map(|(train, val)| (Arc::new(train), Arc::new(val)));
        let images = match images {
            // What the flags name is meant to be here.
            Err(error) if options.data.is_some() || options.val_data.is_some() => return Err(error),
            images => images,
        };
        if let Ok((_, val_set)) = &images {
            check_samples(val_set, &config.eval)?;
        }
        let resumed = earlier.is_some();
        if !resumed && Run::is_one(&place) {
            tell.say(&checkpoint::Error::Exists { folder: place.clone() }.to_string());
        }
        // The images may be on a different machine, so this is checked only if everything is here.
        if let (Some(earlier), Ok((train_set, val_set)), Ok(_)) = (earlier, &images, &weights) {
            let exactness = exactness(config, device)?;
            let now = State::new(circumstances(config, exactness, (train_set, val_set), loss_weights));
            notes.extend(check_state(&earlier, now, options.accept_inexact, config, train_set)?);
            notes.extend(other_images(&earlier, config, val_set)?);
        }
        notes.iter().for_each(|text| tell.note(text));
        let listed = images.as_ref().map(|(train, val)| (&**train, &**val));
        let summary = Summary {
            config,
            run: &place,
            resumed,
            images: listed.map_err(|error| format!("{error:#}")),
            networks: &networks,
            precision: &settled,
        };
        let words = dry_run::words(&summary, weights, print_config, tell)?;
        let config = config.clone();
        let check_data = Box::new(move |tell: Tell| {
            let (train_set, val_set) = images?;
            let checked = check_data::read_all(&config, (&train_set, &val_set), tell)?;
            Ok((checked.words() + "\n", checked.is_fine()))
        });
        Ok(Described { words, check_data })
    }
}

/// The folder of the run.
fn place_of(earlier: Option<&Earlier<TokenizerRun>>, options: &TrainOptions) -> PathBuf {
    earlier.map_or_else(|| run_folder(options), |run| run.path().to_owned())
}

/// The circumstances of a run in this process.
fn circumstances(
    config: &Config,
    run: Exactness,
    (train_set, val_set): (&Dataset, &Dataset),
    loss_weights: Option<LossWeights>,
) -> Circumstances {
    Circumstances {
        run,
        data: train_set.fingerprint(),
        val_data: val_set.fingerprint(),
        loss_weights,
        noise: config.draws_noise().then_some(NoiseSource::Image),
    }
}

/// Describes what it means to go on under the circumstances `now`.
///
/// # Errors
/// When it would not be the same run.
fn check_state(
    earlier: &Earlier<TokenizerRun>,
    mut now: State,
    accept_inexact: bool,
    config: &Config,
    train_set: &Dataset,
) -> Result<Vec<String>> {
    let Some(then) = earlier.state() else { return Ok(vec![]) };
    let notes = now.resume(then, accept_inexact, &config.data);
    Ok(notes.map_err(|error| TrainError::from(error.with_changes(earlier.path(), train_set)))?)
}

/// A message if the run goes on with different validation images than before.
fn other_images(
    earlier: &Earlier<TokenizerRun>,
    config: &Config,
    val_set: &Dataset,
) -> Result<Option<String>> {
    let Some(state) = earlier.state() else { return Ok(None) };
    let (data, eval) = (config.data.clone(), config.eval.clone());
    let validation = Validation { data, eval, total: val_set.len() };
    let before = (&earlier.config.data, &earlier.config.eval);
    let found = validation.differs(earlier.folder(), before, state, &val_set.fingerprint())?;
    Ok(found.map(|other| other.words))
}

/// The path of the weights of the loss's network, if the loss uses one. A resumed run has recorded
/// it.
fn weights_of_loss(
    config: &Config,
    options: &TrainOptions,
    earlier: Option<&Earlier<TokenizerRun>>,
) -> Result<Option<PathBuf>> {
    let recorded = || {
        let file = PathBuf::from(&earlier?.last_state()?.circumstances.loss_weights.as_ref()?.file);
        file.is_file().then_some(file)
    };
    let given = options.lpips_weights.clone().or_else(recorded);
    loss::loss_weights(&config.loss, given.as_deref())
}

/// Refuses a new best metric that the images are too small for. For the run's own metric there is
/// only a warning.
fn check_best_metric(config: &Config, earlier: &Earlier<TokenizerRun>, tell: Tell) -> Result<()> {
    match config.check_best_metric() {
        Err(error) if config.train.best_metric == earlier.config.train.best_metric => {
            tell.say(&format!(
                "warning: {error}; a run that goes on may change it with --set train.best_metric=psnr_db"
            ));
            Ok(())
        }
        checked => Ok(checked?),
    }
}

/// Describes when the discriminator starts to take part.
fn words_of_adversary(config: &Config) -> Option<String> {
    let (start, steps) = (config.adversarial.as_ref()?.start, config.train.steps);
    Some(if start < steps {
        format!("the discriminator takes part from step {start}")
    } else {
        format!("the discriminator never takes part: adversarial.start is {start} and train.steps {steps}")
    })
}

fn text_of(path: &Path) -> Result<String> {
    let text =
        path.to_str().ok_or_else(|| Misuse(format!("{} is not a UTF-8 path; rename it", path.display())))?;
    Ok(text.to_owned())
}
