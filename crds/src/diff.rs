//! The difference of two texts line by line, as upstream shows it in messages about fields that may not change.

use std::collections::HashMap;

const CONTEXT: usize = 3;

/// A run of lines that is alike (`same`) or was put in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    same: bool,
    a: (usize, usize),
    b: (usize, usize),
}

/// A unified diff without a header for files.
pub fn unified(a: &str, b: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
    let mut out = String::new();
    for group in groups(&runs(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        out.push_str(&format!("@@ -{} +{} @@\n", range(first.a.0, last.a.1), range(first.b.0, last.b.1)));
        for run in group {
            if run.same {
                a[run.a.0..run.a.1].iter().for_each(|line| out.push_str(&format!(" {line}\n")));
                continue;
            }
            a[run.a.0..run.a.1].iter().for_each(|line| out.push_str(&format!("-{line}\n")));
            b[run.b.0..run.b.1].iter().for_each(|line| out.push_str(&format!("+{line}\n")));
        }
    }
    out
}

fn range(start: usize, stop: usize) -> String {
    match stop - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        n => format!("{},{n}", start + 1),
    }
}

/// Changes with their context; a long stretch without any parts two groups.
fn groups(runs: &[Run]) -> Vec<Vec<Run>> {
    let mut runs = runs.to_vec();
    if let Some(first) = runs.first_mut().filter(|r| r.same) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = runs.last_mut().filter(|r| r.same) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let (mut all, mut group) = (Vec::new(), Vec::new());
    for run in runs {
        let mut run = run;
        if run.same && run.a.1 - run.a.0 > 2 * CONTEXT {
            group.push(Run {
                a: (run.a.0, run.a.1.min(run.a.0 + CONTEXT)),
                b: (run.b.0, run.b.1.min(run.b.0 + CONTEXT)),
                ..run
            });
            all.push(std::mem::take(&mut group));
            run.a.0 = run.a.0.max(run.a.1 - CONTEXT);
            run.b.0 = run.b.0.max(run.b.1 - CONTEXT);
        }
        group.push(run);
    }
    if group.len() > 1 || group.iter().any(|run| !run.same) {
        all.push(group);
    }
    all
}

fn runs(a: &[&str], b: &[&str]) -> Vec<Run> {
    let (mut i, mut j, mut runs) = (0, 0, Vec::new());
    for (ai, bj, size) in matches(a, b).into_iter().chain([(a.len(), b.len(), 0)]) {
        if i < ai || j < bj {
            runs.push(Run { same: false, a: (i, ai), b: (j, bj) });
        }
        (i, j) = (ai + size, bj + size);
        if size > 0 {
            runs.push(Run { same: true, a: (ai, i), b: (bj, j) });
        }
    }
    runs
}

/// The longest common stretch, then those before and after it, as Ratcliff and Obershelp find them.
fn matches(a: &[&str], b: &[&str]) -> Vec<(usize, usize, usize)> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= 200 {
        // Lines that come very often are no good to start from.
        let often = b.len() / 100 + 1;
        places.retain(|_, at| at.len() <= often);
    }
    let (mut found, mut todo) = (Vec::new(), vec![(0, a.len(), 0, b.len())]);
    while let Some((alo, ahi, blo, bhi)) = todo.pop() {
        let (i, j, size) = longest(a, b, &places, (alo, ahi), (blo, bhi));
        if size == 0 {
            continue;
        }
        found.push((i, j, size));
        todo.push((alo, i, blo, j));
        todo.push((i + size, ahi, j + size, bhi));
    }
    found.sort_unstable();
    let mut merged: Vec<(usize, usize, usize)> = Vec::new();
    for (i, j, size) in found {
        match merged.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += size,
            _ => merged.push((i, j, size)),
        }
    }
    merged
}

fn longest(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (alo, ahi): (usize, usize),
    (blo, bhi): (usize, usize),
) -> (usize, usize, usize) {
    let (mut i, mut j, mut size) = (alo, blo, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (at, line) in a.iter().enumerate().take(ahi).skip(alo) {
        let mut next = HashMap::new();
        for to in places.get(line).into_iter().flatten().copied().filter(|to| (blo..bhi).contains(to)) {
            let length = to.checked_sub(1).and_then(|before| lengths.get(&before)).unwrap_or(&0) + 1;
            next.insert(to, length);
            if length > size {
                (i, j, size) = (at + 1 - length, to + 1 - length, length);
            }
        }
        lengths = next;
    }
    while i > alo && j > blo && a[i - 1] == b[j - 1] {
        (i, j, size) = (i - 1, j - 1, size + 1);
    }
    while i + size < ahi && j + size < bhi && a[i + size] == b[j + size] {
        size += 1;
    }
    (i, j, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_in_context() {
        let a = "{\n 1\n 2\n 3\n 4\n 5\n}";
        let b = "{\n 1\n 2\n 3\n four\n 5\n}";
        assert_eq!(unified(a, b), "@@ -2,6 +2,6 @@\n  1\n  2\n  3\n- 4\n+ four\n  5\n }\n");
        assert_eq!(unified(a, a), "");
    }

    #[test]
    fn far_changes_are_apart() {
        let line = |i: i32, x: &str| if i == 2 || i == 17 { x.to_owned() } else { i.to_string() };
        let [a, b] = ["a", "b"].map(|x| (0..20).map(|i| line(i, x)).collect::<Vec<_>>().join("\n"));
        assert_eq!(
            unified(&a, &b),
            "@@ -1,6 +1,6 @@\n 0\n 1\n-a\n+b\n 3\n 4\n 5\n@@ -15,6 +15,6 @@\n 14\n 15\n 16\n-a\n+b\n 18\n 19\n"
        );
    }
}
