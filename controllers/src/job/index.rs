//! Completion indexes: which of an Indexed Job's parts are done, written as intervals (`0-3,5`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use crate::runtime::object::annotation;

pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub type Indexes = BTreeSet<i32>;

/// Reads intervals; indexes beyond the completions are left out.
pub fn parse(text: &str, completions: i32) -> Indexes {
    let interval = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
        Some(first..=last.min(completions - 1))
    };
    text.split(',').filter_map(interval).flatten().collect()
}

/// Two indexes in a row are written apart, three and more as an interval.
pub fn text(indexes: &Indexes) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// The index that a pod works on, if it is one of the Job's.
pub fn of(pod: &Pod, completions: i32) -> Option<i32> {
    let index = annotation(&pod.metadata, INDEX)?.parse::<i32>().ok()?;
    (0..completions).contains(&index).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (written, completions, want) in
            [("0-3,5,7,8", 10, "0-3,5,7,8"), ("0-9", 5, "0-4"), ("", 5, ""), ("x,1", 5, "1"), ("1,2,3", 5, "1-3")]
        {
            assert_eq!(text(&parse(written, completions)), want, "{written}");
        }
    }
}
