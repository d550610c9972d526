//! JSON changed as a tree: another value, an entry gone, doubled, moved or renamed.

use serde_json::{Map, Value, json};

use crate::{Draws, mutated, replace};

/// Mutates a JSON text; one that is none, and one in four, by its bytes.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut draws = Draws::new(seed);
    let tree = match draws.below(4) {
        0 => None,
        _ => serde_json::from_slice(&data[..size]).ok(),
    };
    let new = tree.map(|it| text(&changed(it, &mut draws)));
    replace(data, size, max_size, new)
}

/// The tree after a few changes.
pub(crate) fn changed(mut tree: Value, draws: &mut Draws) -> Value {
    for _ in 0..1 + draws.below(3) {
        let n_nodes = count(&tree);
        let donor = node(&mut tree, &mut draws.below(n_nodes)).cloned();
        let mut index = draws.below(n_nodes);
        if let (Some(donor), Some(place)) = (donor, node(&mut tree, &mut index)) {
            change(place, donor, draws);
        }
    }
    tree
}

fn change(place: &mut Value, donor: Value, draws: &mut Draws) {
    match (draws.below(4), place) {
        (0, place) => *place = odd(draws),
        (1, place) => *place = donor,
        (_, Value::String(text)) => {
            let new = mutated(text.as_bytes(), text.len() + 32);
            *text = String::from_utf8_lossy(&new).into_owned();
        }
        (2, Value::Array(entries)) if !entries.is_empty() => {
            drop(entries.remove(draws.below(entries.len())));
        }
        (_, Value::Array(entries)) if !entries.is_empty() => {
            let (from, to) = (draws.below(entries.len()), draws.below(entries.len()));
            match draws.below(2) {
                0 => entries.swap(from, to),
                _ => entries.insert(to, entries[from].clone()),
            }
        }
        (_, Value::Object(entries)) if !entries.is_empty() => {
            let key = entries.keys().nth(draws.below(entries.len()));
            let key = key.expect("an index below their number").clone();
            change_entry(entries, key, donor, draws);
        }
        (_, place) => *place = number_near(place, draws),
    }
}

fn change_entry(entries: &mut Map<String, Value>, key: String, donor: Value, draws: &mut Draws) {
    match draws.below(3) {
        0 => drop(entries.shift_remove(&key)),
        1 => {
            let value = entries.shift_remove(&key).unwrap_or_default();
            let new = mutated(key.as_bytes(), key.len() + 16);
            entries.insert(String::from_utf8_lossy(&new).into_owned(), value);
        }
        _ => drop(entries.insert(key, donor)),
    }
}

/// A value that is seldom meant.
fn odd(draws: &mut Draws) -> Value {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(u32::MAX),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}é\u{1f30d}"),
        json!([]),
        json!({}),
        json!([[[[]]]]),
    ];
    values.swap_remove(draws.below(values.len()))
}

/// Of a number its neighbours; of everything else a number.
fn number_near(place: &Value, draws: &mut Draws) -> Value {
    let whole = place.as_i64().unwrap_or_default();
    match draws.below(4) {
        0 => json!(whole.wrapping_add(1)),
        1 => json!(whole.wrapping_sub(1)),
        2 => json!(whole.wrapping_mul(2)),
        _ => json!(place.as_f64().unwrap_or_default() / 3.0),
    }
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(entries) => entries.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The node with that number, parents before children.
fn node<'a>(tree: &'a mut Value, index: &mut usize) -> Option<&'a mut Value> {
    if *index == 0 {
        return Some(tree);
    }
    *index -= 1;
    match tree {
        Value::Array(entries) => entries.iter_mut().find_map(|it| node(it, index)),
        Value::Object(entries) => entries.values_mut().find_map(|it| node(it, index)),
        _ => None,
    }
}

/// JSON with a line for each entry of the outermost object, as evidence has it.
fn text(tree: &Value) -> Vec<u8> {
    let Value::Object(entries) = tree else {
        return tree.to_string().into_bytes();
    };
    let entry = |(key, value): (&String, &Value)| format!("{}: {value}", json!(key));
    let lines: Vec<String> = entries.iter().map(entry).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n")).into_bytes()
}
