//! Every kind of quantizer with its variants, small enough for tests.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use serde_json::{Value, json};

/// A name and a config for each. One list, however long, shows what is covered.
pub fn kinds() -> Vec<(&'static str, Value)> {
    let vq = |changed: Value| {
        let mut config = json!({ "kind": "vq", "codebook_size": 24, "codebook_dim": 5 });
        config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        config
    };
    let by_gradient = json!({ "kind": "gradient" });
    vec![
        ("fsq paper", json!({ "kind": "fsq", "levels": [8, 5, 3], "bound": "paper" })),
        ("fsq tanh", json!({ "kind": "fsq", "levels": [8, 5, 3] })),
        ("fsq sigmoid", json!({ "kind": "fsq", "levels": [7, 4], "bound": "sigmoid", "slope": 1.6 })),
        // An axis of length 1 has its own strides.
        ("fsq of one dimension", json!({ "kind": "fsq", "levels": [7] })),
        ("vq", vq(json!({ "restart_threshold": 1.0 }))),
        ("vq by gradient", vq(json!({ "codebook_update": by_gradient, "restart_threshold": 1.0 }))),
        ("vq cosine", vq(json!({ "distance": "cosine", "restart_threshold": 1.0 }))),
        ("vq cosine by gradient", vq(json!({ "distance": "cosine", "codebook_update": by_gradient }))),
        ("vq rotation", vq(json!({ "gradient_estimator": "rotation" }))),
        ("vq diveq", vq(json!({ "gradient_estimator": "diveq", "codebook_update": by_gradient }))),
        ("vq entropy", vq(json!({ "entropy_weight": 0.1, "codebook_update": by_gradient }))),
        ("simvq", json!({ "kind": "simvq", "codebook_size": 24, "codebook_dim": 6 })),
        (
            "simvq rotation",
            json!({
                "kind": "simvq", "codebook_size": 24, "codebook_dim": 6, "bias": false,
                "gradient_estimator": "rotation",
            }),
        ),
        ("lfq", json!({ "kind": "lfq", "bits": 5, "entropy_group_bits": 3 })),
        ("bsq", json!({ "kind": "bsq", "bits": 4 })),
        ("ibq", json!({ "kind": "ibq", "codebook_size": 24, "codebook_dim": 5 })),
        (
            "residual fsq",
            json!({ "kind": "residual", "stages": 3, "each": { "kind": "fsq", "levels": [8, 5] } }),
        ),
        (
            "residual vq",
            json!({ "kind": "residual", "stages": 2, "each": vq(json!({ "restart_threshold": 1.0 })) }),
        ),
        ("residual lfq", json!({ "kind": "residual", "stages": 2, "each": { "kind": "lfq", "bits": 3 } })),
        ("residual bsq", json!({ "kind": "residual", "stages": 2, "each": { "kind": "bsq", "bits": 3 } })),
        (
            "residual ibq",
            json!({ "kind": "residual", "stages": 2, "each": { "kind": "ibq", "codebook_size": 12, "codebook_dim": 3 } }),
        ),
        (
            "residual simvq",
            json!({ "kind": "residual", "stages": 2, "each": { "kind": "simvq", "codebook_size": 12, "codebook_dim": 3 } }),
        ),
        ("grouped lfq", json!({ "kind": "grouped", "groups": 2, "each": { "kind": "lfq", "bits": 3 } })),
        ("grouped bsq", json!({ "kind": "grouped", "groups": 2, "each": { "kind": "bsq", "bits": 3 } })),
        ("residual of one", json!({ "kind": "residual", "stages": 1, "each": vq(json!({})) })),
        (
            "grouped vq",
            json!({
                "kind": "grouped", "groups": 2,
                "each": vq(json!({ "codebook_update": by_gradient, "restart_threshold": 1.0 })),
            }),
        ),
        (
            "grouped fsq",
            json!({ "kind": "grouped", "groups": 3, "each": { "kind": "fsq", "levels": [4, 3] } }),
        ),
        (
            "groups of residuals",
            json!({
                "kind": "grouped", "groups": 2,
                "each": { "kind": "residual", "stages": 3, "each": { "kind": "fsq", "levels": [5, 3] } },
            }),
        ),
        (
            "grouped simvq",
            json!({ "kind": "grouped", "groups": 2, "each": { "kind": "simvq", "codebook_size": 12, "codebook_dim": 3 } }),
        ),
    ]
}
