use super::super::fixture;
use super::*;
use pixtok_images::data::BadSample;
use serde_json::{Value, json};

fn figures(seed: usize, size: i64) -> Value {
    let noise = seed as f64 / 7.0;
    json!({"images": 129, "psnr_db": 26.0 + noise, "ssim": 0.75, "l1": 9.5, "codebook_size": size, "usage": 0.5,
        "usage_expected_uniform": 0.99, "perplexity": 100.5, "bits_per_pixel": 0.625, "bits_per_pixel_zstd": 0.5,
        "stability_shift": 0.8, "encode_images_per_sec": 1234.5, "ms_ssim": null,
        "ms_ssim_note": "images under 176 px"})
}

fn render(comparison: &Comparison) -> String {
    let originals = [fixture::picture(5, 7, 0), fixture::picture(5, 7, 100)];
    let exhibits: Vec<_> =
        (0..comparison.arms.len()).map(|arm| fixture::exhibit(comparison, arm, &originals)).collect();
    let originals: Vec<_> = ["a.png", "<b>.png"].map(str::to_owned).into_iter().zip(originals).collect();
    html(comparison, &exhibits, &originals).unwrap()
}

fn arms(count: usize, seeds: usize) -> Comparison {
    let names: Vec<String> = (0..count).map(|at| format!("kind{}-{}bit", at % 3, 8 + at / 3)).collect();
    let series: Vec<String> = (0..count).map(|at| format!("kind{}", at % 3)).collect();
    let runs: Vec<Vec<Value>> =
        (0..count).map(|at| (0..seeds).map(|seed| figures(seed + at, 256 << (at / 3))).collect()).collect();
    let arms: Vec<_> =
        (0..count).map(|at| (names[at].as_str(), series[at].as_str(), &runs[at][..])).collect();
    fixture::comparison(&arms)
}

/// Each drawing of the page, parsed as a document of its own.
fn drawings(page: &str) -> Vec<roxmltree::Document<'_>> {
    let starts = page.match_indices("<svg").map(|(at, _)| at);
    let drawing = |at: usize| {
        let length = page[at..].find("</svg>").unwrap() + "</svg>".len();
        roxmltree::Document::parse(&page[at..at + length]).unwrap()
    };
    starts.map(drawing).collect()
}

fn check(page: &str) {
    assert!(!page.contains("http://") && !page.contains("https://"), "the page names an address");
    assert!(!page.contains("<script"), "the page needs no script");
    for (at, _) in page.match_indices("src=") {
        assert!(page[at..].starts_with("src=\"data:image/png;base64,"), "{}", &page[at..at + 40]);
    }
    for (at, _) in page.match_indices("href=") {
        let target = &page[at + "href=\"".len()..];
        assert!(target.starts_with('#') || target.starts_with("data:"), "{}", &target[..40]);
    }
    // Encoded pictures can contain any word by chance.
    let words: String = page.split('"').filter(|part| !part.starts_with("data:")).collect();
    for word in ["url(", "@import", "NaN", ">inf"] {
        assert!(!words.contains(word), "the page has {word}");
    }
    let ids: Vec<_> =
        page.match_indices(" id=\"").map(|(at, _)| page[at..].split('"').nth(1).unwrap()).collect();
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    for drawing in drawings(page) {
        let root = drawing.root_element();
        let described = root.attribute("aria-label").is_some_and(|alt| alt.len() > 20);
        assert!(described || root.attribute("aria-hidden") == Some("true"), "a drawing without a text");
    }
}

#[test]
fn the_page_stands_alone_and_repeats_itself() {
    let comparison = arms(12, 2);
    let page = render(&comparison);
    check(&page);
    assert_eq!(page, render(&comparison));
    let plots = page.matches("class=\"plot\"").count();
    assert_eq!(plots, 3 * 3 + 3 + 3, "three curves and the codes of three series, two sizes and the rate");
    assert_eq!(page.matches("<img").count(), 2 * (1 + 12 * 2));
    for part in [
        "<caption><span>Fidelity</span></caption>",
        "<th scope=\"row\">",
        "<b class=\"best\">27.64</b>",
        "± 0.10</span>",
        "<li>ms_ssim: images under 176 px</li>",
        "<dt>psnr_db</dt>",
        "<meta name=\"viewport\"",
        "[train]\nsteps = 600",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<dt>ms_ssim</dt>"), "what is not shown is not defined");
}

#[test]
fn few_and_many_arms_have_a_page() {
    for (count, seeds) in [(0, 0), (1, 1), (2, 1), (24, 3)] {
        check(&render(&arms(count, seeds)));
    }
}

#[test]
fn names_and_reasons_are_escaped() {
    let evil = "<script>alert('x')</script> & \"quotes\"";
    let mut comparison = arms(3, 1);
    comparison.name = evil.into();
    comparison.base_config = evil.into();
    comparison.protocol.push((evil.into(), evil.into()));
    comparison.arms[0].differences.push(evil.into());
    comparison.arms[1].runs[0].failure = Some(evil.into());
    comparison.arms[1].series = evil.into();
    for arm in &mut comparison.arms {
        arm.name = format!("{evil}{}", arm.name.repeat(9));
    }
    check(&render(&comparison));
}

#[test]
fn what_has_no_tokens_curves_or_figures_is_shown_with_what_it_has() {
    let mut comparison = fixture::comparison(&[
        ("fsq", "fsq", &[figures(0, 256)]),
        ("foreign", "foreign", &[json!({"psnr_db": 30.0, "images": 129})]),
        ("failed", "vq", &[json!({})]),
    ]);
    comparison.arms[1].runs[0].seed = None;
    comparison.arms[1].parameters = None;
    comparison.arms[2].runs[0].failure = Some("non-finite loss at step 12".into());
    let originals = [fixture::picture(5, 7, 0)];
    let foreign = Exhibit { reconstructions: originals.to_vec(), ..Default::default() };
    let exhibits = [fixture::exhibit(&comparison, 0, &originals), foreign, Exhibit::default()];
    let originals = originals.map(|picture| ("a.png".to_owned(), picture));
    let page = html(&comparison, &exhibits, &originals).unwrap();
    assert!(page.contains("<figcaption><b>a.png</b></figcaption>"));
    check(&page);
    assert!(page.contains("<b>failed</b>, seed 0: non-finite loss at step 12"));
    assert!(page.contains("Not logged: foreign, failed."));
    assert!(page.contains("Without tokens: foreign, failed."));
    let bare = html(
        &comparison,
        &[const { Exhibit { curves: vec![], code_counts: vec![], reconstructions: vec![] } }; 3],
        &[],
    );
    let bare = bare.unwrap();
    check(&bare);
    for absent in ["id=\"training\"", "id=\"codes\"", "id=\"pictures\"", "href=\"#pictures\""] {
        assert!(!bare.contains(absent), "{absent}");
    }
}

#[test]
fn what_was_left_out_stands_by_name_and_figures_of_sets_are_marked() {
    let mut comparison = arms(2, 1);
    assert!(!render(&comparison).contains("Left out"));
    comparison.of_own_images = vec!["usage".into()];
    let left_out = BadSample { name: "<c>.png".into(), reason: "its reconstruction: broken PNG".into() };
    comparison.arms[1].runs[0].left_out = vec![left_out];
    comparison.arms[1].runs[0].notes = vec!["it is green".into()];
    let page = render(&comparison);
    check(&page);
    for part in [
        "usage&nbsp;†</th>",
        "<p class=\"caption\">† is over each evaluation&#39;s own images",
        "<p class=\"absent\">Left out:</p>",
        "<li>kind1-8bit, seed 0: &#60;c&#62;.png: its reconstruction: broken PNG</li>",
        "<li>kind1-8bit, seed 0: it is green</li>",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn exhibits_that_do_not_belong_are_refused() {
    let error = html(&arms(3, 1), &[], &[]).unwrap_err().to_string();
    assert!(error.contains("3 arms and 0 exhibits"), "{error}");
}
