//! OpenMetrics text turned into the classic format, which names a counter with its `_total`.
//!
//! promtool and older scrapers read only the latter. Works line by line.

/// The same metrics in the classic format.
pub(super) fn of(open: &str) -> String {
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut classic = String::with_capacity(open.len());
    for line in open.lines().filter(|line| *line != "# EOF") {
        let head = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        let named = head.and_then(|(what, rest)| Some((what, rest.split_once(' ')?)));
        match named {
            Some((what, (name, rest))) if counters.contains(&name) => {
                classic.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                classic.push_str(line);
                classic.push('\n');
            }
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    #[test]
    fn counters_are_declared_by_the_name_of_their_lines() {
        let open = "# HELP a Of a.\n# TYPE a counter\na_total{x=\"# TYPE a counter\"} 1\n# HELP b Of b.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"# TYPE a counter\"} 1\n# HELP b Of b.\n# TYPE b gauge\nb 2\n";
        assert_eq!(super::of(open), classic);
    }
}
