//! A toy task goes through the loop: a linear model over integers, which has nothing of images, and
//! beside it a number that learns to tell the model's error.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::checkpoint::{Resumed, RunFolder, RunWriter, ValidationImages};
use crate::optim::{self, Schedule};
use crate::statistics::{Monitor, Statistic, UpdateReport};
use crate::variables::{Component, Role, Variable};
use crate::world::{World, WorldError};
use pixtok_base::seed::Seed;
use pixtok_base::{Class, Classified};
use pixtok_torch::{Noise, Precision, no_grad};

/// The step from which the judge learns.
const JUDGED_FROM: u64 = 2;

/// What a checkpoint has.
const FILES: [&str; 5] =
    ["model.safetensors", "ema.safetensors", "companions.safetensors", "optimizer.safetensors", "state.json"];

/// Learns three linear functions of an integer: x ↦ k·x + 1 for k = 0, 1, 2.
struct Linear {
    /// `[3, 2]`: slope and offset of each function.
    weight: Tensor,
    /// `[1]`: an estimate of the error, which trains beside the model from step 2 on.
    judge: Tensor,
    /// How often a training began.
    begun: u64,
    /// Integers trained on so far.
    seen: u64,
    /// The number of steps, as the sum of their statistics.
    updates: f64,
    /// The number of watched log rows.
    watched: usize,
}

impl Linear {
    fn new() -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Self { weight: zeros(&[3, 2]), judge: zeros(&[1]), begun: 0, seen: 0, updates: 0.0, watched: 0 }
    }

    /// Mean squared error on some integers.
    fn error(&self, integers: &[i64]) -> Tensor {
        let features: Vec<f32> = integers.iter().flat_map(|&x| [x as f32, 1.0]).collect();
        let wanted: Vec<f32> =
            integers.iter().flat_map(|&x| (0..3).map(move |k| (k * x + 1) as f32)).collect();
        let predicted = Tensor::from_slice(&features).view([-1, 2]).matmul(&self.weight.tr());
        (predicted - Tensor::from_slice(&wanted).view([-1, 3])).square().mean(Kind::Float)
    }
}

impl Task for Linear {
    type Batch = Vec<i64>;

    /// The number of rows watched so far.
    type Exhibits = usize;

    const SAMPLES: &'static str = "integers";

    const COMPANIONS: &'static str = "judge";

    fn groups(&self) -> Vec<ParameterGroup> {
        let schedule = Schedule::Constant { warmup_steps: 0 };
        let optimizer = optim::Config { lr: 0.1, schedule, ..optim::Config::default() };
        let group = |name, parameters, table, start| ParameterGroup {
            name,
            parameters,
            optimizer: optimizer.clone(),
            table,
            start,
        };
        vec![
            group("linear", self.model(), "optimizer", 0),
            group("judge", self.companions(), "judge.optimizer", JUDGED_FROM),
        ]
    }

    fn begin(
        &mut self,
        batches: &mut dyn Batches<Vec<i64>>,
        around: &mut Surroundings,
        passes: Passes,
        _seed: Seed,
    ) -> Result<Begun, TrainError> {
        let beginning = batches.beginning();
        batches.seek(&beginning, around)?;
        let first = batches.next()?.batch;
        assert_eq!((passes.micro_batches, &*first), (2, &[-3, -2, -1, 0, 1, 2][..]));
        let _ = no_grad(|| self.weight.fill_(first.iter().sum::<i64>() as f64 / first.len() as f64));
        self.begun += 1;
        Ok(Begun::Done)
    }

    fn split(batch: &Vec<i64>, parts: usize) -> Vec<Vec<i64>> {
        batch.chunks(batch.len() / parts).map(<[i64]>::to_vec).collect()
    }

    fn step(&mut self, batch: &Vec<i64>, at: At) -> Result<StepOutput, TrainError> {
        self.seen += batch.len() as u64;
        // Two micro-batches of three: the samples are named by their places in the whole batch.
        let of_step = Noise::new(Seed(5).derive("step", &[at.step]).derive("noise", &[]));
        assert_eq!(at.noise, of_step.at_place(3 * at.micro_batch as u64));
        let error = self.error(batch);
        // A random term, which a resumed run has to draw again.
        let noise = at.noise.uniform(&[1], Device::Cpu).double_value(&[0]) * 0.5;
        let mut groups = vec![(0, &error * (1.0 + noise))];
        if at.step >= JUDGED_FROM {
            groups.push((1, (&self.judge - error.detach()).square().mean(Kind::Float)));
        }
        Ok(StepOutput {
            groups,
            terms: vec![("loss/error".to_owned(), error.detach())],
            statistics: vec![Statistic::Sum { name: "parts", value: Tensor::from(1f32) }],
            monitors: vec![Monitor { name: "toy/noise".to_owned(), value: Tensor::from(noise) }],
        })
    }

    fn after_step(&mut self, merged: &[Statistic], world: &World, _seed: Seed) -> UpdateReport {
        assert_eq!(world.size(), 1);
        if let [Statistic::Sum { value, .. }] = merged {
            self.updates += value.double_value(&[]) / 2.0;
        }
        UpdateReport::default()
    }

    fn validate(&mut self, _around: &mut Surroundings) -> Result<Validated<usize>, TrainError> {
        let error = self.error(&[-5, 0, 11]).double_value(&[]);
        Ok(Validated { figures: vec![("error".to_owned(), error)], exhibits: self.watched })
    }

    fn model(&self) -> Vec<Variable> {
        vec![variable("weight", &self.weight, Role::Matrix, Component::Encoder)]
    }

    fn companions(&self) -> Vec<Variable> {
        vec![variable("judge", &self.judge, Role::Bias, Component::Discriminator)]
    }

    fn rank(&self, figures: &[(String, f64)]) -> Option<Ranked> {
        let images = ValidationImages { blake3: Some("three integers".to_owned()), max_images: 0 };
        let (_, value) = figures.first()?;
        Some(Ranked { metric: "error", value: *value, higher_is_better: false, images })
    }

    fn show(&mut self, watched: usize, around: &mut Surroundings) -> Result<(), TrainError> {
        let path = around.run.folder().path().join("shown");
        fs::write(&path, format!("{watched} rows at step {}", around.step)).unwrap();
        Ok(())
    }

    fn row(&mut self, world: &World) -> Result<Vec<(String, f64)>, WorldError> {
        Ok(vec![("toy/seen".to_owned(), world.sum_of(self.seen as i64)? as f64)])
    }

    fn watch(&mut self, row: &[(String, f64)], _around: &mut Surroundings) {
        assert!(row.iter().any(|(name, _)| name == "optim/lr"), "the row is whole");
        self.watched += 1;
    }

    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        let own =
            [("begun", json!(self.begun)), ("seen", json!(self.seen)), ("updates", json!(self.updates))];
        Ok(own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn resume(&mut self, saved: Option<&Value>, _run: &RunFolder) -> Result<Vec<String>, TrainError> {
        if let Some(saved) = saved {
            assert!(saved.get("step").is_none(), "what is the loop's own was taken out: {saved}");
            self.begun = saved["begun"].as_u64().unwrap();
            self.seen = saved["seen"].as_u64().unwrap();
            self.updates = saved["updates"].as_f64().unwrap();
        }
        Ok(vec![])
    }
}

fn variable(name: &str, tensor: &Tensor, role: Role, component: Component) -> Variable {
    let tensor = tensor.shallow_clone();
    Variable { name: name.to_owned(), tensor, role, component, touches_pixels: false, trained: true }
}

/// The integers from −3 to 3, over and over, six at a time. Every second batch leaves one out.
struct Integers {
    next: i64,
    /// The place of what the last batch left out.
    skipped: Option<i64>,
    /// The place from which on too many are left out.
    too_many_from: i64,
}

impl Batches<Vec<i64>> for Integers {
    fn beginning(&self) -> Bookmark {
        json!(0)
    }

    fn seek(&mut self, bookmark: &Bookmark, _around: &mut Surroundings) -> Result<(), TrainError> {
        self.next = bookmark.as_i64().unwrap();
        self.skipped = None;
        Ok(())
    }

    fn next(&mut self) -> Result<Fetched<Vec<i64>>, TrainError> {
        self.skipped = (self.next % 12 == 0).then_some(self.next);
        let batch: Vec<i64> = (self.next..self.next + 6).map(|i| i % 7 - 3).collect();
        self.next += 6;
        Ok(Fetched {
            samples: batch.len(),
            names: batch.iter().map(i64::to_string).collect(),
            batch,
            epoch: self.next.unsigned_abs() / 7,
            bookmark: json!(self.next),
        })
    }

    fn note_skipped(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        let Some(place) = self.skipped.take() else { return Ok(()) };
        let path = around.run.folder().path().join("skipped");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "step {}: {place}", around.step + 1).unwrap();
        if place < self.too_many_from {
            return Ok(());
        }
        Err(TaskError::new(Class::BadData, About::Data, io::Error::other("too many integers left out"))
            .into())
    }
}

/// Trains up to step `steps` in the folder `run`, from its last checkpoint if it has one.
fn train(run: &Path, steps: u64) -> Result<Outcome, TrainError> {
    train_on(run, steps, Integers { next: 0, skipped: None, too_many_from: i64::MAX })
}

fn train_on(run: &Path, steps: u64, integers: Integers) -> Result<Outcome, TrainError> {
    let (run, resumed) = if run.join("config.toml").exists() {
        let run = RunWriter::resume(run).unwrap();
        let resumed: Resumed = run.folder().newest_whole().unwrap();
        (run, Some(resumed))
    } else {
        let writer = RunWriter::create(run).unwrap();
        fs::write(run.join("config.toml"), "").unwrap();
        (writer, None)
    };
    let train = Config {
        steps,
        micro_batches: 2,
        ema_decay: 0.5,
        log_every: 2,
        eval_every: 4,
        checkpoint_every: 3,
        keep_checkpoints: 9,
        ..Config::default()
    };
    let trainer = Trainer::new(Parts {
        seed: Seed(5),
        train,
        config_text: "toy".to_owned(),
        task: Linear::new(),
        batches: Box::new(integers),
        device: Device::Cpu,
        precision: Precision::Fp32,
        run,
        resumed,
        save_first: false,
        signals: Signals::default(),
        world: World::single(),
    })?;
    trainer.run()
}

/// Makes every save of `step` fail, as a full disk does: a file has the name of the temporary
/// folder.
fn obstruct(run: &Path, step: u64) {
    fs::create_dir_all(run).unwrap();
    fs::write(run.join(format!(".step-{step:06}.tmp-{}", std::process::id())), "").unwrap();
}

fn checkpoints(run: &Path) -> Vec<u64> {
    RunFolder::open(run).unwrap().checkpoints().unwrap()
}

fn rows(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_toy_task_trains_resumes_exactly_and_logs() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, halves] = ["whole", "halves"].map(|name| folder.path().join(name));
    let checkpoint = whole.join("step-000008");
    assert_eq!(train(&whole, 8).unwrap(), Outcome::Finished { checkpoint: checkpoint.clone() });
    train(&halves, 5).unwrap();
    train(&halves, 8).unwrap();
    for file in FILES {
        let [undisturbed, resumed] =
            [&whole, &halves].map(|run| fs::read(run.join("step-000008").join(file)).unwrap());
        assert_eq!(undisturbed, resumed, "{file}");
    }
    let state: Value = serde_json::from_slice(&fs::read(checkpoint.join("state.json")).unwrap()).unwrap();
    assert_eq!(
        state["state"],
        json!({ "step": 8, "evaluated": 8, "cursor": 48, "begun": 1, "seen": 48, "updates": 8.0 })
    );

    let logged = rows(&whole);
    let trained: Vec<&Value> = logged.iter().filter(|row| row.get("loss/total").is_some()).collect();
    assert_eq!(trained.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4, 6, 8]);
    for name in
        ["optim/grad_norm", "optim/lr", "loss/error", "toy/seen", "toy/noise", "speed/integers_per_sec"]
    {
        assert!(trained.iter().all(|row| row[name].is_number()), "{name}");
    }
    for name in ["optim/grad_norm_judge", "optim/lr_judge"] {
        let judged: Vec<bool> = trained.iter().map(|row| row.get(name).is_some()).collect();
        assert_eq!(judged, [false, true, true, true], "{name}");
    }
    for run in [&whole, &halves] {
        let skipped = fs::read_to_string(run.join("skipped")).unwrap();
        assert_eq!(skipped, "step 1: 0\nstep 3: 12\nstep 5: 24\nstep 7: 36\n");
    }
    let last =
        |run: &Path, name: &str| rows(run).iter().rev().find_map(|row| row.get(name)?.as_f64()).unwrap();
    for name in ["loss/error", "toy/seen", "val/error", "val_ema/error"] {
        assert_eq!(last(&whole, name), last(&halves, name), "{name}");
    }
    let first = logged.iter().find_map(|row| row.get("val/error")?.as_f64()).unwrap();
    assert!(last(&whole, "val/error") < first, "it learns");
    assert_ne!(last(&whole, "val/error"), last(&whole, "val_ema/error"), "the average is a model of its own");
    assert_eq!(fs::read_to_string(whole.join("shown")).unwrap(), "4 rows at step 8");
    let best: Value = serde_json::from_slice(&fs::read(whole.join("best.json")).unwrap()).unwrap();
    assert_eq!((&best["metric"], &best["step"]), (&json!("error"), &json!(8)));
}

#[test]
fn bad_data_of_a_task_ends_the_training_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let error =
        train_on(&run, 8, Integers { next: 0, skipped: None, too_many_from: 20 }).expect_err("too many");
    assert_eq!((error.class(), error.to_string()), (Class::BadData, "too many integers left out".to_owned()));
    assert!(error.is_of_data());
    let skipped = fs::read_to_string(run.join("skipped")).unwrap();
    assert_eq!(skipped, "step 1: 0\nstep 3: 12\nstep 5: 24\n");
    assert!(run.join("step-000004/state.json").exists(), "the steps before are saved");
    // The state is whole: what was left out before is no obstacle to one who allows it.
    assert!(matches!(train(&run, 5), Ok(Outcome::Finished { .. })));
}

#[test]
fn a_checkpoint_holds_the_step_at_which_its_save_began() {
    let folder = tempfile::tempdir().unwrap();
    let [long, short] = ["long", "short"].map(|name| folder.path().join(name));
    train(&long, 8).unwrap();
    assert_eq!(checkpoints(&long), [3, 4, 6, 8]);
    for step in [3, 6] {
        // The last step is saved while nothing trains. In the long run these steps are not last.
        train(&short, step).unwrap();
        for file in &FILES[..4] {
            let [meanwhile, at_rest] =
                [&long, &short].map(|run| fs::read(run.join(format!("step-{step:06}")).join(file)).unwrap());
            assert!(meanwhile == at_rest, "{file} of step {step}");
        }
    }
    // The evaluation at step 4 was the best until step 8.
    let best: Value = serde_json::from_slice(&fs::read(long.join("best.json")).unwrap()).unwrap();
    assert_eq!(best["step"], json!(8));
}

#[test]
fn a_failed_save_ends_a_training_only_at_its_last_chance() {
    let folder = tempfile::tempdir().unwrap();
    let [on, over] = ["on", "over"].map(|name| folder.path().join(name));
    obstruct(&on, 3);
    let checkpoint = on.join("step-000008");
    assert_eq!(train(&on, 8).unwrap(), Outcome::Finished { checkpoint });
    assert_eq!(checkpoints(&on), [4, 6, 8]);

    obstruct(&over, 8);
    let error = train(&over, 8).unwrap_err();
    assert_eq!(error.class(), Class::SaveFailed);
    assert!(error.to_string().contains("step-000008 was not saved"), "{error}");
    assert_eq!(checkpoints(&over), [3, 4, 6]);
    // A resume removes what stood in the way.
    train(&over, 8).unwrap();
    assert_eq!(checkpoints(&over), [3, 4, 6, 8]);
}

#[test]
fn a_save_under_way_ends_before_an_error_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // The batch after step 6 has too much left out: steps 3 and 6 were saved meanwhile.
    train_on(&run, 8, Integers { next: 0, skipped: None, too_many_from: 30 }).unwrap_err();
    assert_eq!(checkpoints(&run), [3, 4, 6]);
    assert!(RunFolder::open(&run).unwrap().newest_whole().unwrap().damaged.is_empty());
}
