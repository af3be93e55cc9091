//! A sweep as SVG: a panel for throughput, one for p99, and others, with the same horizontal axis.

use std::fmt::Write;

use super::growth::{Growth, Spot};
use super::sweep::Sweep;
use crate::compare::report::markdown::thousands;
use crate::compare::report::plot::{colour, escaped};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
/// Panels beside one another.
const COLUMNS: usize = 3;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 34.0;
const HEAD: f64 = 46.0;

/// Ticks stand no closer than this.
const TICK_GAP: f64 = 46.0;

/// An axis is logarithmic where its greatest value is so many times its least.
const WIDE: f64 = 8.0;

/// What one panel shows of a point.
type Figure<'a> = Box<dyn Fn(&Spot) -> Option<f64> + 'a>;

/// The picture of a sweep.
#[must_use]
pub fn picture(growth: &Growth) -> String {
    let panels = panels(growth);
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (whole(columns) * WIDTH, HEAD + whole(rows) * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"18\" font-size=\"13\">By {}</text>\n",
        growth.sweep.axis()
    );
    legend(&mut svg, growth);
    for (number, (title, figure)) in panels.iter().enumerate() {
        let x = whole(number % COLUMNS) * WIDTH;
        let y = HEAD + whole(number / COLUMNS) * HEIGHT;
        let _ = writeln!(svg, "<g transform=\"translate({x:.0} {y:.0})\">");
        panel(&mut svg, growth, title, figure);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

fn panels(growth: &Growth) -> Vec<(&'static str, Figure<'static>)> {
    let mut panels: Vec<(&'static str, Figure<'static>)> = vec![
        ("requests a second", Box::new(|it| Some(it.sample.rate))),
        ("p99, µs", Box::new(|it| Some(it.sample.p99_us))),
    ];
    if growth.sweep.shows_memory() {
        panels.push(("resident set, MiB", Box::new(|it| Some(mebibytes(it)))));
    }
    for name in growth.more() {
        panels.push((name, Box::new(move |it| it.one_more(name))));
    }
    panels
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process has less than 2^53 bytes"
)]
pub(super) fn mebibytes(spot: &Spot) -> f64 {
    spot.resident_bytes as f64 / f64::from(1 << 20)
}

/// Where a value lies on an axis, from 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Scale {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From the least to the greatest of these.
    fn across(points: &[u64], is_logarithmic: bool) -> Self {
        let ends = [points.first(), points.last()];
        let [from, to] = ends.map(|it| position(it.copied().unwrap_or(1)));
        Self {
            from,
            to,
            is_logarithmic,
        }
    }

    /// Room for all of these: whole decades where they differ much, and else from zero.
    fn up(values: &[f64]) -> Self {
        let above_zero = || values.iter().copied().filter(|it| *it > 0.0);
        let most = above_zero().fold(f64::MIN_POSITIVE, f64::max);
        let least = above_zero().fold(f64::MAX, f64::min);
        match most > WIDE * least && above_zero().count() == values.len() {
            true => Self {
                from: 10_f64.powf(least.log10().floor()),
                to: 10_f64.powf(most.log10().ceil()),
                is_logarithmic: true,
            },
            false => Self {
                from: 0.0,
                to: rounded_up(most),
                is_logarithmic: false,
            },
        }
    }

    fn place(self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.5
        }
    }

    fn ticks(self) -> Vec<f64> {
        if !self.is_logarithmic {
            return (0..5).map(|it| self.to * f64::from(it) / 4.0).collect();
        }
        let powers = std::iter::successors(Some(self.from), |it| Some(it * 10.0));
        // What was multiplied has lost its last bits.
        powers.take_while(|it| *it < self.to * 1.001).collect()
    }
}

/// The next of 1, 2, 4 and 8 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    let found = steps.into_iter().find(|it| it * power >= value);
    found.unwrap_or(10.0) * power
}

fn panel(svg: &mut String, growth: &Growth, title: &str, figure: &Figure<'_>) {
    let points = points(growth);
    let across = Scale::across(&points, growth.sweep.is_logarithmic());
    let spots = growth.curves.iter().flat_map(|it| &it.spots);
    let values: Vec<f64> = spots.filter_map(figure).collect();
    let up = Scale::up(&values);
    let x = |at: u64| LEFT + across.place(position(at)) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - up.place(value) * (HEIGHT - TOP - BOTTOM);
    let title = escaped(title);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"16\" font-size=\"11\">{title}</text>"
    );
    for tick in up.ticks() {
        let (at, right) = (y(tick), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 5.0,
            at + 3.5,
            short(tick)
        );
    }
    ticks_across(svg, growth.sweep, &points, &x);
    for (number, curve) in growth.curves.iter().enumerate() {
        let line = curve
            .spots
            .iter()
            .filter_map(|it| Some((x(it.at), y(figure(it)?))));
        trace(svg, &line.collect::<Vec<_>>(), colour(number));
    }
}

/// All points that any curve has.
fn points(growth: &Growth) -> Vec<u64> {
    let spots = growth.curves.iter().flat_map(|it| &it.spots);
    let mut points: Vec<u64> = spots.map(|it| it.at).collect();
    points.sort_unstable();
    points.dedup();
    points
}

fn ticks_across(svg: &mut String, sweep: Sweep, points: &[u64], x: &impl Fn(u64) -> f64) {
    let mut last = f64::MIN;
    for at in points {
        let place = x(*at);
        if place - last < TICK_GAP {
            continue;
        }
        last = place;
        let _ = writeln!(
            svg,
            "<text x=\"{place:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM + 14.0,
            tick(sweep, *at)
        );
    }
}

fn trace(svg: &mut String, line: &[(f64, f64)], colour: &str) {
    let joined: Vec<String> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
        joined.join(" ")
    );
    for (x, y) in line {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\" fill=\"{colour}\"/>"
        );
    }
}

fn legend(svg: &mut String, growth: &Growth) {
    let mut x = 12.0;
    for (number, curve) in growth.curves.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"37\">{}</text>",
            colour(number),
            x + 14.0,
            escaped(curve.name)
        );
        x += 40.0 + whole(curve.name.len()) * 5.2;
    }
}

fn tick(sweep: Sweep, at: u64) -> String {
    match sweep {
        Sweep::ValueSize | Sweep::Contention => sweep.label(at),
        _ => short(position(at)),
    }
}

/// A number in a few letters.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        it if it >= 1e6 => (it / 1e6, "M"),
        it if it >= 1e4 => (it / 1e3, "k"),
        it => (it, ""),
    };
    match value {
        it if it >= 10.0 || (it - it.round()).abs() < 1e-9 => thousands(it) + unit,
        it if it >= 1.0 => format!("{it:.1}{unit}"),
        it => format!("{it:.3}").trim_end_matches('0').to_owned() + unit,
    }
}

#[expect(clippy::cast_precision_loss, reason = "points lie far below 2^53")]
const fn position(at: u64) -> f64 {
    at as f64
}

#[expect(clippy::cast_precision_loss, reason = "a picture has a few panels")]
const fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::growth::spot;
    use super::*;

    #[test]
    fn a_scale_is_logarithmic_where_values_differ_much() {
        let wide = Scale::up(&[30.0, 2_000.0]);
        assert!(wide.is_logarithmic);
        assert_eq!(wide.ticks().len(), 4);
        assert!((wide.place(1_000.0) - 2.0 / 3.0).abs() < 1e-9);
        let narrow = Scale::up(&[300.0, 700.0]);
        assert!(!narrow.is_logarithmic);
        assert_eq!(narrow.ticks(), [0.0, 200.0, 400.0, 600.0, 800.0]);
    }

    #[test]
    fn a_value_of_zero_keeps_an_axis_linear() {
        assert!(!Scale::up(&[0.0, 1_000.0, 1.0]).is_logarithmic);
    }

    #[test]
    fn curves_go_from_edge_to_edge() {
        let mut growth = Growth::new(Sweep::Connections);
        growth.add("get", spot(1, 100.0, 10.0));
        growth.add("get", spot(100, 1_000.0, 10.0));
        let svg = picture(&growth);
        assert!(svg.contains("points=\"62.0,186.0 286.0,26.0\""), "{svg}");
        assert_eq!(svg.matches("<g ").count(), 3);
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn a_sweep_of_nothing_or_of_one_point_is_a_picture_too() {
        let mut growth = Growth::new(Sweep::Hooks);
        assert!(!picture(&growth).contains("NaN"));
        growth.add("set", spot(0, 0.0, 0.0));
        assert!(!picture(&growth).contains("NaN"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let shown = [0.0, 0.25, 1.5, 1_000.0, 20_000.0, 1e7].map(short);
        assert_eq!(shown, ["0", "0.25", "1.5", "1,000", "20k", "10M"]);
    }
}
