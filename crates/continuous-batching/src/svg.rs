//! Drawing: just enough SVG for charts, in colours that suit light and dark backgrounds.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// A drawing in progress.
#[derive(Debug)]
pub struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text is anchored.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The colour of a series or of a piece of work. Text has the ink of the style; axes and grid lines
/// are fainter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Blue,
    Orange,
    Green,
    Purple,
    Red,
    Grey,
}

/// The frame of a chart: a rectangle of the drawing, and the numbers at its edges.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

/// The styles; the second half is for dark backgrounds, if the viewer prefers them.
const STYLE: &str = "\
text{font-family:Inter,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;fill:#2b3038}
.paper{fill:#ffffff}.title{font-size:30px;font-weight:600}.head{font-size:20px;font-weight:600}
.label{font-size:17px}.faint{fill:#6b7480}.on{fill:#ffffff}.small{font-size:15px}
.grid{stroke:#e3e6ea;stroke-width:1}.axis{stroke:#9aa2ad;stroke-width:1.5}.limit{stroke:#6b7480;stroke-width:1.5;stroke-dasharray:6 5}
.line{fill:none;stroke-width:2.5;stroke-linejoin:round}.wide{fill:none;stroke-width:6;opacity:.55}.band{stroke:none;opacity:.2}.pale{opacity:.28}
.blue{stroke:#3a76c4}.orange{stroke:#d9822b}.green{stroke:#2f9e77}.purple{stroke:#8a63c9}.red{stroke:#c8524f}.grey{stroke:#8f98a3}
.f-blue{fill:#3a76c4}.f-orange{fill:#d9822b}.f-green{fill:#2f9e77}.f-purple{fill:#8a63c9}.f-red{fill:#c8524f}.f-grey{fill:#8f98a3}
@media (prefers-color-scheme:dark){text{fill:#e4e7eb}.paper{fill:#16191d}.faint{fill:#9aa2ad}.on{fill:#ffffff}.grid{stroke:#2d3239}.axis{stroke:#6b7480}}
";

impl Drawing {
    /// An empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        let mut drawing = Self { body: String::new(), width, height };
        drawing.put(format_args!("<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>"));
        drawing
    }

    /// The document.
    pub fn finish(self, title: &str) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n{body}</svg>\n",
            Escaped(title)
        )
    }

    pub fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Escaped(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
    }

    pub fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), hint: Option<&str>) {
        let ((x, y), (w, h)) = (corner, size);
        let shape = format!("<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{w:.2}\" height=\"{h:.1}\"");
        match hint {
            Some(hint) => self.put(format_args!("{shape}><title>{}</title></rect>", Escaped(hint))),
            None => self.put(format_args!("{shape}/>")),
        }
    }

    /// A line through `points`, which are numbers of `frame`.
    pub fn series(&mut self, frame: &Frame, colour: Colour, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let path = path(points.map(|point| frame.at(point)));
        self.put(format_args!("<path class=\"{class} {}\" d=\"{path}\"/>", colour.name()));
    }

    /// The area between two lines: `(x, low, high)`.
    pub fn band(&mut self, frame: &Frame, colour: Colour, points: &[(f64, f64, f64)]) {
        let low = points.iter().map(|&(x, low, _)| frame.at((x, low)));
        let high = points.iter().rev().map(|&(x, _, high)| frame.at((x, high)));
        let path = path(low.chain(high));
        self.put(format_args!("<path class=\"band f-{}\" d=\"{path}Z\"/>", colour.name()));
    }

    /// Axes with a few ticks, which the caller labels.
    pub fn axes(&mut self, frame: &Frame, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)], x_title: &str) {
        let (left, right) = (frame.left, frame.left + frame.width);
        let bottom = frame.top + frame.height;
        for (value, label) in y_ticks {
            let (_, y) = frame.at((frame.x.0, *value));
            self.line("grid", (left, y), (right, y));
            self.text("label faint", left - 10.0, y + 6.0, Anchor::End, label);
        }
        for (value, label) in x_ticks {
            let (x, _) = frame.at((*value, frame.y.0));
            self.line("axis", (x, bottom), (x, bottom + 6.0));
            self.text("label faint", x, bottom + 25.0, Anchor::Middle, label);
        }
        self.line("axis", (left, bottom), (right, bottom));
        self.text("label faint", f64::midpoint(left, right), bottom + 48.0, Anchor::Middle, x_title);
    }

    /// Swatches with words, from left to right.
    pub fn legend(&mut self, mut x: f64, y: f64, entries: &[(Colour, &str, &str)]) {
        for (colour, class, words) in entries {
            self.rect(&format!("f-{} {class}", colour.name()), (x, y - 12.0), (15.0, 13.0), None);
            self.text("small", x + 21.0, y, Anchor::Start, words);
            // The approximate width of the words in a proportional font.
            x += words.chars().fold(21.0 + 18.0, |x, _| x + 7.9);
        }
    }

    fn put(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

impl Frame {
    /// The position of a pair of numbers.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| if high > low { (value - low) / (high - low) } else { 0.5 };
        let (x, y) = (share(x, self.x), share(y, self.y).clamp(0.0, 1.0));
        (self.left + x * self.width, self.top + (1.0 - y) * self.height)
    }
}

impl Colour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Orange => "orange",
            Self::Green => "green",
            Self::Purple => "purple",
            Self::Red => "red",
            Self::Grey => "grey",
        }
    }
}

/// Round numbers from 0 to `most` or a little beyond it, at most `count` steps.
pub fn ticks(most: f64, count: u32) -> Vec<f64> {
    let rough = (most / f64::from(count)).max(1e-9);
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * decade).find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let steps = (0..=count).map(|i| f64::from(i) * step);
    steps.take_while(|value| *value < most + step * 0.999).collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.enumerate() {
        // Writing to a string does not fail.
        let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    path
}

/// Text with XML's special characters escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round_and_reach_the_largest_value() {
        assert_eq!(ticks(100.0, 4), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(163.0, 4), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(ticks(7.0, 4), [0.0, 2.0, 4.0, 6.0, 8.0]);
        for most in [0.0, 1.0, 3.0, 999.0, 35_572.0, 1e9] {
            let ticks = ticks(most, 5);
            assert!(ticks.len() <= 6 && ticks.last().unwrap() >= &most, "{most}: {ticks:?}");
        }
    }

    #[test]
    fn text_is_escaped_and_the_edges_of_a_frame_are_its_numbers() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text("label", 0.0, 0.0, Anchor::Start, "a < b & \"c\"");
        assert!(drawing.finish("<t>").contains(">a &lt; b &amp; &quot;c&quot;</text>"));
        let frame = Frame { left: 10.0, top: 20.0, width: 100.0, height: 50.0, x: (0.0, 4.0), y: (0.0, 2.0) };
        assert_eq!((frame.at((0.0, 0.0)), frame.at((4.0, 2.0))), ((10.0, 70.0), (110.0, 20.0)));
        assert_eq!(frame.at((2.0, 9.0)), (60.0, 20.0), "too large is at the edge");
    }
}
