//! A toy task in the training loop: a linear model over integers, without any images.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::checkpoint::{Resumed, RunFolder, RunWriter, ValidationImages};
use crate::optim::{self, Schedule};
use crate::quantizer::{Monitor, Statistic, UpdateReport};
use crate::variables::{Role, Variable};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::Precision;

/// Learns three linear functions of an integer: x ↦ k·x + 1 for k = 0, 1, 2.
struct Linear {
    /// `[3, 2]`: slope and offset of each function.
    weight: Tensor,
    /// The number of integers trained on so far.
    seen: u64,
    /// The number of steps, as the sum of their statistics.
    updates: f64,
    /// The number of watched log rows.
    watched: usize,
}

impl Linear {
    fn new() -> Self {
        let weight = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Self { weight, seen: 0, updates: 0.0, watched: 0 }
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

    fn groups(&self) -> Vec<ParameterGroup> {
        let schedule = Schedule::Constant { warmup_steps: 0 };
        let optimizer = optim::Config { lr: 0.1, schedule, ..optim::Config::default() };
        vec![ParameterGroup {
            name: "linear",
            parameters: self.model(),
            optimizer,
            table: "optimizer",
            start: 0,
        }]
    }

    fn split(batch: &Vec<i64>, parts: usize) -> Vec<Vec<i64>> {
        batch.chunks(batch.len() / parts).map(<[i64]>::to_vec).collect()
    }

    fn step(&mut self, batch: &Vec<i64>, at: At) -> Result<StepOutput, TrainError> {
        self.seen += batch.len() as u64;
        let error = self.error(batch);
        // A random term, which a resumed run has to draw again.
        let noise = (at.seed.0 % 5) as f64 * 0.1;
        Ok(StepOutput {
            groups: vec![(0, &error * (1.0 + noise))],
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
        vec![Variable {
            name: "weight".to_owned(),
            tensor: self.weight.shallow_clone(),
            role: Role::Matrix,
            component: Component::Encoder,
            touches_pixels: false,
            trained: true,
        }]
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

    fn row(&mut self) -> Vec<(String, f64)> {
        vec![("toy/seen".to_owned(), self.seen as f64)]
    }

    fn watch(&mut self, row: &[(String, f64)], _around: &mut Surroundings) {
        assert!(row.iter().any(|(name, _)| name == "optim/lr"), "the row is whole");
        self.watched += 1;
    }

    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        let own = [("seen", json!(self.seen)), ("updates", json!(self.updates))];
        Ok(own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn resume(&mut self, saved: Option<&Value>, _run: &RunFolder) -> Result<Vec<String>, TrainError> {
        if let Some(saved) = saved {
            self.seen = saved["seen"].as_u64().unwrap();
            self.updates = saved["updates"].as_f64().unwrap();
        }
        Ok(vec![])
    }
}

/// The integers from −3 to 3, repeated, six at a time.
#[derive(Default)]
struct Integers {
    next: i64,
}

impl Batches<Vec<i64>> for Integers {
    fn beginning(&self) -> Bookmark {
        json!(0)
    }

    fn seek(&mut self, bookmark: &Bookmark, _around: &mut Surroundings) -> Result<(), TrainError> {
        self.next = bookmark.as_i64().unwrap();
        Ok(())
    }

    fn next(&mut self) -> Result<Fetched<Vec<i64>>, TrainError> {
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
}

/// Trains up to step `steps` in the folder `run`, from its last checkpoint if it has one.
fn train(run: &Path, steps: u64) -> Result<Outcome, TrainError> {
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
        batches: Box::new(Integers::default()),
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
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"] {
        let [undisturbed, resumed] =
            [&whole, &halves].map(|run| fs::read(run.join("step-000008").join(file)).unwrap());
        assert_eq!(undisturbed, resumed, "{file}");
    }
    let state: Value = serde_json::from_slice(&fs::read(checkpoint.join("state.json")).unwrap()).unwrap();
    assert_eq!(
        state["state"],
        json!({ "step": 8, "evaluated": 8, "cursor": 48, "seen": 48, "updates": 8.0 })
    );

    let logged = rows(&whole);
    let trained: Vec<&Value> = logged.iter().filter(|row| row.get("loss/total").is_some()).collect();
    assert_eq!(trained.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4, 6, 8]);
    for name in
        ["optim/grad_norm", "optim/lr", "loss/error", "toy/seen", "toy/noise", "speed/integers_per_sec"]
    {
        assert!(trained.iter().all(|row| row[name].is_number()), "{name}");
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
