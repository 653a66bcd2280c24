//! A frame with two axes, and the elements drawn in it.

use std::fmt::Write as _;

use askama::filters::{Html, escape};

use super::axis::Axis;
use super::labels;

/// The width of every plot in its own units. The page shows it at about as many pixels, so that
/// texts keep their size.
pub(crate) const WIDTH: f64 = 370.0;
/// The height of the frame. It grows if the labels beside it need more.
const HEIGHT: f64 = 190.0;
/// The space above the frame for the title of the y axis. Below it are the texts of the ticks and
/// the title of the x axis.
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;
/// The distance between the lines of two labels.
const LINE: f64 = 13.0;
/// The distance between the frame and the labels beside it.
const GAP: f64 = 16.0;
/// The approximate width of a character. Texts are short, and no label touches the frame at its
/// end.
const CHARACTER: f64 = 6.2;
/// In a longer label, the middle is replaced by an ellipsis.
const LONGEST: usize = 17;

/// A name beside the frame, at the height of the end of its line.
pub(crate) struct Label {
    /// The end of the line.
    pub at: (f64, f64),
    pub text: String,
    pub colour: String,
}

/// The style of a line.
#[derive(Clone, Copy)]
pub(crate) struct Stroke<'a> {
    pub colour: &'a str,
    /// The dashes as SVG's `stroke-dasharray`; empty for a solid line.
    pub dash: &'a str,
    pub width: f64,
}

/// A plot that is being drawn.
pub(crate) struct Canvas<'a> {
    x: &'a Axis,
    y: &'a Axis,
    left: f64,
    right: f64,
    height: f64,
    body: String,
}

impl<'a> Canvas<'a> {
    /// An empty frame, with space for labels as long and as many as the longest lists in `labels`.
    /// Plots side by side pass the same lists, so that their frames are equal.
    pub(crate) fn new<'l>(x: &'a Axis, y: &'a Axis, labels: impl Iterator<Item = Vec<&'l str>>) -> Self {
        let (mut longest, mut most) = (0, 0);
        for list in labels {
            longest = list.iter().map(|text| text.chars().count().min(LONGEST)).fold(longest, usize::max);
            most = most.max(list.len());
        }
        let ticks = y.ticks().iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let left = 10.0 + CHARACTER * ticks as f64;
        let right = WIDTH - GAP - CHARACTER * longest as f64;
        Self { x, y, left, right, height: HEIGHT.max(LINE * most as f64), body: String::new() }
    }

    /// Draws grid, ticks and a title for each axis.
    pub(crate) fn axes(&mut self, x_title: &str, y_title: &str) {
        let (left, right, bottom) = (self.left, self.right, TOP + self.height);
        self.body += "<g class=\"axes\">";
        for (value, text) in self.y.ticks() {
            let y = self.at_y(*value);
            let _ = write!(self.body, "<path d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
            let _ = write!(
                self.body,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for (value, text) in self.x.ticks() {
            let x = self.at_x(*value);
            let _ = write!(self.body, "<path d=\"M{x:.1} {bottom:.1}v4\"/>");
            let _ = write!(
                self.body,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(self.body, "<path class=\"base\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>");
        let _ = write!(self.body, "<text x=\"0\" y=\"11\">{}</text>", text(y_title));
        let _ = write!(
            self.body,
            "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></g>",
            bottom + 31.0,
            text(x_title)
        );
    }

    /// Draws a line through `points`, or a dot if there is only one, with a tooltip.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], stroke: Stroke<'_>, tooltip: &str) {
        let Stroke { colour, dash, width } = stroke;
        match self.visible(points)[..] {
            [] => {}
            [(x, y)] => {
                let _ = write!(
                    self.body,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"{colour}\">{}</circle>",
                    width + 1.0,
                    title(tooltip)
                );
            }
            _ => {
                let dash =
                    if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
                let _ = write!(
                    self.body,
                    "<path class=\"line\" d=\"{}\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}>{}</path>",
                    self.path(points),
                    title(tooltip)
                );
            }
        }
    }

    /// Draws the area between the lower and the upper value of `(x, lower, upper)`.
    pub(crate) fn band(&mut self, points: &[(f64, f64, f64)], colour: &str) {
        let upper = points.iter().map(|&(x, _, high)| (x, high));
        let around: Vec<_> = upper.chain(points.iter().rev().map(|&(x, low, _)| (x, low))).collect();
        if points.len() > 1 {
            let _ =
                write!(self.body, "<path class=\"band\" d=\"{}Z\" fill=\"{colour}\"/>", self.path(&around));
        }
    }

    /// Draws a shape (a path around its own origin) at a point, with a tooltip.
    pub(crate) fn marker(&mut self, at: (f64, f64), shape: &str, attributes: &str, tooltip: &str) {
        for (x, y) in self.visible(&[at]) {
            let _ = write!(
                self.body,
                "<path d=\"{shape}\" transform=\"translate({x:.1} {y:.1})\" {attributes}>{}</path>",
                title(tooltip)
            );
        }
    }

    /// Adds an SVG element unchanged.
    pub(crate) fn element(&mut self, element: &str) {
        self.body += element;
    }

    /// Draws names beside the frame, moved apart if they would overlap.
    pub(crate) fn labels(&mut self, labels: &[Label]) {
        let labels: Vec<_> = labels.iter().filter(|label| !self.visible(&[label.at]).is_empty()).collect();
        let ends: Vec<_> =
            labels.iter().map(|label| (self.at_x(label.at.0), self.at_y(label.at.1))).collect();
        let heights: Vec<f64> = ends.iter().map(|end| end.1).collect();
        let spread = labels::spread(&heights, LINE, TOP, TOP + self.height);
        for ((label, end), y) in labels.into_iter().zip(ends).zip(spread) {
            let (x, colour) = (self.right + GAP, &label.colour);
            if (y - end.1).abs() > 3.0 || self.right - end.0 > GAP {
                let (from, to) = (end.0 + 4.0, x - 3.0);
                let _ = write!(
                    self.body,
                    "<path class=\"leader\" d=\"M{from:.1} {:.1}L{to:.1} {y:.1}\"/>",
                    end.1
                );
            }
            let _ = write!(
                self.body,
                "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\">",
                y + 4.0
            );
            let _ = write!(self.body, "{}</text>", elided(&label.text));
        }
    }

    /// The `d` attribute of a path through `points`, without those that the axes cannot show.
    pub(crate) fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (at, (x, y)) in self.visible(points).into_iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
        }
        path
    }

    /// The height of the whole drawing, in its own units.
    pub(crate) fn height(&self) -> f64 {
        TOP + self.height + BOTTOM
    }

    /// The finished drawing; `alt` describes it in words.
    pub(crate) fn finish(self, alt: &str) -> String {
        let height = self.height();
        let alt = text(alt);
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{alt}\">{}</svg>",
            self.body
        )
    }

    fn visible(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let shown = points.iter().filter(|(x, y)| self.x.takes(*x) && self.y.takes(*y));
        shown.map(|&(x, y)| (self.at_x(x), self.at_y(y))).collect()
    }

    fn at_x(&self, value: f64) -> f64 {
        self.left + self.x.position(value) * (self.right - self.left)
    }

    fn at_y(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.position(value)) * self.height
    }
}

/// A label, shortened in the middle if it is too long, because names often differ at their ends.
/// Its tooltip has the full text.
fn elided(label: &str) -> String {
    let characters: Vec<char> = label.chars().collect();
    if characters.len() <= LONGEST {
        return text(label);
    }
    let kept = LONGEST - 1;
    let (start, end) = (&characters[..kept / 2], &characters[characters.len() - kept.div_ceil(2)..]);
    let short: String = start.iter().chain(&['…']).chain(end).collect();
    text(&short) + &title(label)
}

fn title(tooltip: &str) -> String {
    if tooltip.is_empty() { String::new() } else { format!("<title>{}</title>", text(tooltip)) }
}

/// Escapes `words` for the text of an element or the value of an attribute.
pub(crate) fn text(words: &str) -> String {
    // XML allows no control characters, not even escaped ones.
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    escape(&words, Html).map(|escaped| escaped.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: [f64; 2]) -> Axis {
        Axis::linear(values.into_iter()).unwrap()
    }

    #[test]
    fn a_drawing_is_well_formed_whatever_its_texts_are() {
        let (x, y) = (axis([0.0, 4.0]), Axis::decades([0.01, 1.0].into_iter()).unwrap());
        let name = "<b> & \"c\" 'd'\u{7}, and much longer than any label";
        let mut canvas = Canvas::new(&x, &y, [vec![name]].into_iter());
        canvas.axes("a < b", "c & d");
        let stroke = Stroke { colour: "#123456", dash: "4 2", width: 1.5 };
        canvas.line(&[(0.0, 0.5), (1.0, f64::NAN), (2.0, -1.0), (3.0, 0.1)], stroke, name);
        canvas.line(&[(2.0, 0.2)], stroke, name);
        canvas.line(&[], stroke, name);
        canvas.band(&[(0.0, 0.1, 0.2), (1.0, 0.2, 0.3)], "#123456");
        canvas.marker((f64::NAN, 0.1), "M0 0h1", "fill=\"red\"", name);
        canvas.labels(&[Label { at: (3.0, 0.1), text: name.into(), colour: "#123456".into() }]);
        let svg = canvas.finish(name);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let alt = document.root_element().attribute("aria-label").unwrap();
        assert_eq!(alt, name.replace('\u{7}', " "));
        let lines: Vec<_> =
            document.descendants().filter(|node| node.attribute("class") == Some("line")).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            lines[0].attribute("d").unwrap().matches('L').count(),
            1,
            "what cannot be shown is left out"
        );
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn many_labels_make_a_higher_frame_that_holds_them() {
        let (x, y) = (axis([0.0, 1.0]), axis([0.0, 1.0]));
        let names = vec!["arm"; 24];
        let mut canvas = Canvas::new(&x, &y, [names.clone()].into_iter());
        let label = |_| Label { at: (1.0, 0.0), text: "arm".into(), colour: "#000".into() };
        canvas.labels(&names.iter().map(label).collect::<Vec<_>>());
        let svg = canvas.finish("");
        let document = roxmltree::Document::parse(&svg).unwrap();
        let heights: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name("text"))
            .map(|node| node.attribute("y").unwrap().parse().unwrap())
            .collect();
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] > LINE - 0.2));
        assert!(heights[0] > 0.0 && heights[23] < TOP + LINE * 24.0 + BOTTOM);
    }
}
