//! The order of rows in a data file: series by series, each by time, so that neighbours are alike and a reader finds a
//! series in one place.

/// Where each row comes to when rows are sorted by series, then time, then arrival; None if they are in that order.
///
/// `series` are the parts of the key: for each row the rank of its name, and how many names there are. A part, or the
/// times, of which all rows hold the same has one element only.
pub fn places(series: &[(&[i32], usize)], times: &[i64], rows: usize) -> Option<Vec<u32>> {
    let mut ranks = vec![0_u64; rows];
    for (codes, count) in series.iter().filter(|(codes, _)| codes.len() == rows) {
        for (rank, code) in ranks.iter_mut().zip(*codes) {
            *rank = *rank * *count as u64 + *code as u64;
        }
    }
    let same_time;
    let times = if times.len() == rows {
        times
    } else {
        same_time = vec![times[0]; rows];
        &same_time
    };
    if (1..rows).all(|row| (ranks[row - 1], times[row - 1]) <= (ranks[row], times[row])) {
        return None;
    }
    let all = series.iter().fold(1_u64, |all, (_, count)| all.saturating_mul(*count as u64));
    // Counting is cheap while the counters are few beside the rows.
    let order = if all > 4 * rows as u64 + 4096 {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|row| (ranks[*row as usize], times[*row as usize]));
        order
    } else {
        counted(&ranks, all as usize, times)
    };
    let mut places = vec![0; rows];
    for (place, row) in order.into_iter().enumerate() {
        places[row as usize] = place as u32;
    }
    Some(places)
}

fn counted(ranks: &[u64], all: usize, times: &[i64]) -> Vec<u32> {
    let mut next = vec![0_u32; all + 1];
    for rank in ranks {
        next[*rank as usize + 1] += 1;
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let ends: Vec<u32> = next[1..].to_vec();
    let mut order = vec![0; ranks.len()];
    for (row, rank) in ranks.iter().enumerate() {
        let place = &mut next[*rank as usize];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    let mut start = 0;
    let mut keyed: Vec<(i64, u32)> = Vec::new();
    for end in ends {
        let one = &mut order[start as usize..end as usize];
        keyed.clear();
        keyed.extend(one.iter().map(|row| (times[*row as usize], *row)));
        if !keyed.is_sorted() {
            sort_nearly_sorted(&mut keyed);
            one.iter_mut().zip(&keyed).for_each(|(row, (_, sorted))| *row = *sorted);
        }
        start = end;
    }
    order
}

/// Readings of a series arrive nearly in order: late by a few places, but for the backlog of a network's outage.
fn sort_nearly_sorted(keyed: &mut [(i64, u32)]) {
    let mut moves_left = 8 * keyed.len();
    for at in 1..keyed.len() {
        let one = keyed[at];
        let mut to = at;
        while to > 0 && keyed[to - 1] > one {
            keyed[to] = keyed[to - 1];
            to -= 1;
        }
        keyed[to] = one;
        moves_left = moves_left.saturating_sub(at - to);
        if moves_left == 0 {
            // Times and row numbers together are distinct, so every sort gives the same order.
            keyed.sort_unstable();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(ranks: &[i32], times: &[i64]) -> Vec<u32> {
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|row| (ranks[*row], times[*row]));
        let mut places = vec![0; times.len()];
        order.into_iter().enumerate().for_each(|(place, row)| places[row] = place as u32);
        places
    }

    #[test]
    fn rows_come_by_series_time_and_arrival() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for (rows, names, spread) in [(0, 1, 1), (1, 1, 1), (300, 3, 2), (500, 7, 1_000), (40, 2_000, 9)] {
            let ranks: Vec<i32> = (0..rows).map(|_| random(names) as i32).collect();
            let times: Vec<i64> = (0..rows).map(|row| row as i64 + random(spread) as i64).collect();
            let expected = by_definition(&ranks, &times);
            let found = places(&[(&[0], 1), (&ranks, names as usize)], &times, rows);
            assert_eq!(found.unwrap_or_else(|| (0..rows as u32).collect()), expected, "{rows} rows of {names}");
        }
        assert_eq!(places(&[(&[0, 0, 1], 2)], &[5, 5, 1], 3), None);
        assert_eq!(places(&[(&[1, 0, 0], 2)], &[5], 3), Some(vec![2, 0, 1]));
    }
}
