// Rows of a sequence are neighbours. A thread or workgroup that stands for a whole sequence is found by its first or last row.

fn sequence_of(row: u32) -> u32 {
    return step.data[step.sequences + row];
}

fn is_first(row: u32) -> bool {
    return (row == 0u) | (sequence_of(row - min(row, 1u)) != sequence_of(row));
}

fn is_last(row: u32) -> bool {
    return row + 1u >= step.tokens || sequence_of(row + 1u) != sequence_of(row);
}

// The place of a row's sequence in the memory of a group of recurrent states.
fn page_of(row: u32, group: u32) -> u32 {
    return step.data[step.data[step.tables + group * step.sequences_count + sequence_of(row)]];
}
