//! The text that is scraped: families with their samples, in the format of Prometheus.

use std::fmt::{Display, Write};

#[derive(Default)]
pub struct Text(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Text {
    /// Begins a family; its samples follow.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { text: self, name }
    }

    /// What was written elsewhere in the format of OpenMetrics, whose counters are called by less than their samples are,
    /// and whose mark of the end would hide what follows.
    pub fn append(&mut self, text: &str) {
        let text = text.strip_suffix("# EOF\n").unwrap_or(text);
        let counters = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        let counters: Vec<&str> = counters.collect();
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            match [words.next(), words.next(), words.next(), words.next()] {
                [Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)] if counters.contains(&name) => {
                    self.line(format_args!("# {what} {name}_total {rest}"));
                }
                _ => self.line(format_args!("{line}")),
            }
        }
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a text does not fail.
        if writeln!(self.0, "{line}").is_err() {
            tracing::debug!("a metric is left out");
        }
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

pub struct Family<'a> {
    text: &'a mut Text,
    name: &'a str,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// A sample of a part of what the family is made of.
    pub fn part(&mut self, part: &str, labels: &[(&str, &str)], value: impl Display) {
        let name = format!("{}{part}", self.name);
        if labels.is_empty() {
            return self.text.line(format_args!("{name} {value}"));
        }
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        self.text.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples_are() {
        let mut text = Text::default();
        text.append("# HELP a How many.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n");
        let want = "# HELP a_total How many.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        assert_eq!(text.into_string(), want);
    }

    #[test]
    fn a_family() {
        let mut text = Text::default();
        let mut family = text.family("a_total", Kind::Counter, "How many.");
        family.sample(&[("x", "say \"a\""), ("y", "b")], 1.5);
        family.sample(&[], 2);
        let want =
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"say \\\"a\\\"\",y=\"b\"} 1.5\na_total 2\n";
        assert_eq!(text.into_string(), want);
    }
}
