//! A run as a picture, in SVG: how far the peers were over time against the bound, and below it how
//! many copies of each group of chunks there were.

use std::fmt::Write;

use super::gauge::Look;
use super::outcome::Outcome;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
const GAP: f64 = 60.0;
/// Curves of the least, the quarters and the most.
const CURVES: [(&str, &str); 5] = [
    ("#c0392b", "last"),
    ("#e59866", "first quarter"),
    ("#1f618d", "median"),
    ("#7fb3d5", "third quarter"),
    ("#1e8449", "first"),
];
/// Colours for copies, from none to everybody's, in equal steps of the logarithm.
const SHADES: [&str; 9] = [
    "#ffffff", "#7f0000", "#d7301f", "#fc8d59", "#fdd49e", "#c7e9b4", "#7fcdbb", "#2c7fb8",
    "#253494",
];

/// The text of the picture.
pub fn picture(title: &str, outcome: &Outcome) -> String {
    let mut svg = String::new();
    let (right, bottom) = (LEFT + WIDTH + 30.0, TOP + 2.0 * HEIGHT + GAP + 70.0);
    line(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right}\" height=\"{bottom}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">"
        ),
    );
    line(
        &mut svg,
        format_args!("<rect width=\"{right}\" height=\"{bottom}\" fill=\"#fff\"/>"),
    );
    text(&mut svg, (16.0, 24.0), &escape(title));
    let scale = Scale::of(outcome);
    curves(&mut svg, outcome, &scale);
    map(&mut svg, outcome, &scale);
    svg.push_str("</svg>\n");
    svg
}

/// Time to the right.
struct Scale {
    end: f64,
}

impl Scale {
    fn of(outcome: &Outcome) -> Scale {
        let last = outcome
            .looks
            .last()
            .map_or(0.0, |look| look.at.as_secs_f64());
        Scale {
            end: last.max(outcome.bound.limit().as_secs_f64()).max(1e-9),
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + WIDTH * seconds / self.end
    }
}

fn curves(svg: &mut String, outcome: &Outcome, scale: &Scale) {
    let y = |part: f64| TOP + HEIGHT * (1.0 - part);
    line(
        svg,
        format_args!(
            "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#999\"/>"
        ),
    );
    for (part, label) in [(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")] {
        text(svg, (16.0, y(part) + 4.0), label);
    }
    let limit = scale.x(outcome.bound.limit().as_secs_f64());
    line(
        svg,
        format_args!(
            "<path d=\"M{LEFT} {} L{limit:.1} {TOP} V{}\" fill=\"none\" stroke=\"#555\" stroke-dasharray=\"5 4\"/>",
            y(0.0),
            y(0.0)
        ),
    );
    for (at, (colour, _)) in CURVES.iter().enumerate() {
        let mut points = String::new();
        for Look {
            at: time, progress, ..
        } in &outcome.looks
        {
            let (x, y) = (scale.x(time.as_secs_f64()), y(progress[at]));
            line(&mut points, format_args!("{x:.1},{y:.1}"));
        }
        line(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                points.trim_end()
            ),
        );
    }
    legend(
        svg,
        TOP + HEIGHT + 20.0,
        CURVES.iter().copied().chain([("#555", "bound")]),
        110.0,
    );
}

/// Groups of chunks from top to bottom.
fn map(svg: &mut String, outcome: &Outcome, scale: &Scale) {
    let top = TOP + HEIGHT + GAP;
    let groups = outcome.looks.first().map_or(0, |look| look.copies.len());
    let most = outcome
        .looks
        .iter()
        .flat_map(|look| &look.copies)
        .fold(1.0, |a: f32, b| a.max(*b));
    let height = HEIGHT / groups.max(1) as f64;
    for group in 0..groups {
        let y = top + height * group as f64;
        for (from, to, shade) in runs(&outcome.looks, group, most) {
            let (from, to) = (scale.x(from), scale.x(to));
            line(
                svg,
                format_args!(
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                    to - from,
                    height + 0.3,
                    SHADES[shade]
                ),
            );
        }
    }
    text(svg, (16.0, top + 12.0), "chunks");
    let times = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| part * scale.end);
    for time in times {
        text(
            svg,
            (scale.x(time) - 12.0, top + HEIGHT + 16.0),
            &format!("{time:.1} s"),
        );
    }
    let labels = (0..SHADES.len()).map(|shade| copies(shade, most));
    let labels: Vec<String> = labels.collect();
    let entries = SHADES
        .iter()
        .copied()
        .zip(labels.iter().map(String::as_str));
    legend(svg, top + HEIGHT + 34.0, entries, 84.0);
}

/// From when to when a group has one shade.
fn runs(looks: &[Look], group: usize, most: f32) -> Vec<(f64, f64, usize)> {
    let mut runs: Vec<(f64, f64, usize)> = Vec::new();
    for pair in looks.windows(2) {
        let shade = shade(pair[0].copies[group], most);
        let [from, to] = [0, 1].map(|at: usize| pair[at].at.as_secs_f64());
        match runs.last_mut() {
            Some(run) if run.2 == shade => run.1 = to,
            _ => runs.push((from, to, shade)),
        }
    }
    runs
}

/// Which shade so many copies have.
fn shade(copies: f32, most: f32) -> usize {
    let steps = (SHADES.len() - 2) as f32;
    if copies <= 0.0 {
        return 0;
    }
    let part = copies.max(1.0).ln() / most.max(2.0).ln();
    1 + (part * steps).floor().min(steps) as usize
}

/// The least copies with a shade, in words.
fn copies(shade: usize, most: f32) -> String {
    let steps = (SHADES.len() - 2) as f32;
    match shade {
        0 => "no copy".to_owned(),
        1 => "1".to_owned(),
        _ => format!("{:.0}", most.max(2.0).powf((shade - 1) as f32 / steps)),
    }
}

fn legend<'a>(
    svg: &mut String,
    y: f64,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
    step: f64,
) {
    let mut x = LEFT;
    for (colour, label) in entries {
        line(
            svg,
            format_args!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"10\" fill=\"{colour}\" stroke=\"#999\"/>"
            ),
        );
        text(svg, (x + 19.0, y + 9.0), label);
        x += step;
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), words: &str) {
    line(
        svg,
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"),
    );
}

fn line(svg: &mut String, words: std::fmt::Arguments<'_>) {
    let written = writeln!(svg, "{words}");
    debug_assert!(written.is_ok(), "a string takes everything");
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Scenario, run};
    use super::*;

    #[test]
    fn more_copies_are_a_higher_shade_and_none_is_white() {
        let shades: Vec<usize> = [0.0, 0.5, 1.0, 3.0, 10.0, 100.0, 1000.0]
            .iter()
            .map(|copies| shade(*copies, 1000.0))
            .collect();
        assert_eq!(shades, [0, 1, 1, 2, 3, 5, 8]);
    }

    /// Of each element with this name, what an attribute of it says.
    fn attributes<'a>(svg: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
        let elements = svg.split('<').filter(|it| it.starts_with(element));
        let (start, end) = (format!(" {attribute}=\""), '"');
        let value = |it: &'a str| it.split_once(&start)?.1.split(end).next();
        elements.filter_map(value).collect()
    }

    fn number(text: &str) -> f64 {
        text.parse().unwrap()
    }

    /// A picture of a small run, and what it shows.
    fn drawn() -> (String, Outcome) {
        let scenario = Scenario::named("eight").unwrap();
        let outcome = run(&scenario.plan(1, 3, 70, 65_536));
        (picture("<eight> & more", &outcome), outcome)
    }

    #[test]
    fn a_picture_has_a_curve_of_each_kind_from_nothing_to_everything() {
        let (svg, outcome) = drawn();
        let curves = attributes(&svg, "polyline", "points");
        let colours = attributes(&svg, "polyline", "stroke");
        assert_eq!(colours, CURVES.map(|(colour, _)| colour));
        for points in curves {
            let points = points.split_whitespace().map(|point| point.split_once(','));
            let points = points.map(|point| point.map(|(x, y)| (number(x), number(y))));
            let points: Vec<(f64, f64)> = points.collect::<Option<_>>().unwrap();
            assert_eq!(points.len(), outcome.looks.len());
            let is_onward = |pair: &[(f64, f64)]| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1;
            assert!(points.windows(2).all(is_onward), "{points:?}");
            assert_eq!(points[0], (LEFT, TOP + HEIGHT));
            assert_eq!(points.last(), Some(&(LEFT + WIDTH, TOP)));
        }
        for (_, label) in CURVES {
            assert!(svg.contains(&format!(">{label}</text>")));
        }
    }

    #[test]
    fn the_bound_is_dashed_and_rises_to_where_its_time_is() {
        let (svg, outcome) = drawn();
        let dashed = svg.lines().filter(|line| line.contains("stroke-dasharray"));
        let [path] = dashed.collect::<Vec<_>>()[..] else {
            panic!("{svg}");
        };
        let part = 1.0 / outcome.last_ratio();
        let ends = Scale::of(&outcome).x(outcome.bound.limit().as_secs_f64());
        assert!(
            (ends - (LEFT + WIDTH * part)).abs() < 0.01 * WIDTH,
            "{ends}"
        );
        let (y, d) = (TOP + HEIGHT, attributes(path, "path", "d"));
        assert_eq!(d, [format!("M{LEFT} {y} L{ends:.1} {TOP} V{y}")]);
    }

    #[test]
    fn each_group_of_chunks_has_a_row_of_rectangles_without_a_gap() {
        let (svg, outcome) = drawn();
        let groups = outcome.looks[0].copies.len();
        assert!((30..=64).contains(&groups), "{groups}");
        let (top, height) = (TOP + HEIGHT + GAP, HEIGHT / groups as f64);
        for group in 0..groups {
            let y = format!(" y=\"{:.1}\"", top + height * group as f64);
            let row: String = svg.lines().filter(|line| line.contains(&y)).collect();
            let [x, width] = ["x", "width"].map(|name| attributes(&row, "rect", name));
            let mut end = LEFT;
            for (x, width) in x.into_iter().zip(width) {
                assert!(
                    (number(x) - end).abs() < 0.2,
                    "a gap in group {group}: {row}"
                );
                end = number(x) + number(width);
            }
            assert!(
                (end - (LEFT + WIDTH)).abs() < 0.2,
                "group {group} ends at {end}"
            );
            let fills = attributes(&row, "rect", "fill");
            let shade = |fill: &&str| SHADES.iter().position(|it| it == fill);
            let shades: Option<Vec<usize>> = fills.iter().map(shade).collect();
            let shades = shades.unwrap();
            assert_eq!(shades[0], 1, "the seed's copy alone: {row}");
            assert!(
                shades.len() > 1 && shades.is_sorted(),
                "ever more copies: {row}"
            );
        }
        assert!(svg.ends_with("</svg>\n") && svg.contains("&lt;eight&gt; &amp; more"));
    }

    #[test]
    fn equal_shades_are_joined_and_no_time_is_left_out() {
        let look = |at, copies| Look {
            at: Duration::from_secs(at),
            progress: [0.0; 5],
            leeches_up: 0.0,
            seeds_up: 0.0,
            copies: vec![copies],
        };
        let looks = [
            look(0, 0.0),
            look(1, 1.0),
            look(2, 1.0),
            look(3, 100.0),
            look(5, 1.0),
        ];
        assert_eq!(
            runs(&looks, 0, 100.0),
            [(0.0, 1.0, 0), (1.0, 3.0, 1), (3.0, 5.0, 8)]
        );
    }
}
