//! Plots as SVG: bars in groups, one group for each workload.

use std::fmt::Write;

use super::markdown::thousands;
use crate::compare::figures::{Figure, Figures};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 60.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;

/// A colour for each server in its order; far apart also for those who see no red or green (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#999999",
];

/// Bars that belong together.
pub struct Group {
    /// What stands beside them.
    pub label: String,
    /// The number of the server, and the value.
    pub bars: Vec<(usize, f64)>,
}

/// The plots of a run: the name of a file, a title, and the picture.
#[must_use]
pub fn all(figures: &Figures) -> Vec<(String, String, String)> {
    let mut depths: Vec<usize> = figures.points().iter().map(|it| it.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    let mut plots = Vec::new();
    for depth in depths {
        let kinds: [(&str, &str, Figure, usize); 2] = [
            (
                "throughput",
                "requests a second, beside the most of each workload",
                |it| it.rate,
                0,
            ),
            (
                "cpu",
                "µs of the server's CPU per request, beside the most of each workload",
                |it| it.cpu_us,
                2,
            ),
        ];
        for (name, what, figure, digits) in kinds {
            let title = format!("Pipeline {depth}: {what}");
            let svg = bars(
                &title,
                &figures.systems(),
                &groups(figures, depth, figure),
                digits,
            );
            plots.push((format!("{name}-{depth}.svg"), title, svg));
        }
    }
    plots
}

fn groups(figures: &Figures, depth: usize, figure: Figure) -> Vec<Group> {
    let systems = figures.systems();
    let points = figures.points().into_iter().filter(|it| it.depth == depth);
    let group = |point: crate::compare::figures::Point| {
        let bar = |(number, system): (usize, &&str)| {
            let spread = figures.cell(point, system)?.spread(figure)?;
            Some((number, spread.median))
        };
        Group {
            label: format!("{}, {}", point.workload, point.durability.name()),
            bars: systems.iter().enumerate().filter_map(bar).collect(),
        }
    };
    points.map(group).collect()
}

/// Groups of bars. Each group has a scale of its own, since workloads differ by a thousand times; the value stands behind the bar.
#[must_use]
pub fn bars(title: &str, systems: &[&str], groups: &[Group], digits: usize) -> String {
    let rows: f64 = groups
        .iter()
        .map(|it| it.bars.len() as f64 * BAR + GAP)
        .sum();
    let height = TOP + rows + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    legend(&mut svg, systems);
    let mut y = TOP;
    for group in groups {
        let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.0;
        let label = escaped(&group.label);
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0
        );
        let most = group
            .bars
            .iter()
            .map(|it| it.1)
            .fold(f64::MIN_POSITIVE, f64::max);
        for (number, value) in &group.bars {
            let width = value / most * (WIDTH - LEFT - RIGHT);
            let text = if digits == 0 {
                thousands(*value)
            } else {
                format!("{value:.digits$}")
            };
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{text}</text>",
                BAR - 2.0,
                colour(*number),
                LEFT + width + 4.0,
                y + BAR - 4.0,
            );
            y += BAR;
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String, systems: &[&str]) {
    for (number, system) in systems.iter().enumerate() {
        let x = LEFT + number as f64 * 110.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"41\">{}</text>",
            colour(number),
            x + 14.0,
            escaped(system)
        );
    }
}

pub(crate) fn colour(number: usize) -> &'static str {
    COLOURS
        .get(number % COLOURS.len())
        .copied()
        .unwrap_or("#000000")
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_say() {
        let group = Group {
            label: "a < b & c".to_owned(),
            bars: vec![(0, 500.0), (1, 1000.0)],
        };
        let svg = bars("title", &["luge", "redis"], &[group], 0);
        assert!(svg.contains("a &lt; b &amp; c"));
        assert!(svg.contains("width=\"310.0\""), "{svg}");
        assert!(svg.contains("width=\"620.0\""), "{svg}");
        assert!(svg.contains(">1,000</text>"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        let group = Group {
            label: "none".to_owned(),
            bars: vec![(0, 0.0)],
        };
        assert!(!bars("title", &["luge"], &[group], 2).contains("NaN"));
    }
}
