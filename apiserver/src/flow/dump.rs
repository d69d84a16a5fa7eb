//! What flow control is doing, for people: `/debug/api_priority_and_fairness/…`, tables with commas as upstream's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Flow, level::Counts};

/// Of the columns, as Go's tabwriter lays them out.
const WIDTH_MIN: usize = 8;

/// One priority level a row.
pub fn levels(flow: &Flow) -> String {
    const COLUMNS: [&str; 10] = [
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ];
    let schemas = flow.rows();
    let row = |level: &super::Level| {
        let usage = level.usage();
        let of_level = schemas.iter().filter(|row| row.level.name == level.name);
        let sum = |count: fn(&Counts) -> &AtomicU64| -> u64 {
            of_level.clone().map(|row| count(&row.counts).load(Ordering::Relaxed)).sum()
        };
        [
            level.name.clone(),
            level.queues().iter().filter(|queue| queue.waiting > 0).count().to_string(),
            (usage.waiting == 0 && usage.executing == 0).to_string(),
            // A level that is gone is not there any more, whatever still runs.
            false.to_string(),
            usage.waiting.to_string(),
            usage.executing.to_string(),
            sum(|counts| &counts.dispatched).to_string(),
            (sum(|counts| &counts.concurrency_limit) + sum(|counts| &counts.queue_full)).to_string(),
            sum(|counts| &counts.timed_out).to_string(),
            sum(|counts| &counts.cancelled).to_string(),
        ]
    };
    let levels = flow.levels_now();
    table(std::iter::once(COLUMNS.map(str::to_owned)).chain(levels.iter().map(|level| row(level))))
}

/// One queue of a level a row.
pub fn queues(flow: &Flow) -> String {
    const COLUMNS: [&str; 9] = [
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ];
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for level in flow.levels_now() {
        rows.extend(level.queues().into_iter().enumerate().map(|(index, queue)| {
            [
                level.name.clone(),
                index.to_string(),
                queue.waiting.to_string(),
                queue.executing.to_string(),
                queue.seats.to_string(),
                seat_seconds(queue.next_start),
                queue.initial_seats.to_string(),
                queue.max_seats.to_string(),
                seat_seconds(queue.work),
            ]
        }));
    }
    table(rows.into_iter())
}

/// Of seats times nanoseconds.
fn seat_seconds(work: i128) -> String {
    format!("{:.8}ss", work as f64 / 1e9)
}

fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let mut widths = [WIDTH_MIN; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            // A comma and a space follow.
            *width = (*width).max(cell.chars().count() + 2);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| match at + 1 == N {
            true => format!("{cell}\n"),
            false => format!("{:<width$}", format!("{cell},")),
        });
        cells.collect::<String>()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["Name", "N", "Last"], ["leader-election", "0", "1"]];
        let text = table(rows.into_iter().map(|row| row.map(str::to_owned)));
        assert_eq!(text, "Name,            N,      Last\nleader-election, 0,      1\n");
    }

    #[test]
    fn work_is_told_in_seconds() {
        assert_eq!([seat_seconds(0), seat_seconds(3_000_000)], ["0.00000000ss", "0.00300000ss"]);
    }
}
