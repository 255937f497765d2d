//! A chart of bars as SVG: one group a contest, one bar a subject.

use std::fmt::Write as _;

pub(crate) struct Bar {
    pub(crate) group: String,
    pub(crate) label: String,
    pub(crate) us: f64,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Ours,
    Peer,
}

impl Kind {
    fn color(self) -> &'static str {
        match self {
            Self::Bare => "#9aa5b1",
            Self::Ours => "#1f6feb",
            Self::Peer => "#d1862a",
        }
    }
}

const WIDTH: f64 = 860.0;
const LABELS: f64 = 240.0;
const BAR: f64 = 18.0;
const STEP: f64 = 24.0;
const GAP: f64 = 30.0;
const TOP: f64 = 44.0;
/// Behind the longest bar, for its number.
const NUMBERS: f64 = 70.0;

pub(crate) fn draw(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.us).fold(1e-9, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / most;
    let (mut y, mut group, mut body) = (TOP, "", String::new());
    for bar in bars {
        if bar.group != group {
            group = &bar.group;
            y += GAP;
            let _ = writeln!(body, r#"<text x="8" y="{:.1}" font-weight="bold">{}</text>"#, y - 8.0, escape(group));
        }
        let middle = y + BAR - 4.5;
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{middle:.1}" text-anchor="end">{}</text><rect x="{LABELS}" y="{y:.1}" width="{:.1}" height="{BAR}" fill="{}"/><text x="{:.1}" y="{middle:.1}">{:.2}</text>"#,
            LABELS - 8.0,
            escape(&bar.label),
            bar.us * scale,
            bar.kind.color(),
            LABELS + bar.us * scale + 6.0,
            bar.us
        );
        y += STEP;
    }
    let height = y + 12.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n\
         <text x=\"8\" y=\"40\">CPU time a forwarded message, us: median of the rounds</text>\n{body}</svg>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
